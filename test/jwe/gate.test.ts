// The gate: annotations that a store's own key would open, but for the one thing that each test names.

import { test } from "uvu";
import { assertForeign, assertOpens, assertRefused, each, keys, type Annotation } from "./attack.ts";
import { b64u, compact, flattened, forge, newKey, type Forged, type ForgeOptions, type Header } from "./forge.ts";

const ours = { jwk: keys.p256 };
const shared = { jwk: keys.a256 };
const good = forge([ours]);
const withAad = forge([ours], { aad: "aad" });
const text = JSON.stringify(good);
const compacted = compact(forge([shared], { place: "protected" }));
const pad = (jwe: Forged, length: number): string => {
  const padded = JSON.stringify({ ...jwe, pad: "" });
  return padded.replace('"pad":""', `"pad":"${"x".repeat(length - padded.length)}"`);
};
const nested = (depth: number): unknown => JSON.parse("[".repeat(depth) + "]".repeat(depth));
/** JSON text as it is in the protected header, which is encrypted with. */
const withProtected = (header: string | Buffer): Annotation => ({ ...good, protected: b64u(header) });

test("opens the general, the flattened and the compact form of one JWE (RFC 7516, section 7)", () => {
  assertOpens(good);
  assertOpens(flattened(good));
  assertOpens(compacted);
  assertOpens(withAad);
});

// Rule 1

test("takes an annotation of 256 KiB and refuses one a byte larger", () => {
  assertOpens(pad(good, 256 * 1024));
  assertRefused(pad(good, 256 * 1024 + 1), /larger than 256 KiB/);
});

test("takes headers of 16 KiB and refuses each of the three when it is larger", () => {
  const fill = (length: number): { x: string } => ({ x: "x".repeat(length) });
  assertOpens(forge([ours], { protected: fill(16_384 - '{"enc":"A256GCM","x":""}'.length) }));
  assertRefused(forge([ours], { protected: fill(16_385 - '{"enc":"A256GCM","x":""}'.length) }), /header larger than 16 KiB/);
  assertOpens(forge([ours], { unprotected: fill(16_384 - '{"x":""}'.length) }));
  assertRefused(forge([ours], { unprotected: fill(16_385 - '{"x":""}'.length) }), /header larger than 16 KiB/);
  assertOpens(forge([{ ...ours, header: fill(16_000) }]));
  assertRefused(forge([{ ...ours, header: fill(16_384) }]), /header larger than 16 KiB/);
});

test("takes 8 levels of nesting and refuses a ninth, in the annotation and in the protected header", () => {
  assertOpens(forge([ours], { unprotected: { x: nested(6) } }));
  assertRefused(forge([ours], { unprotected: { x: nested(7) } }), /nested too deep/);
  assertOpens(forge([ours], { protected: { x: nested(7) } }));
  assertRefused(forge([ours], { protected: { x: nested(8) } }), /protected header that is nested too deep/);
  assertRefused(`{"x":${"[".repeat(100_000)}${"]".repeat(100_000)}}`, /nested too deep/);
  assertRefused(`{"x":${"[".repeat(100_000)}`, /not JSON/);
  assertRefused(withProtected("[".repeat(8000) + "]".repeat(8000)), /nested too deep/);
});

// Rule 2

const withByte = (byte: number[]): Buffer => Buffer.concat([Buffer.from('{"x":"'), Buffer.from(byte), Buffer.from('",'), Buffer.from(text.slice(1))]);
const rewritten = (from: string, to: string): string => {
  if (!text.includes(from)) throw new Error(`nothing to rewrite: ${from}`);
  return text.replace(from, to);
};
each<[annotation: Annotation, reason: RegExp]>(
  [
    ["a byte that is not UTF-8", withByte([0xff]), /not valid UTF-8/],
    ["an overlong NUL", withByte([0xc0, 0x80]), /not valid UTF-8/],
    ["a surrogate encoded as UTF-8", withByte([0xed, 0xa0, 0x80]), /not valid UTF-8/],
    ["a byte that is not UTF-8 in the protected header", withProtected(Buffer.from('{"enc":"A256GCM","x":"\xff"}', "latin1")), /protected header that is not valid UTF-8/],
    ["a byte order mark", `\ufeff${text}`, /neither a JSON object nor a compact JWE/],
    ["a byte order mark in the protected header", withProtected('\ufeff{"enc":"A256GCM"}'), /protected header that is not JSON/],
    ["a NUL character", withByte([0]), /not JSON/],
    ["a NUL character behind the object", `${text}\0`, /not JSON/],
    ["an escaped NUL character", rewritten("{", '{"x":"\\u0000",'), /NUL character/],
    ["an escaped NUL character in a name", rewritten("{", '{"iv\\u0000":"x",'), /forbidden member name/],
    ["an escaped NUL character in a kid", rewritten('"header":{', '"header":{"kid":"a\\u0000b",'), /NUL character/],
    ["an escaped NUL character in the protected header", withProtected('{"enc":"A256GCM","x":["\\u0000"]}'), /protected header that has a NUL character/],
    ["the same member twice", rewritten('"iv":', '"iv":"AAAAAAAAAAAAAAAA","iv":'), /duplicate member name/],
    ["recipients twice", rewritten('"recipients":', '"recipients":[{}],"recipients":'), /duplicate member name/],
    ["a header parameter twice", rewritten('"header":{', '"header":{"alg":"dir",'), /duplicate member name/],
    ["a header parameter twice, once escaped", rewritten('"header":{', '"header":{"\\u0061lg":"dir",'), /member name/],
    ["a member twice, with a space and an escaped letter", rewritten('"iv":', '"i\\u0076" \n:"","iv":'), /member name/],
    ["an epk's member twice", rewritten('"epk":{', '"epk":{"x":"AA",'), /duplicate member name/],
    ["a member twice behind strings that look like members", rewritten("{", '{"x":"\\\\\\":","y":"\\"a\\":","y":0,'), /duplicate member name/],
    ["a member twice deep inside", rewritten("{", '{"x":[[{"a":0,"a":0}]],'), /duplicate member name/],
    ["a member of the protected header twice", withProtected('{"enc":"A256GCM","enc":"A256GCM"}'), /protected header that has a duplicate member name/],
    ["a member of the protected header twice, once escaped", withProtected('{"enc":"A128GCM","\\u0065nc":"A256GCM"}'), /protected header that has an? \w+ member name/],
    ["a __proto__", rewritten("{", '{"__proto__":{"protected":"e30"},'), /forbidden member name/],
    ["a __proto__ with an escape", rewritten('"header":{', '"header":{"\\u005f_proto__":{},'), /member name/],
    ["a constructor", rewritten('"epk":{', '"epk":{"constructor":{},'), /forbidden member name/],
    ["a prototype", rewritten('"recipients":[', '"recipients":[{"prototype":0},'), /forbidden member name/],
    ["a __proto__ in the protected header", withProtected('{"__proto__":{"enc":"A256GCM"}}'), /protected header that has a forbidden member name/],
  ],
  (name) => `refuses ${name}`,
  (annotation, reason) => void assertRefused(annotation, reason),
);

test("is not fooled by V8, which reads an escaped name as one with a backslash that it has seen before (nodejs/node#63785)", () => {
  const poison = (name: string): { unprotected: Header } => ({ unprotected: { x: { alg: "A256KW", [name]: 0 } } });
  const escaped = (annotation: Forged, parameter: string): string => JSON.stringify(annotation).replace('"header":{"alg":"A256KW"', `"header":{"alg":"A256KW",${parameter}`);
  const symmetric = forge([shared]);
  for (const [name, parameter] of [["\\u0", '"\\u0061lg":"dir"'], ["\\u00", '"\\u0063rit":["exp"]'], ["\\u0", '"\\u007aip":"DEF"'], ["\\", '"\\u0061":0,"a":0']] as const) {
    assertRefused(escaped(symmetric, parameter), /member name|is not allowed/);
    assertRefused(escaped({ ...poison(name), ...symmetric }, parameter), /member name|is not allowed/);
  }
});

test("takes the same name in different objects, and text that only looks like a member", () => {
  assertOpens(forge([ours], { unprotected: { a: { b: 1 }, c: { b: '{"b":1,"b":"' }, d: ["e", "e"], "c:": ":" } }));
});

test("refuses anything else where an object belongs", () => {
  for (const wrong of [[], [[]], "x", 0, true, null]) {
    assertRefused({ ...good, unprotected: wrong }, /"unprotected" that is not an object/);
    assertRefused({ ...good, recipients: [{ ...good.recipients[0], header: wrong }] }, /"header" that is not an object/);
    assertRefused({ ...good, recipients: [good.recipients[0], wrong] }, /recipients that are not a list of objects/);
    assertRefused(withProtected(JSON.stringify(wrong)), /protected header that is not an object/);
  }
  for (const wrong of [{}, { 0: good.recipients[0] }, "x", 0, true, null, []]) assertRefused({ ...good, recipients: wrong }, /recipients that are not a list of objects/);
  for (const wrong of ["[]", `[${text}]`, "null", '"x"', "0", "", "{", "{}}"]) assertRefused(wrong, /neither a JSON object nor|not JSON/);
});

test("refuses anything else where a string belongs", () => {
  for (const name of ["protected", "aad", "iv", "ciphertext", "tag"]) {
    for (const wrong of [null, 0, true, {}, [withAad.iv]]) assertRefused({ ...withAad, [name]: wrong }, new RegExp(`"${name}" that is not a string`));
  }
  for (const wrong of [null, 0, {}, []]) assertRefused({ ...good, recipients: [{ ...good.recipients[0], encrypted_key: wrong }] }, /"encrypted_key" that is not a string/);
});

// Rule 3

test("refuses a compact JWE of other than five parts (RFC 7516, section 7.1)", () => {
  const parts = compacted.split(".");
  for (const wrong of [parts.slice(0, 4).join("."), parts.slice(1).join("."), `${compacted}.`, `${compacted}.${parts[4]}`, `.${compacted}`, "....", "...", "a"]) {
    assertRefused(wrong, /five parts|protected header that is not/);
  }
});

/** Spellings that a lax decoder takes for the same bytes. */
function spellings(canonical: string): string[] {
  const last = canonical.slice(-1);
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  const loose = alphabet.charAt(alphabet.indexOf(last) ^ 1); // its lowest bit is no data unless four characters end there
  return [`${canonical}=`, `${canonical}==`, `${canonical}\n`, ` ${canonical}`, `${canonical}A`.padEnd(4 * Math.ceil(canonical.length / 4) + 1, "A"), `${canonical.slice(0, 4)} ${canonical.slice(4)}`, canonical.length % 4 === 0 ? `${canonical}!` : canonical.slice(0, -1) + loose];
}

test("refuses every spelling of base64url but the canonical one, in every member (RFC 7515, section 2)", () => {
  for (const name of ["protected", "aad", "iv", "ciphertext", "tag"] as const) {
    for (const wrong of spellings(withAad[name] ?? "")) assertRefused({ ...withAad, [name]: wrong }, /canonical base64url/);
  }
  const [first] = good.recipients;
  for (const wrong of spellings(first?.encrypted_key ?? "")) assertRefused({ ...good, recipients: [{ ...first, encrypted_key: wrong }] }, /"encrypted_key" in canonical base64url/);
  const standard = forge([ours], { enc: "A128CBC-HS256", plaintext: "x".repeat(2000) });
  assertRefused({ ...standard, ciphertext: standard.ciphertext.replaceAll("-", "+").replaceAll("_", "/") }, /"ciphertext" in canonical base64url/);
});

test("refuses every spelling of base64url but the canonical one, in compact form", () => {
  const parts = compacted.split(".");
  for (const [at, part] of parts.entries()) for (const wrong of spellings(part)) assertRefused(parts.with(at, wrong).join("."), /canonical base64url/);
});

test("refuses lax base64url in a foreign recipient too", () => {
  assertRefused({ ...good, recipients: [...good.recipients, { header: { alg: "dir" }, encrypted_key: "AA==" }] }, /"encrypted_key" in canonical base64url/);
});

// Rule 4

test("takes go-jose's stray encrypted_key where it is the first recipient's, and no other (RFC 7516, section 7.2.2)", () => {
  const two = forge([shared, ours]);
  const [first, second] = two.recipients;
  assertOpens({ ...two, encrypted_key: first?.encrypted_key });
  for (const stray of [second?.encrypted_key, "", "AA", null, 0, `${first?.encrypted_key}=`]) assertRefused({ ...two, encrypted_key: stray }, /"encrypted_key" beside "recipients"/);
  assertRefused({ ...two, recipients: [{ header: first?.header }, second], encrypted_key: first?.encrypted_key }, /"encrypted_key" beside "recipients"/);
});

test("refuses a header beside recipients (RFC 7516, section 7.2.2)", () => {
  assertRefused({ ...good, header: {} }, /"header" beside "recipients"/);
  assertRefused({ ...good, header: good.recipients[0]?.header }, /"header" beside "recipients"/);
});

// Rule 5

test("refuses a parameter in two of the three headers, even with one value (RFC 7516, section 4)", () => {
  const kid = { kid: "x" };
  for (const options of [{ protected: kid, unprotected: kid }, { protected: { enc: "A256GCM" }, unprotected: { enc: "A256GCM" } }]) assertRefused(forge([ours], options), /repeats a header parameter/);
  for (const options of [{ protected: kid }, { unprotected: kid }]) {
    assertRefused(forge([{ ...ours, header: kid }], options), /repeats a header parameter/);
    assertRefused(forge([ours, { ...shared, header: kid }], options), /repeats a header parameter/);
  }
  assertOpens(forge([{ ...ours, header: kid }, { ...shared, header: kid }]));
});

for (const [name, value] of [["zip", "DEF"], ["crit", ["exp"]], ["crit", []], ["b64", false], ["b64", true]] as const) {
  test(`refuses ${name}: ${JSON.stringify(value)} in each of the three headers, in every form`, () => {
    const parameter = { [name]: value };
    for (const annotation of [
      forge([ours], { protected: parameter }),
      forge([ours], { unprotected: parameter }),
      forge([{ ...ours, header: parameter }]),
      forge([ours, { ...shared, header: parameter }]),
      flattened(forge([{ ...ours, header: parameter }])),
      compact(forge([shared], { place: "protected", protected: parameter })),
    ]) {
      assertRefused(annotation, new RegExp(`uses "${name}", which is not allowed`));
    }
  });
}

test("takes aad beside a protected header, authenticates it, and refuses it without one", () => {
  const bare: ForgeOptions = { encIn: "unprotected" };
  assertOpens(forge([ours], bare));
  assertRefused(forge([ours], { ...bare, aad: "aad" }), /"aad" and no protected header/);
  assertForeign({ ...withAad, aad: b64u("aae") });
  assertForeign({ ...withAad, aad: undefined });
  assertForeign({ ...good, aad: b64u("aad") });
});

test("refuses an empty protected header, which must be absent (RFC 7516, section 7.2.1)", () => {
  assertRefused({ ...forge([ours], { encIn: "unprotected" }), protected: "" }, /protected header/);
});

// Rule 6

test("opens with enc in any of the three headers", () => {
  for (const encIn of ["protected", "unprotected", "header"] as const) assertOpens(forge([ours, shared], { encIn }));
});

test("refuses an enc that is not on the list", () => {
  for (const enc of [undefined, null, "", "none", "a256gcm", "A256CBC", "A128CBC-HS512", "C20P", "__proto__", "toString", "hasOwnProperty", ["A256GCM"], { A256GCM: 1 }, 0]) {
    assertRefused({ ...good, protected: b64u(JSON.stringify({ enc })) }, /"enc" that is not accepted/);
  }
});

test("refuses recipients that differ in enc (RFC 7516, section 7.2.1)", () => {
  const { protected: _, ...bare } = forge([ours, shared], { encIn: "header" });
  const [first, second] = bare.recipients;
  for (const enc of ["A128GCM", undefined, "none"]) assertRefused({ ...bare, recipients: [first, { ...second, header: { ...second?.header, enc } }] }, /differ in "enc"/);
});

test("refuses an iv or a tag of another length, a shortened tag too", () => {
  for (const enc of ["A256GCM", "A128CBC-HS256", "A192CBC-HS384", "A256CBC-HS512"]) {
    const jwe = forge([ours], { enc });
    for (const name of ["iv", "tag"] as const) {
      const bytes = Buffer.from(jwe[name], "base64url");
      const wrong = [Buffer.alloc(0), bytes.subarray(0, 4), bytes.subarray(1), Buffer.concat([bytes, Buffer.alloc(1)]), Buffer.concat([bytes, bytes])];
      for (const value of wrong) assertRefused({ ...jwe, [name]: b64u(value) }, new RegExp(`"${name}" of the wrong length`));
    }
    assertRefused({ ...jwe, iv: undefined }, /no "iv"/);
    assertRefused({ ...jwe, tag: undefined }, /no "tag"/);
    assertRefused({ ...jwe, ciphertext: undefined }, /no "ciphertext"/);
  }
});

// Rule 10

test("opens for the last of 64 recipients and refuses 65", () => {
  const stranger = { jwk: newKey("P-256") };
  assertOpens(forge([...Array.from({ length: 63 }, () => stranger), ours]));
  assertRefused(forge([ours, ...Array.from({ length: 64 }, () => stranger)]), /more than 64 recipients/);
});

test("refuses a forbidden annotation before any key is looked for", () => {
  assertRefused(forge([ours], { protected: { zip: "DEF" } }), /uses "zip"/, "/nonexistent");
});

test.run();
