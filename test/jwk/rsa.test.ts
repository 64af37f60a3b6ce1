// RSA keys: each fault of a modulus, an exponent or a prime is told.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { checkJwk, thumbprint } from "../../src/jwk/jwk.ts";
import type { RsaJwk } from "../../src/jwk/rsa.ts";
import { assertOpens, keys } from "../support/attacks.ts";
import { big, encode, refuses, sealed, storeWith } from "../support/key-files.ts";
import { newKey } from "../support/second-jwe.ts";

const fail = (reason: string): Error => new Error(reason);
const { rsa } = keys;
const otherRsa = newKey("RSA-2048");
const [n, e, d, p, q] = [big(rsa["n"]), big(rsa["e"]), big(rsa["d"]), big(rsa["p"]), big(rsa["q"])];
const gcd = (a: bigint, b: bigint): bigint => (b === 0n ? a : gcd(b, a % b));
const lambda = ((p - 1n) * (q - 1n)) / gcd(p - 1n, q - 1n); // RFC 8017, section 3.2: e·d ≡ 1 (mod λ(n))

refuses([
  ["another RSA key's n", rsa, { n: otherRsa["n"] }, /p and q that do not make its n/],
  ["an even n", rsa, { n: encode(n + 1n) }, /an even n/],
  ["an n with a leading zero", rsa, { n: encode(n, 257) }, /n with a leading zero/],
  ["e 1", rsa, { e: encode(1n) }, /e that is even, below 3/],
  ["an even e", rsa, { e: encode(65_538n) }, /e that is even/],
  ["an empty e", rsa, { e: "" }, /e with a leading zero/],
  ["an e beyond 64 bits", rsa, { e: encode(2n ** 64n + 1n) }, /e that is even, below 3 or too large/],
  ["another e", rsa, { e: encode(3n) }, /d that does not match its e/],
  ["another RSA key's d", rsa, { d: otherRsa["d"] }, /d that does not match its e/],
  ["a d that is wrong for q only", rsa, { d: encode(d + (p - 1n)) }, /d that does not match its e/],
  ["a d that is right and not below n", rsa, { d: encode(d + 4n * (p - 1n) * (q - 1n)) }, /a d that /],
  ["another RSA key's p", rsa, { p: otherRsa["p"] }, /p and q that do not make its n/],
  ["p 1 and q n", rsa, { p: encode(1n), q: encode(n) }, /p and q that do not make its n/],
  ["p and q the other way round", rsa, { p: rsa["q"], q: rsa["p"] }, /dp, dq or qi that does not match/],
  ["a wrong dp", rsa, { dp: encode(big(rsa["dp"]) + 2n) }, /dp, dq or qi that does not match/],
  ["a wrong dq", rsa, { dq: encode(big(rsa["dq"]) + 2n) }, /dp, dq or qi that does not match/],
  ["a wrong qi", rsa, { qi: encode(big(rsa["qi"]) + 1n) }, /dp, dq or qi that does not match/],
  ["a qi that is not reduced", rsa, { qi: encode(big(rsa["qi"]) + p) }, /dp, dq or qi that does not match/],
  ["no q", rsa, { q: undefined }, /no q in canonical base64url/],
  ["a third prime", rsa, { oth: [{ r: "Aw", d: "Aw", t: "Aw" }] }, /more than two primes/],
  [
    "only a public RSA key",
    rsa,
    { d: undefined, p: undefined, q: undefined, dp: undefined, dq: undefined, qi: undefined },
    /no private part/,
  ],
  ["an RSA key of 1024 bits", rsa, newKey("RSA-1024"), /an RSA key of 1024 bits/],
  ["an RSA key of 2047 bits", rsa, { n: encode(2n ** 2046n + 1n) }, /an RSA key of 2047 bits/],
  ["an RSA key of more than 8192 bits", rsa, { n: encode(2n ** 8192n + 1n) }, /member n that is too long/],
]);

test("takes every RSA d below n (RFC 8017, section 3.2)", () => {
  for (const same of [d % lambda, (d % lambda) + lambda]) {
    assert.ok(same < n && (same * e) % lambda === 1n);
    assertOpens(sealed.get(rsa) ?? "", storeWith(rsa, JSON.stringify({ ...rsa, d: encode(same) })).dir);
  }
});

test("computes the thumbprint of RFC 7638, section 3.1", () => {
  const jwk = checkJwk(
    {
      kty: "RSA",
      n: "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
      e: "AQAB",
      alg: "RS256",
      kid: "2011-04-29",
    },
    fail,
  ) as RsaJwk;
  assert.is(thumbprint(jwk), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
});

test.run();
