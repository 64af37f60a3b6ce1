// Which algorithms open, which are skipped, and what a key says of its own use (RFC 7517, sections 4.2 to 4.4).

import { test } from "uvu";
import * as assert from "uvu/assert";
import { assertFailure, OPTSDATA, run, unwrap, wrap, wrapRequest } from "../support.ts";
import { assertForeign, assertOpens, assertSkipped, each, keys, store, storeOf } from "./attack.ts";
import { compact, ENCS, flattened, forge, newKey, type Header, type PlainJwk, type To } from "./forge.ts";

const ALGORITHMS: readonly (readonly [alg: string, jwk: PlainJwk])[] = [
  ["RSA-OAEP", keys.rsa],
  ["RSA-OAEP-256", keys.rsa],
  ...["ECDH-ES+A128KW", "ECDH-ES+A192KW", "ECDH-ES+A256KW"].flatMap((alg) => [keys.p256, keys.p384, keys.p521].map((jwk) => [alg, jwk] as const)),
  ["A128KW", keys.a128],
  ["A192KW", keys.a192],
  ["A256KW", keys.a256],
];

// Rules 6 and 7

for (const [alg, jwk] of ALGORITHMS) {
  test(`opens ${alg}${jwk["crv"] === undefined ? "" : ` on ${jwk["crv"]}`} in every form, its parameters in any header (RFC 7518, section 4)`, () => {
    for (const place of ["protected", "unprotected", "header"] as const) assertOpens(forge([{ jwk, alg }], { place }));
    assertOpens(flattened(forge([{ jwk, alg }])));
    assertOpens(compact(forge([{ jwk, alg }], { place: "protected" })));
  });
}

for (const enc of Object.keys(ENCS)) {
  test(`opens ${enc} with every type of key (RFC 7518, section 5)`, () => {
    for (const jwk of [keys.p256, keys.p521, keys.rsa, keys.a128, keys.a256]) {
      assertOpens(forge([{ jwk }], { enc }));
      assertOpens(forge([{ jwk }], { enc, aad: "aad", plaintext: "x" }), store, "x");
    }
  });
}

each<[to: To]>(
  [
    ["RSA1_5", { jwk: keys.rsa, alg: "RSA1_5" }],
    ["dir", { jwk: keys.a256, alg: "dir" }],
    ["PBES2", { jwk: keys.a256, alg: "PBES2-HS256+A128KW" }],
    ["A128GCMKW", { jwk: keys.a128, alg: "A128GCMKW" }],
    ["A192GCMKW", { jwk: keys.a192, alg: "A192GCMKW" }],
    ["A256GCMKW", { jwk: keys.a256, alg: "A256GCMKW" }],
    ["ECDH-ES without a key wrap", { jwk: keys.p256, alg: "ECDH-ES" }],
  ],
  (name) => `skips ${name}, rightly made`,
  (to) => {
    assertSkipped(forge([to]));
    assertSkipped(compact(forge([to], { place: "protected" })));
    assertOpens(forge([{ jwk: keys.p521 }, ...(to.alg === "dir" || to.alg === "ECDH-ES" ? [] : [to])]));
  },
);

test("skips an alg that is no name on the list", () => {
  for (const alg of [["A256KW"], 0, true, null, {}, { toString: 1 }, [[["A256KW"]]], "", "a256kw", "A256KW ", "A256KW\u0000".slice(0, 6) + "\u202e", "__proto__", "toString", "hasOwnProperty", "none", "RSA-OAEP-512"]) {
    assertSkipped(forge([{ jwk: keys.a256, header: { alg } }]));
  }
  const { recipients, ...rest } = forge([{ jwk: keys.a256 }]);
  assertSkipped({ ...rest, recipients: recipients.map(({ encrypted_key }) => ({ encrypted_key })) });
});


// Rule 9

const opens = (own: Header, jwk: PlainJwk, alg?: string): void => assertOpens(forge([{ jwk, ...(alg === undefined ? {} : { alg }) }]), storeOf({ key: { ...jwk, ...own } }));
const foreign = (own: Header, jwk: PlainJwk, alg?: string): void => void assertForeign(forge([{ jwk, ...(alg === undefined ? {} : { alg }) }]), storeOf({ key: { ...jwk, ...own } }));
/** The alg of what the binary wraps for a key that says this of itself. */
function wraps(own: Header, jwk: PlainJwk): string {
  const dir = storeOf({ key: { ...jwk, ...own } });
  const annotation = wrap(dir, ["key"]);
  assert.is(unwrap(dir, annotation), OPTSDATA);
  return (JSON.parse(annotation.toString()) as { recipients: { header: { alg: string } }[] }).recipients[0]?.header.alg ?? "";
}
const wrapsNot = (own: Header, jwk: PlainJwk, reason: string): void => {
  const line = assertFailure(run(["--keystore", storeOf({ key: { ...jwk, ...own } })], { input: wrapRequest(["key"]), timeout: 5000 }), 1);
  assert.match(line, /key [\w-]+ cannot wrap: /);
  assert.match(line, reason);
};

test("wraps by the natural algorithm of a key that names none, and opens every one of its type", () => {
  assert.equal([keys.p256, keys.p384, keys.p521, keys.rsa, keys.a128, keys.a192, keys.a256].map((jwk) => wraps({}, jwk)), ["ECDH-ES+A256KW", "ECDH-ES+A256KW", "ECDH-ES+A256KW", "RSA-OAEP-256", "A128KW", "A192KW", "A256KW"]);
});

test("keeps to a key's own alg, wrapping and unwrapping", () => {
  for (const [alg, other, jwk] of [["RSA-OAEP", "RSA-OAEP-256", keys.rsa], ["RSA-OAEP-256", "RSA-OAEP", keys.rsa], ["ECDH-ES+A128KW", "ECDH-ES+A256KW", keys.p384], ["A256KW", undefined, keys.a256]] as const) {
    assert.is(wraps({ alg }, jwk), alg);
    opens({ alg }, jwk, alg);
    if (other !== undefined) foreign({ alg }, jwk, other);
  }
});

test("uses no key whose own alg is for something else", () => {
  for (const [alg, jwk] of [["RSA1_5", keys.rsa], ["RS256", keys.rsa], ["A256KW", keys.rsa], ["ES256", keys.p256], ["ECDH-ES", keys.p256], ["RSA-OAEP", keys.p256], ["dir", keys.a256], ["A256GCMKW", keys.a256], ["HS256", keys.a256], ["", keys.a256], ["__proto__", keys.a256]] as const) {
    foreign({ alg }, jwk);
    wrapsNot({ alg }, jwk, "\"alg\" is none of a key provider's");
  }
  foreign({ alg: "A128KW" }, keys.a256);
  wrapsNot({ alg: "A128KW" }, keys.a256, '"alg" is not for its size');
});

test("uses no key that is for signatures", () => {
  for (const jwk of [keys.p256, keys.rsa, keys.a256]) {
    opens({ use: "enc" }, jwk);
    wraps({ use: "enc" }, jwk);
    for (const use of ["sig", "", "ENC"]) {
      foreign({ use }, jwk);
      wrapsNot({ use }, jwk, '"use" is not "enc"');
    }
  }
});

for (const [kind, jwk, both, onlyWrap, onlyUnwrap] of [
  ["an EC key", keys.p256, [["deriveKey"], ["deriveBits"], ["sign", "deriveBits"], ["wrapKey"], ["unwrapKey"], ["wrapKey", "unwrapKey"]], [], []],
  ["an RSA key", keys.rsa, [["wrapKey", "unwrapKey"], ["encrypt", "decrypt"], ["sign", "encrypt", "unwrapKey"]], [["wrapKey"], ["encrypt"]], [["unwrapKey"], ["decrypt"]]],
  ["a symmetric key", keys.a256, [["wrapKey", "unwrapKey"], ["encrypt", "decrypt"]], [["wrapKey"], ["encrypt"]], [["unwrapKey"], ["decrypt"]]],
] as const) {
  test(`keeps to the key_ops of ${kind} (RFC 7517, section 4.3)`, () => {
    for (const key_ops of both) wraps({ key_ops }, jwk);
    for (const key_ops of [[], ["sign"], ["sign", "verify"], ["unwrapkey"], ["__proto__"]]) {
      foreign({ key_ops }, jwk);
      wrapsNot({ key_ops }, jwk, '"key_ops" do not allow to wrap');
    }
    for (const key_ops of onlyWrap) {
      foreign({ key_ops }, jwk);
      assert.type(wrap(storeOf({ key: { ...jwk, key_ops } }), ["key"]).toString(), "string");
    }
    for (const key_ops of onlyUnwrap) {
      opens({ key_ops }, jwk);
      wrapsNot({ key_ops }, jwk, '"key_ops" do not allow to wrap');
    }
  });
}

test("passes over a key that may not and opens with one that may", () => {
  const dir = storeOf({ sig: { ...keys.p256, use: "sig" }, enc: keys.p521 });
  assertOpens(forge([{ jwk: keys.p256 }, { jwk: keys.p521 }]), dir);
  assertForeign(forge([{ jwk: keys.p256 }, { jwk: newKey("P-521") }]), dir);
});

test.run();
