// AES Key Wrap with a symmetric key: the alg is that of the key's size, and no other.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { aesKw } from "../../../src/jwe/alg/aes-kw.ts";
import { checkJwk } from "../../../src/jwk/jwk.ts";
import type { OctPrivateJwk } from "../../../src/jwk/oct.ts";

const CEK = Buffer.alloc(32, 7);
const newKey = (bytes: number): OctPrivateJwk => {
  const k = Buffer.alloc(bytes, 1).toString("base64url");
  return checkJwk({ kty: "oct", k }, (reason) => new Error(reason)) as OctPrivateJwk;
};

for (const [alg, bytes] of [
  ["A128KW", 16],
  ["A192KW", 24],
  ["A256KW", 32],
] as const) {
  test(`${alg} is for keys of ${bytes} bytes (RFC 7518, section 4.4)`, () => {
    const jwk = newKey(bytes);
    assert.is(aesKw.natural(jwk), alg);
    const { encryptedKey } = aesKw.seal(alg, jwk, CEK);
    const ask = aesKw.read(alg, { alg }, encryptedKey, CEK.length);
    assert.ok(ask);
    assert.equal(aesKw.perform(jwk, ask), CEK);
    for (const size of [16, 24, 32]) assert.is(aesKw.fits(newKey(size), ask), size === bytes, `${size}`);
  });
}

test("reads no wrapped key of another length than its CEK's and 8 bytes", () => {
  for (const length of [0, 39, 41, 32]) {
    assert.is(aesKw.read("A256KW", { alg: "A256KW" }, Buffer.alloc(length), CEK.length), undefined);
  }
});

test("wraps for nobody without the secret", () => {
  const { k: _k, ...jwk } = newKey(32);
  assert.is(aesKw.natural(jwk), undefined);
  assert.throws(() => aesKw.seal("A256KW", jwk, CEK), /without its k/);
});

test.run();
