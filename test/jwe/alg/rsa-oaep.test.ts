// RSA-OAEP: each alg with its own hash, and a key of the right size.

import { constants, privateDecrypt } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { rsaOaep } from "../../../src/jwe/alg/rsa-oaep.ts";
import { generateJwk, publicJwk, toPrivateKey } from "../../../src/jwk/jwk.ts";

const CEK = Buffer.alloc(32, 7);
const jwk = generateJwk({ type: "rsa", bits: 2048 });
if (jwk.kty !== "RSA") throw new Error("not an RSA key");

for (const [alg, oaepHash] of [
  ["RSA-OAEP", "sha1"],
  ["RSA-OAEP-256", "sha256"],
] as const) {
  test(`${alg} uses ${oaepHash} (RFC 7518, section 4.3)`, () => {
    const { parameters, encryptedKey } = rsaOaep.seal(alg, jwk, CEK);
    assert.equal(parameters, {});
    const padding = constants.RSA_PKCS1_OAEP_PADDING;
    assert.equal(privateDecrypt({ key: toPrivateKey(jwk), padding, oaepHash }, encryptedKey), CEK);
    assert.equal(rsaOaep.perform(jwk, { alg, encryptedKey }), CEK);
    for (const other of rsaOaep.algs.filter((one) => one !== alg)) {
      assert.throws(() => rsaOaep.perform(jwk, { alg: other, encryptedKey }));
    }
  });
}

test("fits a key whose modulus is as long as what was encrypted", () => {
  const encryptedKey = rsaOaep.seal("RSA-OAEP-256", jwk, CEK).encryptedKey;
  assert.ok(rsaOaep.fits(jwk, { alg: "RSA-OAEP-256", encryptedKey }));
  assert.not.ok(rsaOaep.fits(jwk, { alg: "RSA-OAEP-256", encryptedKey: encryptedKey.subarray(1) }));
  assert.not.ok(rsaOaep.serves(publicJwk(generateJwk({ type: "ec" }))));
});

test.run();
