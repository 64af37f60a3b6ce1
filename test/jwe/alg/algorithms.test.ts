// What a key says of its own use (RFC 7517, sections 4.2 to 4.4), wrapping: rule 9 of src/jwe/README.md. Which annotations
// such keys open is in test/vectors/key-usage.json.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { assertForeign, assertOpens, keys, storeOf } from "../../support/attacks.ts";
import { assertFailure, run, runHere, succeed, throughBinary } from "../../support/program.ts";
import { OPTSDATA, unwrap, unwrapRequest, wrap, wrapRequest } from "../../support/requests.ts";
import { forge, newKey, type Header, type PlainJwk } from "../../support/second-jwe.ts";

runHere();
const algOf = (annotation: Buffer): string =>
  (JSON.parse(annotation.toString()) as { recipients: { header: { alg: string } }[] }).recipients[0]?.header.alg ?? "";

/** What the program wraps for the one key of a store. */
function wrapHere(dir: string): Buffer {
  const { keywrapresults } = JSON.parse(succeed(["--keystore", dir], { input: wrapRequest(["key"]) })) as {
    keywrapresults: { annotation: string };
  };
  return Buffer.from(keywrapresults.annotation, "base64");
}

/** The alg of what the program wraps for a key that says this of itself. */
function wraps(own: Header, jwk: PlainJwk): string {
  const dir = storeOf({ key: { ...jwk, ...own } });
  const annotation = wrapHere(dir);
  const { keyunwrapresults } = JSON.parse(succeed(["--keystore", dir], { input: unwrapRequest(annotation) })) as {
    keyunwrapresults: { optsdata: string };
  };
  assert.is(Buffer.from(keyunwrapresults.optsdata, "base64").toString(), OPTSDATA);
  return algOf(annotation);
}
const wrapsNot = (own: Header, jwk: PlainJwk, reason: string, start = run): void => {
  const line = assertFailure(
    start(["--keystore", storeOf({ key: { ...jwk, ...own } })], { input: wrapRequest(["key"]), timeout: 5000 }),
    1,
  );
  assert.match(line, /key [\w-]+ cannot encrypt: /);
  assert.match(line, reason);
};

test("wraps by the natural algorithm of a key that names none, and opens every one of its type", () => {
  assert.equal(
    [keys.p256, keys.p384, keys.p521, keys.rsa, keys.a128, keys.a192, keys.a256].map((jwk) => wraps({}, jwk)),
    ["ECDH-ES+A256KW", "ECDH-ES+A256KW", "ECDH-ES+A256KW", "RSA-OAEP-256", "A128KW", "A192KW", "A256KW"],
  );
});

test("wraps by a key's own alg", () => {
  for (const [alg, jwk] of [
    ["RSA-OAEP", keys.rsa],
    ["RSA-OAEP-256", keys.rsa],
    ["ECDH-ES+A128KW", keys.p384],
    ["A256KW", keys.a256],
  ] as const) {
    assert.is(wraps({ alg }, jwk), alg);
  }
  const dir = storeOf({ key: { ...keys.rsa, alg: "RSA-OAEP" } });
  throughBinary(() => {
    const annotation = wrap(dir, ["key"]);
    assert.is(algOf(annotation), "RSA-OAEP");
    assert.is(unwrap(dir, annotation), OPTSDATA);
  });
});

test("wraps for no key whose own alg is for something else", () => {
  for (const [alg, jwk] of [
    ["RSA1_5", keys.rsa],
    ["RS256", keys.rsa],
    ["A256KW", keys.rsa],
    ["ES256", keys.p256],
    ["ECDH-ES", keys.p256],
    ["RSA-OAEP", keys.p256],
    ["dir", keys.a256],
    ["A256GCMKW", keys.a256],
    ["HS256", keys.a256],
    ["", keys.a256],
    ["__proto__", keys.a256],
  ] as const) {
    wrapsNot({ alg }, jwk, '"alg" is not one that this provider uses with such a key');
  }
  wrapsNot({ alg: "A128KW" }, keys.a256, '"alg" does not match its size', (args, options) =>
    throughBinary(() => run(args, options)),
  );
});

test("wraps for no key that is for signatures", () => {
  for (const jwk of [keys.p256, keys.rsa, keys.a256]) {
    wraps({ use: "enc" }, jwk);
    for (const use of ["sig", "", "ENC"]) wrapsNot({ use }, jwk, '"use" is not "enc"');
  }
});

for (const [kind, jwk, both, onlyWrap, onlyUnwrap] of [
  [
    "an EC key",
    keys.p256,
    [["deriveKey"], ["deriveBits"], ["sign", "deriveBits"], ["wrapKey"], ["unwrapKey"], ["wrapKey", "unwrapKey"]],
    [],
    [],
  ],
  [
    "an RSA key",
    keys.rsa,
    [
      ["wrapKey", "unwrapKey"],
      ["encrypt", "decrypt"],
      ["sign", "encrypt", "unwrapKey"],
    ],
    [["wrapKey"], ["encrypt"]],
    [["unwrapKey"], ["decrypt"]],
  ],
  [
    "a symmetric key",
    keys.a256,
    [
      ["wrapKey", "unwrapKey"],
      ["encrypt", "decrypt"],
    ],
    [["wrapKey"], ["encrypt"]],
    [["unwrapKey"], ["decrypt"]],
  ],
] as const) {
  test(`keeps to the key_ops of ${kind}, wrapping (RFC 7517, section 4.3)`, () => {
    for (const key_ops of both) wraps({ key_ops }, jwk);
    for (const key_ops of [[], ["sign"], ["sign", "verify"], ["unwrapkey"], ["__proto__"], ...onlyUnwrap]) {
      wrapsNot({ key_ops }, jwk, '"key_ops" do not allow to wrap');
    }
    for (const key_ops of onlyWrap) assert.type(algOf(wrapHere(storeOf({ key: { ...jwk, key_ops } }))), "string");
  });
}

test("passes over a key that may not and opens with one that may", () => {
  const dir = storeOf({ sig: { ...keys.p256, use: "sig" }, enc: keys.p521 });
  assertOpens(forge([{ jwk: keys.p256 }, { jwk: keys.p521 }]), dir);
  assertForeign(forge([{ jwk: keys.p256 }, { jwk: newKey("P-521") }]), dir);
});

test.run();
