// EC keys: each fault of a point or a d is told.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { checkJwk, isPrivate, thumbprint } from "../../src/jwk/jwk.ts";
import { keys } from "../support/attacks.ts";
import { big, changed, encode, refuses } from "../support/key-files.ts";
import { b64u, newKey, thumbprintOf } from "../support/second-jwe.ts";

const fail = (reason: string): Error => new Error(reason);
const { p256, p384, p521 } = keys;
const ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n; // of P-256

refuses([
  ["another key's d", p256, { d: newKey("P-256")["d"] }, /d that does not match its point/],
  ["another key's d on P-384", p384, { d: newKey("P-384")["d"] }, /d that does not match its point/],
  ["another key's d on P-521", p521, { d: newKey("P-521")["d"] }, /d that does not match its point/],
  [
    "the negated d, whose point is the mirrored one",
    p256,
    { d: encode(ORDER - big(p256["d"]), 32) },
    /d that does not match its point/,
  ],
  ["d 0", p256, { d: encode(0n, 32) }, /d out of range/],
  ["d of the curve's order", p256, { d: encode(ORDER, 32) }, /d out of range/],
  ["d above the order", p256, { d: encode(2n ** 256n - 1n, 32) }, /d out of range/],
  ["a d too short", p256, { d: b64u(Buffer.alloc(31, 1)) }, /d of the wrong length for P-256/],
  ["a d too long", p256, { d: encode(big(p256["d"]), 33) }, /d of the wrong length for P-256/],
  ["a point off the curve", p256, { y: changed(p256["y"]) }, /d that does not match its point/],
  ["a point off the curve and no d", p256, { y: changed(p256["y"]), d: undefined }, /a point that is not on its curve/],
  [
    "the point at zero",
    p256,
    { x: encode(0n, 32), y: encode(0n, 32), d: undefined },
    /a point that is not on its curve/,
  ],
  ["another point of its curve", p256, { ...newKey("P-256"), d: p256["d"] }, /d that does not match its point/],
  ["a coordinate too long", p256, { x: encode(big(p256["x"]), 33) }, /x of the wrong length for P-256/],
  ["coordinates of 137 bytes", p521, { x: b64u(Buffer.alloc(137, 1)) }, /x of the wrong length for P-521/],
  ["a curve that is not its own", p256, { crv: "P-384" }, /x of the wrong length for P-384/],
  ["a curve that nobody here knows", p256, { crv: "secp256k1" }, /crv other than/],
  ["a prototype's name for its curve", p256, { crv: "__proto__" }, /crv other than/],
  ["no x", p256, { x: undefined }, /no x in canonical base64url/],
  ["no d", p256, { d: undefined }, /no private part/],
]);

test("computes the thumbprint of an EC key over crv, kty, x and y only (RFC 7638, section 3.2)", () => {
  for (const jwk of [p256, p384, p521]) {
    const key = checkJwk({ ...jwk, use: "enc", kid: "x" }, fail);
    assert.is(key.kty === "EC" && thumbprint(key), thumbprintOf(jwk));
  }
});

test("takes every key that node:crypto makes, 200 of each curve", () => {
  for (const crv of ["P-256", "P-384", "P-521"]) {
    for (let round = 0; round < 200; round++) assert.ok(isPrivate(checkJwk(newKey(crv), fail)));
  }
});

test.run();
