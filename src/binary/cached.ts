// Evaluates a bundle that lies in the binary as an asset beside the code cache that warm.ts made of it.

import { getRawAsset } from "node:sea";
import { Script } from "node:vm";

/** A bundle takes what it needs of the loader: `require`, or a module to fill. */
type Bundle = (...given: readonly unknown[]) => void;

/** The value of the bundle's one expression, a function. */
export function evaluate(asset: string): Bundle {
  const source = Buffer.from(getRawAsset(asset));
  const cachedData = Buffer.from(getRawAsset(`${asset}.cache`));
  const script = new Script(source.toString("latin1"), { cachedData, filename: "ocicrypt-keystore" });
  if (script.cachedDataRejected === true) process.emitWarning("code cache rejected: this start is slow"); // a test watches for it
  const bundle: Bundle = script.runInThisContext();
  return bundle;
}
