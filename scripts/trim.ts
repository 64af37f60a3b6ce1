// Leaves out of the bundle the parts of node-jose that are not used: cryptography in pure JavaScript, for which we use
// node:crypto.

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

// Reading a property gives the same proxy, so that constants can be read at load. Calling it is a defect and throws.
const UNAVAILABLE = `
const unavailable = new Proxy(function () {}, {
  get: (target, name) => (name === "prototype" ? target.prototype : unavailable),
  apply() { throw new Error("left out of the bundle"); },
  construct() { throw new Error("left out of the bundle"); },
});
module.exports = unavailable;
`;

const resolveHere = createRequire(import.meta.url).resolve;

/** The entry of {@link LEFT_OUT} that a path belongs to. */
function leftOut(path: string): string | undefined {
  return LEFT_OUT.find((entry) =>
    entry.endsWith("/") ? path.includes(`/node_modules/${entry}`) : path.endsWith(`/node_modules/${entry}`),
  );
}

const missing = new Set(LEFT_OUT); // entries that no bundle had so far

/** Replaces modules that are never used by one that throws when it is called, and lodash by es-toolkit. */
export const trim: Plugin = {
  name: "trim",
  setup(build) {
    build.onResolve({ filter: /^lodash\// }, ({ path }) => ({
      path: resolveHere(path.replace("lodash/", "es-toolkit/compat/")),
    }));
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
