// Evaluates a bundle, which is an asset of the binary, with the code cache that warm.ts made of it, another asset.

import { getRawAsset } from "node:sea";
import { Script } from "node:vm";

/** A bundle is a function. Its arguments are what it needs of the loader: `require`, or a module to fill. */
type Bundle = (...needed: readonly unknown[]) => void;

/** The value of the bundle's only expression, a function. */
export function evaluate(asset: string): Bundle {
  const source = Buffer.from(getRawAsset(asset));
  const cachedData = Buffer.from(getRawAsset(`${asset}.cache`));
  const script = new Script(source.toString("latin1"), { cachedData, filename: "ocicrypt-keystore" });
  // A test checks that this warning does not appear.
  if (script.cachedDataRejected === true) process.emitWarning("code cache rejected: this start is slow");
  const bundle: Bundle = script.runInThisContext();
  return bundle;
}
