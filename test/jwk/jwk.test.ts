// JSON Web Keys: what every type of key has in common.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { point } from "../../src/jwk/ec.ts";
import { bytesOf, checkJwk, isPrivate, publicJwk, toPrivateKey, toPublicKey } from "../../src/jwk/jwk.ts";
import { assertOpens, keys } from "../support/attacks.ts";
import { refuses, sealed, storeWith } from "../support/key-files.ts";
import { newKey } from "../support/second-jwe.ts";

const fail = (reason: string): Error => new Error(reason);
const { p256, rsa, a256 } = keys;
const otherRsa = newKey("RSA-2048");

test("opens with every key as it is, and with members that nobody knows", () => {
  for (const [jwk, jwe] of sealed) {
    assertOpens(jwe, storeWith(jwk, JSON.stringify(jwk)).dir);
    assertOpens(
      jwe,
      storeWith(
        jwk,
        `\n ${JSON.stringify({ ...jwk, ext: true, x5c: ["AA"], created: "2024-01-01T00:00:00Z" }, null, 2)} \n`,
      ).dir,
    );
  }
});

refuses([
  ["a kid that is not the file's", a256, { kid: "another" }, /another key than its file name says/],
  ["another key of its type", p256, newKey("P-256"), /another key than its file name says/],
  ["another key of another type", p256, rsa, /another key than its file name says/],
  ["another RSA key", rsa, otherRsa, /another key than its file name says/],
  ["no kty", p256, { kty: undefined }, /kty other than/],
  ["kty OKP", p256, { kty: "OKP" }, /kty other than/],
  ["a number for kid", p256, { kid: 1 }, /kid that is not a short string/],
  ["a use too long", p256, { use: "x".repeat(257) }, /use that is not a short string/],
  ["a list for alg", p256, { alg: ["ECDH-ES"] }, /alg that is not a short string/],
  ["text for key_ops", p256, { key_ops: "deriveKey" }, /key_ops that are not a list of strings/],
  ["numbers for key_ops", p256, { key_ops: [1] }, /key_ops that are not a list of strings/],
  [
    "too many key_ops",
    p256,
    { key_ops: Array.from({ length: 17 }, () => "deriveKey") },
    /key_ops that are not a list of strings/,
  ],
]);

test("the public half holds no member that is secret, and keeps what says how to use the key", () => {
  const common = { kid: "k", use: "enc", key_ops: ["deriveKey"], alg: "x", created: "2024-01-01T00:00:00Z" };
  for (const jwk of Object.values(keys)) {
    const key = checkJwk({ ...jwk, ...common, secret: "s" }, fail);
    const half = publicJwk(key);
    assert.ok(isPrivate(key));
    assert.not.ok(isPrivate(half));
    const shown: Record<string, readonly string[]> = {
      EC: ["kty", "crv", "x", "y"],
      RSA: ["kty", "n", "e"],
      oct: ["kty"],
    };
    assert.equal(
      { ...half },
      { ...Object.fromEntries((shown[key.kty] ?? []).map((name) => [name, jwk[name]])), ...common },
    );
    assert.equal(checkJwk(half, fail), half);
    if (key.kty === "oct") continue;
    assert.equal(
      toPublicKey(key).export({ format: "jwk" }),
      toPublicKey(publicJwk(key) as typeof key).export({ format: "jwk" }),
    );
    assert.equal({ ...toPrivateKey(key).export({ format: "jwk" }) }, jwk);
    if (key.kty === "EC") assert.equal(point(key), Buffer.concat([Buffer.of(4), bytesOf(key.x), bytesOf(key.y)]));
  }
});

test.run();
