// What node-jose brings along and the bundle leaves out: pure JavaScript cryptography that node:crypto does for us.

import { createRequire } from "node:module";
import type { Plugin } from "esbuild";

// Key types and algorithms that engine.ts never asks node-jose for, and the fallbacks for machines without node:crypto.
// Files, or folders with a slash at the end, below node_modules.
const LEFT_OUT = [
  "node-jose/lib/deps/", // forge (half of the start-up time), big-integer curves, a GCM of its own
  ...["eckey", "rsakey"].map((name) => `node-jose/lib/jwk/${name}.js`),
  ...["aes-kw", "concat", "dir", "ecdh", "ecdsa", "hkdf", "pbes2", "rsaes", "rsassa"].map(algorithm),
  algorithm("sha"), // for thumbprints, and encs the gate refuses
  ...["databuffer", "utf8"].map((name) => `node-jose/lib/util/${name}.js`),
  "uuid/",
  "pako/", // zip is refused by the gate
  "es6-promise/",
  "long/", // of protobufjs: no 64-bit numbers are read
];

function algorithm(name: string): string {
  return `node-jose/lib/algorithms/${name}.js`;
}

// Reading a property gives the same again, so that constants can be read at load; calling it is a defect and throws.
const UNAVAILABLE = `
const unavailable = new Proxy(function () {}, {
  get: (target, name) => (name === "prototype" ? target.prototype : unavailable),
  apply() { throw new Error("left out of the bundle"); },
  construct() { throw new Error("left out of the bundle"); },
});
module.exports = unavailable;
`;

const resolveHere = createRequire(import.meta.url).resolve;

/** The entry of {@link LEFT_OUT} that a path is of. */
function leftOut(path: string): string | undefined {
  return LEFT_OUT.find((entry) => (entry.endsWith("/") ? path.includes(`/node_modules/${entry}`) : path.endsWith(`/node_modules/${entry}`)));
}

const missing = new Set(LEFT_OUT); // entries that no bundle had so far

/** Replaces what is never used by something that throws when it is, and lodash by its native equivalents. */
export const trim: Plugin = {
  name: "trim",
  setup(build) {
    build.onResolve({ filter: /^lodash\// }, ({ path }) => ({ path: resolveHere(path.replace("lodash/", "es-toolkit/compat/")) }));
    build.onLoad({ filter: /\.js$/ }, ({ path }) => {
      const entry = leftOut(path);
      if (entry === undefined) return undefined;
      missing.delete(entry);
      return { contents: UNAVAILABLE, loader: "js" };
    });
  },
};

/**
 * To be called after all bundles: a package that moved its files would come back into the binary unseen.
 *
 * @throws Error that names the entries of the list that were in no bundle
 */
export function assertTrimmed(): void {
  if (missing.size > 0) throw new Error(`scripts/trim.ts leaves out what is in no bundle: ${[...missing].join(", ")}`);
}
