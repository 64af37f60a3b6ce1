// A private key in memory: it does what its family of algorithms does, and gives no more away.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { familyFor } from "../../src/jwe/alg/algorithms.ts";
import { generateJwk, publicJwk } from "../../src/jwk/jwk.ts";
import { memoryKey } from "../../src/keys/memory.ts";

const CEK = Buffer.alloc(32, 7);

for (const type of ["ec", "rsa", "oct"] as const) {
  test(`opens what was wrapped for it: ${type}`, async () => {
    const jwk = generateJwk({ type });
    const family = familyFor(jwk);
    const alg = family.natural(jwk) ?? "";
    const { parameters, encryptedKey } = family.seal(alg, type === "oct" ? jwk : publicJwk(jwk), CEK);
    const ask = family.read(alg, { alg, ...parameters }, encryptedKey, CEK.length);
    assert.ok(ask);
    const key = memoryKey("kid", jwk);
    assert.is(key.kid, "kid");
    assert.is(key.holder, undefined);
    assert.equal(family.cek(await key.perform(ask), ask), CEK);
  });
}

test.run();
