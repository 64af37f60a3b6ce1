// Keys from JWK to PEM and back: what is read again is what was written.

import { createECDH } from "node:crypto";
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { CURVES, type Curve, type EcPrivateJwk } from "../../src/jwk/ec.ts";
import { generateJwk, publicJwk, toPrivateKey, toPublicKey, type Jwk } from "../../src/jwk/jwk.ts";
import type { RsaPrivateJwk } from "../../src/jwk/rsa.ts";
import { parseKey } from "../../src/keys/import.ts";
import { endurance } from "../support/parts.ts";

const noPassphrase = (): Promise<Buffer> => Promise.reject(new Error("nobody asked for one"));
const parse = async (content: string): Promise<Jwk> => await parseKey(Buffer.from(content), noPassphrase);

function ecKey(crv: Curve, d: bigint): EcPrivateJwk {
  const { openssl, bytes } = CURVES[crv];
  const ecdh = createECDH(openssl);
  const scalar = Buffer.from(d.toString(16).padStart(bytes * 2, "0"), "hex");
  ecdh.setPrivateKey(scalar);
  const both = ecdh.getPublicKey();
  const text = (from: number): string => both.subarray(from, from + bytes).toString("base64url");
  return { kty: "EC", crv, x: text(1), y: text(1 + bytes), d: scalar.toString("base64url") };
}

async function assertRoundTrip(jwk: EcPrivateJwk | RsaPrivateJwk): Promise<void> {
  const half = publicJwk(jwk);
  assert.equal(await parse(String(toPrivateKey(jwk).export({ type: "pkcs8", format: "pem" }))), jwk);
  assert.equal(await parse(String(toPublicKey(jwk).export({ type: "spki", format: "pem" }))), half);
  assert.equal(await parse(JSON.stringify(jwk)), jwk);
  assert.equal(await parse(JSON.stringify(half)), half);
}

test("EC keys are the same after JWK, PEM and JWK, whatever zeros they begin with", async () => {
  const small = fc.bigInt({ min: 1n, max: 70_000n });
  const large = fc.bigInt({ min: 1n, max: 2n ** 255n });
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...(Object.keys(CURVES) as Curve[])),
      fc.oneof(small, large),
      async (crv, d) => await assertRoundTrip(ecKey(crv, d)),
    ),
    { numRuns: endurance(10_000), includeErrorInReport: true },
  );
});

for (const bits of [2048, 2056, 3072]) {
  test(`RSA keys are the same after JWK, PEM and JWK: ${bits} bits`, async () => {
    const jwk = generateJwk({ type: "rsa", bits });
    if (jwk.kty !== "RSA") throw new Error("not RSA");
    const { kid: _kid, ...key } = jwk;
    await assertRoundTrip(key);
  });
}

test.run();
