// Which annotations a store's keys open, which recipients are skipped, and that every failure to open looks the same.

import { randomBytes, type KeyObject } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { KeystoreError } from "../../src/errors.ts";
import type { PrivateKeys } from "../../src/jwe/key.ts";
import { open } from "../../src/jwe/open.ts";
import { assertFailure, OPTSDATA } from "../support.ts";
import { assertForeign, assertOpens, assertSkipped, attack, each, keys, privateKeys, storeOf, type Annotation } from "./attack.ts";
import { b64u, compact, forge, newEphemeral, newKey, thumbprintOf, type Forged, type Header } from "./forge.ts";

/** Whatever the binary says of it, it does not open: a foreign or a skipped recipient. */
const assertNotOurs = (annotation: Annotation): string => assertFailure(attack(annotation), 3);

test("agrees on the parties' info (RFC 7518, section 4.6.2), of at most 1,024 bytes", () => {
  for (const header of [{ apu: b64u("Alice") }, { apv: b64u("Bob") }, { apu: b64u("Alice"), apv: b64u("Bob") }, { apu: "" }, { apu: b64u(randomBytes(1024)) }]) {
    assertOpens(forge([{ jwk: keys.p384, header }]));
  }
  for (const apu of [b64u(randomBytes(1025)), `${b64u("Alice")}=`, "QWxpY2X", "+/+/", null, 1, ["QQ"], {}]) {
    for (const name of ["apu", "apv"]) assertSkipped(forge([{ jwk: keys.p384, header: { [name]: apu } }]));
  }
});

test("takes an empty plaintext for no layer key", () => {
  for (const enc of ["A256GCM", "A256CBC-HS512"]) assertForeign(forge([{ jwk: keys.p256 }], { enc, plaintext: "" }));
});

// Rule 7

/** An ephemeral key whose x has a leading zero byte, so that a shorter spelling is the same number. */
function shortX(crv: string): KeyObject {
  for (;;) {
    const key = newEphemeral(crv);
    if (Buffer.from(key.export({ format: "jwk" }).x ?? "", "base64url")[0] === 0) return key;
  }
}

const FIELD: Readonly<Record<string, bigint>> = { "P-256": 2n ** 256n - 2n ** 224n + 2n ** 192n + 2n ** 96n - 1n, "P-521": 2n ** 521n - 1n };
const number = (text: unknown): bigint => BigInt(`0x${Buffer.from(String(text), "base64url").toString("hex")}`);
const sized = (value: bigint, bytes: number): string => Buffer.from(value.toString(16).padStart(2 * bytes, "0"), "hex").toString("base64url");

test("opens for an ephemeral key whose coordinate has a leading zero", () => {
  for (const jwk of [keys.p256, keys.p384, keys.p521]) assertOpens(forge([{ jwk, ephemeral: shortX(jwk["crv"] ?? "") }]));
});

for (const jwk of [keys.p256, keys.p384, keys.p521]) {
  const crv = jwk["crv"] ?? "";
  const size = { "P-256": 32, "P-384": 48 }[crv] ?? 66;
  const ephemeral = shortX(crv);
  const epk: Header = { ...ephemeral.export({ format: "jwk" }), d: undefined };
  const other = newEphemeral(crv === "P-256" ? "P-384" : "P-256").export({ format: "jwk" });
  const [x, y] = [number(epk["x"]), number(epk["y"])];
  const field = FIELD[crv];

  each<[epk: unknown]>(
    [
      ["the coordinates are too long, which hangs node-jose", { ...epk, x: b64u(randomBytes(crv === "P-521" ? 137 : 66)), y: b64u(randomBytes(crv === "P-521" ? 137 : 66)) }],
      ["the coordinates are far too long", { ...epk, x: b64u(randomBytes(4000)), y: b64u(randomBytes(4000)) }],
      ["x is too long", { ...epk, x: b64u(randomBytes(137)) }],
      ["y is too long", { ...epk, y: b64u(randomBytes(137)) }],
      ["x is a zero byte too long", { ...epk, x: sized(x, size + 1) }],
      ["x is a zero byte too short", { ...epk, x: sized(x, size - 1) }],
      ["y is empty", { ...epk, y: "" }],
      ["x is lax base64url", { ...epk, x: `${String(epk["x"])}=` }],
      ["the point is off the curve", { ...epk, y: sized(y ^ 1n, size) }],
      ["the point is zero", { ...epk, x: sized(0n, size), y: sized(0n, size) }],
      ...(field === undefined || crv !== "P-521" ? [] : [["x is not reduced by the field's prime", { ...epk, x: sized(x + field, size) }] as const]),
      ["the curve is another", { ...other, d: undefined }],
      ["crv names another curve", { ...epk, crv: other.crv }],
      ["crv is missing", { ...epk, crv: undefined }],
      ["crv is a prototype's name", { ...epk, crv: "__proto__" }],
      ["d is there", ephemeral.export({ format: "jwk" })],
      ["a wrong d is there", { ...epk, d: newKey(crv)["d"] }],
      ["it is missing", undefined],
      ["it is a list", [epk]],
      ["it is text", JSON.stringify(epk)],
      ["it is null", null],
      ["it is a number", 1],
      ["it has no x", { ...epk, x: undefined }],
      ["x is a number", { ...epk, x: 1 }],
      ["kty is OKP", { ...epk, kty: "OKP" }],
      ["kty is RSA", { ...epk, kty: "RSA" }],
      ["kty is missing", { ...epk, kty: undefined }],
      ["it is an RSA key", { kty: "RSA", n: keys.rsa["n"], e: keys.rsa["e"] }],
      ["it is a symmetric key", { kty: "oct", k: keys.a256["k"] }],
    ],
    (name) => `skips an epk on ${crv}: ${name}`,
    (wrong) => {
      assertNotOurs(forge([{ jwk, ephemeral, header: { epk: wrong } }]));
      assertNotOurs(compact(forge([{ jwk, ephemeral, header: { epk: wrong } }], { place: "protected" })));
      assertOpens(forge([{ jwk, ephemeral, header: { epk: wrong } }, { jwk: keys.rsa }]));
    },
  );
}

test("ignores an epk that its alg has no use for, however odd, and does not hang on it", () => {
  const oversized = [66, 137, 1000].map((length) => ({ kty: "EC", crv: "P-256", x: b64u(randomBytes(length)), y: b64u(randomBytes(length)) }));
  const lengths = ["EC", "oct"].map((kty) => ({ kty, k: "AA", length: 2 ** 32 - 1 }));
  for (const epk of [...oversized, ...lengths, 5, "{}", null, [], {}, { kty: "RSA" }, { kty: "toString" }]) {
    for (const jwk of [keys.a256, keys.rsa]) assertOpens(compact(forge([{ jwk, header: { epk } }], { place: "protected" })));
  }
});

test("does not hang on a length that somebody wrote, which makes a list of an object for lodash and its like", () => {
  const ephemeral = newEphemeral("P-256");
  const { d: _, ...epk } = ephemeral.export({ format: "jwk" });
  for (const length of [2 ** 24, 2 ** 32 - 1, 2 ** 53 - 1]) {
    for (const place of ["protected", "unprotected", "header"] as const) {
      assertOpens(forge([{ jwk: keys.p256, ephemeral, header: { epk: { ...epk, length } } }], { place }));
      assertOpens(forge([{ jwk: keys.a256, header: { length, x: { length, y: [{ length }] } } }], { place }));
    }
  }
});

// Rule 8

test("skips an encrypted_key of another length", () => {
  for (const [jwk, enc] of [[keys.p256, "A256GCM"], [keys.a128, "A128GCM"], [keys.a256, "A256CBC-HS512"]] as const) {
    const jwe = forge([{ jwk }], { enc });
    const [first] = jwe.recipients;
    const wrapped = Buffer.from(first?.encrypted_key ?? "", "base64url");
    for (const wrong of [Buffer.alloc(0), wrapped.subarray(1), wrapped.subarray(8), Buffer.concat([wrapped, Buffer.alloc(1)]), Buffer.concat([wrapped, Buffer.alloc(8)])]) {
      assertSkipped({ ...jwe, recipients: [{ ...first, encrypted_key: b64u(wrong) }] });
    }
    assertSkipped({ ...jwe, recipients: [{ header: first?.header }] });
  }
  const jwe = forge([{ jwk: keys.rsa }]);
  const [first] = jwe.recipients;
  const wrapped = Buffer.from(first?.encrypted_key ?? "", "base64url");
  for (const wrong of [Buffer.alloc(0), wrapped.subarray(1), Buffer.concat([Buffer.alloc(1), wrapped]), Buffer.concat([wrapped, Buffer.alloc(1)])]) {
    assertForeign({ ...jwe, recipients: [{ ...first, encrypted_key: b64u(wrong) }] });
  }
});

test("uses no content key of a length that enc does not ask", () => {
  for (const jwk of [keys.a256, keys.p256]) assertSkipped(forge([{ jwk, cek: randomBytes(16) }]));
  for (const length of [0, 1, 16, 24, 31, 33, 64]) assertForeign(forge([{ jwk: keys.rsa, cek: randomBytes(length) }]));
});

// Rule 10

const kidOfKey = thumbprintOf(keys.p256);
test("opens whatever the kid says: right, another key's, unknown, absent, a path, too long", () => {
  for (const kid of [kidOfKey, thumbprintOf(keys.p521), thumbprintOf(keys.rsa), thumbprintOf(newKey("P-256")), undefined, "", "../../etc/passwd", "__proto__", "x".repeat(129), "x".repeat(10_000), "a\nb"]) {
    assertOpens(forge([{ jwk: keys.p256, header: { kid } }]));
  }
});

test("is not shadowed by foreign recipients of the same alg ahead of ours, whatever their kids", () => {
  for (const jwk of Object.values(keys)) {
    const kind = jwk["kty"] === "oct" ? `oct-${Buffer.from(jwk["k"] ?? "", "base64url").length}` : (jwk["crv"] ?? "RSA-2048");
    const stranger = { jwk: newKey(kind) };
    assertOpens(forge([stranger, stranger, { jwk }]));
    assertOpens(forge([{ ...stranger, header: { kid: kidOfKey } }, { jwk }]));
    assertOpens(forge([{ ...stranger, header: { kid: kidOfKey } }, { jwk, header: { kid: kidOfKey } }]));
  }
});

test("opens beside recipients that are broken, forbidden or unknown", () => {
  const { recipients: [ours], ...rest } = forge([{ jwk: keys.a256 }]);
  const key = b64u(randomBytes(40));
  const broken: Forged["recipients"] = [
    {},
    { header: {} },
    { header: { alg: "A256KW" } },
    { header: { alg: "A256KW", kid: 5 }, encrypted_key: key },
    { header: { alg: "A256KW", kid: { a: 1 } }, encrypted_key: key },
    { header: { alg: "A256KW" }, encrypted_key: key },
    { header: { alg: "A256KW" }, encrypted_key: "AA" },
    { header: { alg: ["A256KW"] }, encrypted_key: key },
    { header: { alg: { toString: 1 } }, encrypted_key: key },
    { header: { alg: "X-NEW", epk: { kty: "OKP", crv: "X25519", x: "AA" } }, encrypted_key: key },
    { header: { alg: "ECDH-ES+A256KW" }, encrypted_key: key },
    { header: { alg: "ECDH-ES+A256KW", epk: { kty: "OKP", crv: "X25519", x: "AA" } }, encrypted_key: key },
    { header: { alg: "ECDH-ES+A256KW", epk: { kty: "EC", crv: "P-256", x: b64u(randomBytes(66)), y: b64u(randomBytes(66)) } }, encrypted_key: key },
    { header: { alg: "RSA-OAEP-256" }, encrypted_key: b64u(Buffer.alloc(256, 0xff)) },
    { header: { alg: "PBES2-HS512+A256KW", p2s: "AA", p2c: 2 ** 31 }, encrypted_key: key },
  ];
  for (const one of broken) for (const recipients of [[one, ours], [ours, one], [one, one, ours, one]]) assertOpens({ ...rest, recipients });
  assertOpens({ ...rest, recipients: [...broken, ours] });
});

const opened = async (jwe: Forged, from: PrivateKeys): Promise<string> => (await open(Buffer.from(JSON.stringify(jwe)), from)).toString();
const failure = async (jwe: Forged, from: PrivateKeys): Promise<KeystoreError> => {
  try {
    await opened(jwe, from);
  } catch (error) {
    if (error instanceof KeystoreError) return error;
    throw error;
  }
  throw new Error("it opened");
};

test("stops after 256 trials, after every key that a recipient names", async () => {
  const named = Object.fromEntries(Array.from({ length: 5 }, () => newKey("oct-32")).map((jwk, at) => [`kid${at}`, jwk]));
  const strangers = Array.from({ length: 63 }, () => ({ jwk: newKey("oct-32") }));
  const hidden = (name: string, header: Header = {}): Forged => forge([...strangers, { jwk: named[name] ?? {}, header }]);
  assert.is(await opened(hidden("kid3"), privateKeys(named)), OPTSDATA, "the 256th trial");
  assert.is(await opened(hidden("kid4", { kid: "kid4" }), privateKeys(named)), OPTSDATA, "named");
  assert.is((await failure(hidden("kid4"), privateKeys(named))).exitCode, 3);
});

test("says what is wrong with the key that a recipient names, and opens where another key does", async () => {
  const failing = new KeystoreError("key", "the holder of key kid0 does not answer", "start it", 3);
  const held = privateKeys({ kid1: keys.p256 });
  const unread: PrivateKeys = { ...held, privateKey: async (kid) => (kid === "kid0" ? Promise.reject(failing) : await held.privateKey(kid)) };
  const unusable: PrivateKeys = {
    privateKids: async () => ["kid0", "kid1"],
    privateKey: async (kid) => {
      const key = await held.privateKey("kid1");
      return kid === "kid0" && key !== undefined ? { ...key, kid, perform: async () => Promise.reject(failing) } : await held.privateKey(kid);
    },
  };
  const stranger = { jwk: newKey("P-256"), header: { kid: "kid0" } };
  for (const partly of [unread, unusable]) {
    assert.is(await failure(forge([stranger]), partly), failing);
    const both = forge([stranger, { jwk: keys.p256, header: { kid: "kid1" } }]);
    assert.is(await opened(both, partly), OPTSDATA);
  }
});

// Rule 14

function tampered(text: string): string {
  const bytes = Buffer.from(text, "base64url");
  bytes.writeUInt8(bytes.readUInt8() ^ 1);
  return b64u(bytes);
}

for (const [name, jwk] of Object.entries(keys)) {
  test(`says the same, byte for byte, of every failure to open for one recipient: ${name}`, () => {
    const kid = thumbprintOf(newKey("P-256"));
    const header = { kid };
    const stranger = newKey(jwk["kty"] === "oct" ? `oct-${Buffer.from(jwk["k"] ?? "", "base64url").length}` : (jwk["crv"] ?? "RSA-2048"));
    const gcm = forge([{ jwk, header }]);
    const cbc = forge([{ jwk, header }], { enc: "A128CBC-HS256" });
    const [first] = gcm.recipients;
    const foreign = forge([{ jwk: stranger, header }]).recipients;
    const failures: Annotation[] = [
      forge([{ jwk: stranger, header }]), // wrong key
      { ...gcm, recipients: foreign }, // another JWE's wrap
      { ...gcm, recipients: [{ ...first, encrypted_key: tampered(first?.encrypted_key ?? "") }] }, // bad wrap
      { ...gcm, tag: tampered(gcm.tag) },
      { ...gcm, ciphertext: tampered(gcm.ciphertext) },
      { ...gcm, iv: tampered(gcm.iv) },
      { ...gcm, ciphertext: "" },
      { ...gcm, protected: b64u('{"enc":"A256GCM","x":1}') },
      forge([{ jwk, header }], { plaintext: "" }),
      { ...cbc, tag: tampered(cbc.tag) },
      { ...cbc, ciphertext: cbc.ciphertext.slice(0, 20) },
      forge([{ jwk, header }], { enc: "A128CBC-HS256", plaintext: Buffer.alloc(32), rawPadding: true }), // bad padding under a good tag
      forge([{ jwk, header }], { enc: "A128CBC-HS256", plaintext: Buffer.alloc(32, 17), rawPadding: true }),
      ...(jwk["kty"] === "RSA" ? [forge([{ jwk, header, cek: randomBytes(16) }]), forge([{ jwk, header, alg: "RSA-OAEP" }], { plaintext: "" })] : []),
    ];
    const lines = failures.map((annotation) => assertForeign(annotation));
    assert.match(lines[0] ?? "", `it was made for ${kid}`);
    assert.equal(new Set(lines), new Set(lines.slice(0, 1)));
  });
}

test("shows foreign kids and algorithms cut and escaped, in one line", () => {
  const empty = storeOf({ other: newKey("P-384") });
  const kid = `\u001b[2J\u202e\u2028\n${"k".repeat(500)}`;
  const strangers = Array.from({ length: 64 }, () => ({ jwk: keys.a256, header: { kid } }));
  const line = assertForeign(forge(strangers), empty);
  assert.match(line, "\\u001b[2J\\u202e\\u2028\\u000akkk");
  assert.ok(line.length < 1000, line);
  const skipped = assertSkipped(forge([{ jwk: keys.a256, header: { alg: `\u009b2J\u2066\r${"a".repeat(500)}` } }]), empty);
  assert.match(skipped, "\\u009b2J\\u2066\\u000daaa");
  assert.ok(skipped.length < 300, skipped);
});

test.run();
