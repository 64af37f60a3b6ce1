// Evaluates a bundle that lies in the binary as an asset beside the code cache that warm.ts made of it.

import { getRawAsset } from "node:sea";
import { Script } from "node:vm";

/** The value of the bundle's one expression. */
export function evaluate(asset: string): unknown {
  const [source, cachedData] = [getRawAsset(asset), getRawAsset(`${asset}.cache`)].map((bytes) => Buffer.from(bytes)) as [Buffer, Buffer];
  const script = new Script(source.toString("latin1"), { cachedData, filename: "ocicrypt-keystore" });
  if (script.cachedDataRejected === true) process.emitWarning("code cache rejected: this start is slow"); // a test watches for it
  return script.runInThisContext();
}
