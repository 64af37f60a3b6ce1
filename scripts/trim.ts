// What node-jose brings along and the bundle leaves out: pure JavaScript cryptography that node:crypto does for us.

import { createRequire } from "node:module";
import type { Plugin } from "esbuild";

// Key types and algorithms that engine.ts never asks node-jose for, and the fallbacks for machines without node:crypto.
const LEFT_OUT = [
  /\/node-jose\/lib\/deps\//, // forge (half of the start-up time), big-integer curves, a GCM of its own
  /\/node-jose\/lib\/jwk\/(eckey|rsakey)\.js$/,
  /\/node-jose\/lib\/algorithms\/(aes-kw|concat|dir|ecdh|ecdsa|hkdf|pbes2|rsaes|rsassa|sha)\.js$/, // sha: for thumbprints, and encs the gate refuses
  /\/node-jose\/lib\/util\/(databuffer|utf8)\.js$/,
  /\/node_modules\/(uuid|pako|es6-promise|long)\//, // pako: zip is refused by the gate
];

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

/** Replaces what is never used by something that throws when it is, and lodash by its native equivalents. */
export const trim: Plugin = {
  name: "trim",
  setup(build) {
    build.onResolve({ filter: /^lodash\// }, ({ path }) => ({ path: resolveHere(path.replace("lodash/", "es-toolkit/compat/")) }));
    build.onLoad({ filter: /\.js$/ }, ({ path }) => (LEFT_OUT.some((pattern) => pattern.test(path)) ? { contents: UNAVAILABLE, loader: "js" } : undefined));
  },
};
