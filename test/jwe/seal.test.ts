// What wrapping writes: for whom, by which algorithm, opened again by src, by the binary and by the second implementation.

import { generateKeyPair, randomBytes } from "node:crypto";
import { promisify } from "node:util";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { KeystoreError } from "../../src/errors.ts";
import type { Recipient } from "../../src/jwe/key.ts";
import { open } from "../../src/jwe/open.ts";
import { seal } from "../../src/jwe/seal.ts";
import { checkJwk, publicJwk } from "../../src/jwk/jwk.ts";
import { assertOpens, keys, privateKeys, store, storeOf } from "../support/attacks.ts";
import { endurance } from "../support/parts.ts";
import { assertFailure, run } from "../support/program.ts";
import { OPTSDATA, wrap, wrapRequest } from "../support/requests.ts";
import { newKey, thumbprintOf, unforge, type Forged, type PlainJwk } from "../support/second-jwe.ts";

const data = Buffer.from(OPTSDATA);
const checked = (jwk: object): Recipient["jwk"] => checkJwk(jwk, (reason) => new Error(reason));
/** What a store hands to `seal`: the public half, of a symmetric key the whole. */
function recipient(kid: string, jwk: object): Recipient {
  const whole = checked(jwk);
  return { kid, jwk: whole.kty === "oct" ? whole : publicJwk(whole) };
}
const recipientsOf = (named: Readonly<Record<string, PlainJwk>>): Recipient[] =>
  Object.entries(named).map(([kid, jwk]) => recipient(kid, jwk));
const parsed = (jwe: Buffer): Forged => JSON.parse(jwe.toString()) as Forged;
const failure = async (plaintext: Buffer, recipients: readonly Recipient[]): Promise<KeystoreError> => {
  try {
    await seal(plaintext, recipients);
  } catch (error) {
    if (error instanceof KeystoreError) return error;
    throw error;
  }
  throw new Error("it sealed");
};

test("writes general JSON with protected enc A256GCM, alg, kid and epk in each recipient's header, and nothing else (RFC 7516, section 7.2.1)", async () => {
  const jwe = parsed(await seal(data, recipientsOf(keys)));
  assert.equal(Object.keys(jwe).toSorted(), ["ciphertext", "iv", "protected", "recipients", "tag"]);
  assert.is(jwe.protected, Buffer.from('{"enc":"A256GCM"}').toString("base64url"));
  const algorithms = [
    "ECDH-ES+A256KW",
    "ECDH-ES+A256KW",
    "ECDH-ES+A256KW",
    "RSA-OAEP-256",
    "A128KW",
    "A192KW",
    "A256KW",
  ];
  for (const [at, [kid, jwk]] of Object.entries(keys).entries()) {
    const { header = {}, encrypted_key = "", ...rest } = jwe.recipients[at] ?? {};
    assert.equal(rest, {});
    assert.is(header["alg"], algorithms[at]);
    assert.is(header["kid"], kid);
    assert.equal(Object.keys(header).toSorted(), jwk["kty"] === "EC" ? ["alg", "epk", "kid"] : ["alg", "kid"]);
    assert.is(Buffer.from(encrypted_key, "base64url").length, jwk["kty"] === "RSA" ? 256 : 40);
  }
});

test("writes one recipient in general form too", async () => {
  assert.is(parsed(await seal(data, recipientsOf({ one: keys.rsa }))).recipients.length, 1);
});

test("writes ephemeral keys whose coordinates have their full length, none twice (RFC 7518, section 6.2.1.2)", async () => {
  const seen = new Set<unknown>();
  for (const [jwk, length] of [
    [keys.p256, 43],
    [keys.p384, 64],
    [keys.p521, 88],
  ] as const) {
    for (let round = 0; round < 200; round++) {
      const epk = parsed(await seal(data, [recipient("k", jwk)])).recipients[0]?.header?.["epk"] as PlainJwk;
      assert.equal(
        { ...epk, x: epk["x"]?.length, y: epk["y"]?.length },
        { kty: "EC", crv: jwk["crv"], x: length, y: length },
      );
      seen.add(epk["x"]);
    }
  }
  assert.is(seen.size, 600);
});

const generate = promisify(generateKeyPair);
async function newKeys(kind: string, count: number): Promise<Record<string, PlainJwk>> {
  const made = Array.from({ length: count }, async (_, at): Promise<[string, PlainJwk]> => {
    if (kind !== "RSA-2048") return [`kid${at}`, newKey(kind)];
    const { privateKey } = await generate("rsa", { modulusLength: 2048 });
    return [`kid${at}`, { ...privateKey.export({ format: "jwk" }) } as PlainJwk];
  });
  return Object.fromEntries(await Promise.all(made));
}

for (const kind of ["P-256", "P-384", "P-521", "RSA-2048", "oct-16", "oct-24", "oct-32"]) {
  test(`seals for 1, 2 and 64 keys of ${kind}, each of which opens it alone, here and in the second implementation`, async () => {
    const all = await newKeys(kind, 64);
    for (const count of [1, 2, 64]) {
      const named = Object.fromEntries(Object.entries(all).slice(0, count));
      const plaintext = randomBytes(count).toString("base64");
      const jwe = await seal(Buffer.from(plaintext), recipientsOf(named));
      assert.is(parsed(jwe).recipients.length, count);
      for (const [at, [kid, jwk]] of Object.entries(named).entries()) {
        assert.is((await open(jwe, privateKeys({ [kid]: jwk }))).toString(), plaintext);
        assert.is(unforge(parsed(jwe), at, jwk), plaintext);
      }
      await open(jwe, privateKeys({ kid0: newKey(kind) })).then(
        () => assert.unreachable(),
        (error: unknown) => assert.is((error as KeystoreError).code, "foreign"),
      );
    }
  });
}

test("takes any bytes, from one to more than a layer's key ever is", async () => {
  for (const plaintext of [Buffer.alloc(1), Buffer.from([0xff, 0x00, 0xc0]), randomBytes(1000), randomBytes(100_000)]) {
    assert.equal(await open(await seal(plaintext, recipientsOf(keys)), privateKeys(keys)), plaintext);
  }
});

test("counts the same key once, by name, by kid and in every repetition", async () => {
  assert.is(parsed(await seal(data, [...recipientsOf(keys), ...recipientsOf(keys)])).recipients.length, 7);
  const kid = thumbprintOf(keys.p256);
  assert.is(parsed(wrap(store, ["p256", "p256", `p256:${kid}:p256`, kid])).recipients.length, 1);
  assert.equal(
    parsed(wrap(store, [`rsa:p256:${kid}`, "rsa"])).recipients.map(({ header }) => header?.["alg"]),
    ["RSA-OAEP-256", "ECDH-ES+A256KW"],
  );
});

test("wraps for 64 recipients, each of whom opens it, and refuses 65", async () => {
  const named = await newKeys("P-256", 65);
  const dir = storeOf(named);
  const names = Object.keys(named);
  const jwe = wrap(dir, names.slice(0, 64));
  assert.is(parsed(jwe).recipients.length, 64);
  for (const at of [0, 31, 63]) assertOpens(jwe, storeOf({ key: named[`kid${at}`] ?? {} }));
  for (const values of [names, [names.join(":")]]) {
    const line = assertFailure(run(["--keystore", dir], { input: wrapRequest(values), timeout: 5000 }), 1);
    assert.match(line, /more than 64 recipients; /);
  }
  assert.is(
    parsed(wrap(dir, [...names.slice(0, 64), "kid0", thumbprintOf(named["kid1"] ?? {})])).recipients.length,
    64,
    "the same ones again do not count",
  );
});

test("refuses to seal nothing, for nobody, or too much, and says so of the request", async () => {
  const recipients = recipientsOf({ one: keys.p256 });
  assert.match((await failure(Buffer.alloc(0), recipients)).message, /nothing to wrap/);
  assert.is(
    (
      await failure(
        data,
        Array.from({ length: 65 }, (_, at) => recipient(`kid${at}`, keys.a256)),
      )
    ).message,
    "more than 64 recipients",
  );
  for (const size of [256 * 1024 + 1, 256 * 1024, 200 * 1024]) {
    const error = await failure(Buffer.alloc(size), recipients);
    assert.is(error.code, "request", `${size} bytes: ${error.message}; ${error.hint}`);
  }
});

test("refuses a symmetric recipient without its secret, and a key that may not wrap", async () => {
  assert.match((await failure(data, [{ kid: "k", jwk: { kty: "oct" } }])).message, /key k cannot encrypt/);
  for (const own of [{ use: "sig" }, { key_ops: ["verify"] }, { alg: "RS256" }, { alg: "ECDH-ES+A256KW" }]) {
    const error = await failure(data, [recipient("fine", keys.p256), recipient("k", { ...keys.rsa, ...own })]);
    assert.match(error.message, /^key k cannot encrypt: its "/);
    assert.is(error.code, "key");
  }
});

test(`writes a fresh iv, epk, tag, ciphertext and encrypted key in each of ${endurance(1000)} processes`, () => {
  const count = endurance(1000);
  const seen: Record<string, Set<unknown>> = {};
  for (let round = 0; round < count; round++) {
    const jwe = parsed(wrap(store, ["p256", "rsa", "a256"]));
    const epk = jwe.recipients[0]?.header?.["epk"] as PlainJwk;
    const fresh = { iv: jwe.iv, tag: jwe.tag, ciphertext: jwe.ciphertext, x: epk["x"], y: epk["y"] };
    const wrapped = Object.fromEntries(
      jwe.recipients.map(({ encrypted_key }, at) => [`encrypted_key ${at}`, encrypted_key]),
    );
    for (const [name, value] of Object.entries({ ...fresh, ...wrapped })) (seen[name] ??= new Set()).add(value);
  }
  assert.is(Object.keys(seen).length, 8);
  for (const [name, values] of Object.entries(seen)) assert.is(values.size, count, name);
});

test.run();
