// Debian's jose, a JOSE of other authors in C: it opens what we wrap, we open what it writes. Its build has no RSA-OAEP.

import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { open } from "../../src/jwe/open.ts";
import { openStore } from "../../src/keystore/store.ts";
import { temporaryFolder } from "../support/folders.ts";
import { placeKey, privateKeyFile, type PrivateJwk } from "../support/foreign-keys.ts";
import { endurance, testWith } from "../support/parts.ts";
import { assertFailure, run } from "../support/program.ts";
import { OPTSDATA, unwrap, unwrapRequest, wrap } from "../support/requests.ts";
import { makeStore, noSecrets, wrapHere } from "../support/stores.ts";

const listed = spawnSync("jose", ["alg"], { encoding: "utf8" });
const found = listed.status === 0 ? listed.stdout.split("\n") : undefined;
const withJose = (name: string, body: () => void | Promise<void>): void =>
  testWith(found, "Debian's package jose", name, body);

function jose(args: readonly string[], input: string | Buffer = ""): { code: number | null; output: string } {
  const { status, stdout } = spawnSync("jose", args, { input, timeout: 20_000 });
  return { code: status, output: stdout.toString() };
}

function mustJose(args: readonly string[], input?: string | Buffer): string {
  const { code, output } = jose(args, input);
  assert.is(code, 0, `jose ${args.join(" ")}`);
  return output;
}

/** A key that jose makes from a template such as `{"alg":"A256KW"}`. */
function joseKey(template: object): PrivateJwk {
  return JSON.parse(mustJose(["jwk", "gen", "-i", JSON.stringify(template)])) as PrivateJwk;
}

/** Writes JSON for jose to read. */
function file(value: object): string {
  const path = join(temporaryFolder(), "file.json");
  writeFileSync(path, JSON.stringify(value));
  return path;
}

/** What jose writes for keys: flattened for one, general for several. `recipients` are templates, one a key. */
function joseEncrypt(
  keys: readonly PrivateJwk[],
  {
    template = {},
    recipients = [],
    compact = false,
  }: { template?: object; recipients?: readonly object[]; compact?: boolean } = {},
): string {
  const options = [
    ...recipients.flatMap((recipient) => ["-r", file(recipient)]),
    ...keys.flatMap((key) => ["-k", file(key)]),
    ...(compact ? ["-c"] : []),
  ];
  return mustJose(["jwe", "enc", "-i", JSON.stringify(template), "-I-", ...options], OPTSDATA);
}

function assertJoseOpens(annotation: Buffer, keyFile: string): void {
  assert.is(mustJose(["jwe", "dec", "-i-", "-k", keyFile], annotation), OPTSDATA);
}

/** What a store opens an annotation to, in this process. */
async function unwrapHere(dir: string, annotation: string): Promise<string> {
  return (await open(Buffer.from(annotation), openStore(dir, noSecrets))).toString();
}

/** A store with these keys, named after their places. */
function storeWith(...keys: readonly PrivateJwk[]): string {
  const dir = join(temporaryFolder(), "store");
  keys.forEach((key, place) => placeKey(dir, String(place), key));
  return dir;
}

// A store of ours, and jose opens what it wraps.

const store = makeStore(
  "p256",
  "p384:--curve P-384",
  "p521:--curve P-521",
  "oct:--type oct",
  "rsa:--type rsa --bits 2048",
  "other",
  "other-oct:--type oct",
);

for (const names of [
  ["p256"],
  ["p384"],
  ["p521"],
  ["oct"],
  ["p256", "p521"],
  ["p521", "p384"],
  ["p384", "oct"],
  ["oct", "p256"],
  ["rsa", "p256"],
  ["p521", "rsa"],
  ["oct", "rsa", "p384", "p256", "p521"],
]) {
  withJose(`jose opens what is wrapped for ${names.join(" and ")}, with each key that it has an algorithm for`, () => {
    const annotation = wrap(store, names);
    for (const name of names.filter((one) => one !== "rsa")) assertJoseOpens(annotation, privateKeyFile(store, name));
    for (const other of ["other", "other-oct"])
      assert.is(jose(["jwe", "dec", "-i-", "-k", privateKeyFile(store, other)], annotation).code, 1);
  });
}

// Keys of jose's own, with the key_ops it writes; both directions.

const CURVES = ["P-256", "P-384", "P-521"];
const ECDH = ["ECDH-ES+A128KW", "ECDH-ES+A192KW", "ECDH-ES+A256KW"];
const KEY_WRAP = ["A128KW", "A192KW", "A256KW"];
const ENCRYPTIONS = ["A128GCM", "A192GCM", "A256GCM", "A128CBC-HS256", "A192CBC-HS384", "A256CBC-HS512"];

for (const template of [
  ...CURVES.map((crv) => ({ kty: "EC", crv })),
  ...[16, 24, 32].map((bytes) => ({ kty: "oct", bytes })),
  ...[...ECDH, ...KEY_WRAP].map((alg) => ({ alg })),
]) {
  withJose(
    `a key that jose makes from ${JSON.stringify(template)} opens what jose writes for it, and wraps what jose opens`,
    async () => {
      const key = joseKey(template);
      if ("alg" in template) assert.equal(key["key_ops"], ["wrapKey", "unwrapKey"]);
      const dir = storeWith(key);
      assert.match(joseEncrypt([key]), /^\{.*"header":\{"alg":/, "flattened");
      assert.is(await unwrapHere(dir, joseEncrypt([key])), OPTSDATA);
      const compact = joseEncrypt([key], { compact: true });
      assert.match(compact, /^[\w-]+\.[\w-]+\.[\w-]+\.[\w-]+\.[\w-]+$/);
      assert.is(await unwrapHere(dir, compact), OPTSDATA);
      const annotation = await wrapHere(dir, "0");
      if ("alg" in template) assert.match(annotation.toString(), `"alg":"${template.alg}"`);
      assertJoseOpens(annotation, file(key));
    },
  );
}

for (const enc of ENCRYPTIONS) {
  withJose(`opens ${enc} as jose writes it, flattened, compact and for several`, async () => {
    const keys = [joseKey({ kty: "EC", crv: "P-256" }), joseKey({ alg: "A256KW" })];
    const template = { protected: { enc } };
    for (const key of keys) {
      for (const compact of [false, true])
        assert.is(await unwrapHere(storeWith(key), joseEncrypt([key], { template, compact })), OPTSDATA);
      assert.is(await unwrapHere(storeWith(key), joseEncrypt(keys, { template })), OPTSDATA);
    }
  });
}

withJose("opens every pair of algorithm and curve that jose writes", async () => {
  for (const crv of CURVES) {
    const key = joseKey({ kty: "EC", crv });
    const dir = storeWith(key);
    for (const alg of ECDH) {
      const jwe = joseEncrypt([key], { recipients: [{ header: { alg } }] });
      assert.match(jwe, `"alg":"${alg}"`);
      assert.is(await unwrapHere(dir, jwe), OPTSDATA);
    }
  }
});

withJose("opens what jose writes for several recipients with any one of their keys, whatever their order", async () => {
  const keys = [
    ...CURVES.map((crv) => ({ kty: "EC", crv })),
    { kty: "EC", crv: "P-256" },
    ...KEY_WRAP.map((alg) => ({ alg })),
  ].map(joseKey);
  for (const order of [keys, keys.toReversed()]) {
    const jwe = joseEncrypt(order);
    assert.is((JSON.parse(jwe) as { recipients: unknown[] }).recipients.length, keys.length);
    for (const key of keys) assert.is(await unwrapHere(storeWith(key), jwe), OPTSDATA);
    assert.match(
      assertFailure(run(["--keystore", store], { input: unwrapRequest(jwe) }), 3),
      /no private key of the store opens this annotation \(it names no kid\)/,
    );
  }
});

withJose("skips recipients that only jose can open", async () => {
  const mine = joseKey({ kty: "EC", crv: "P-384" });
  const jwe = joseEncrypt([joseKey({ alg: "A256GCMKW" }), joseKey({ alg: "PBES2-HS256+A128KW" }), mine]);
  assert.match(jwe, /A256GCMKW.*PBES2/);
  assert.is(await unwrapHere(storeWith(joseKey({ alg: "A256KW" }), mine), jwe), OPTSDATA);
});

withJose("takes jose's party info into the key agreement", () => {
  const key = joseKey({ kty: "EC", crv: "P-256" });
  for (const header of [{ apu: "QWxpY2U" }, { apv: "Qm9i" }, { apu: "QWxpY2U", apv: "Qm9i" }]) {
    const jwe = joseEncrypt([key], { recipients: [{ header }] });
    for (const [name, value] of Object.entries(header)) assert.match(jwe, `"${name}":"${value}"`);
    assert.is(unwrap(storeWith(key), jwe), OPTSDATA);
    assert.is(unwrap(storeWith(key), joseEncrypt([key], { recipients: [{ header }], compact: true })), OPTSDATA);
  }
});

withJose("takes a kid in jose's headers as a hint: right, of another key or of nobody", async () => {
  const key = joseKey({ kty: "EC", crv: "P-256" });
  const dir = storeWith(key);
  const [right, another] = [placeKey(dir, "mine", key), placeKey(dir, "another", joseKey({ kty: "EC", crv: "P-256" }))];
  for (const kid of [right, another, "nobody", "../../names/mine"]) {
    assert.is(await unwrapHere(dir, joseEncrypt([key], { recipients: [{ header: { kid } }] })), OPTSDATA);
  }
});

withJose("authenticates the additional data that jose protects", async () => {
  const key = joseKey({ kty: "EC", crv: "P-256" });
  const jwe = joseEncrypt([key], { template: { aad: "QUJD" } });
  assert.match(jwe, /"aad":"QUJD"/);
  assert.is(await unwrapHere(storeWith(key), jwe), OPTSDATA);
  assertFailure(run(["--keystore", storeWith(key)], { input: unwrapRequest(jwe.replace("QUJD", "QUJE")) }), 3);
});

for (const alg of ["ECDH-ES", "A256GCMKW", "PBES2-HS256+A128KW", "RSA1_5"]) {
  if (found?.includes(alg) === false) continue; // what a build leaves out it cannot write
  withJose(`refuses ${alg}, though the store has the key`, async () => {
    const key = joseKey({ alg });
    const { alg: _, ...unlimited } = key;
    for (const dir of [storeWith(key), storeWith(unlimited)]) {
      const line = assertFailure(run(["--keystore", dir], { input: unwrapRequest(joseEncrypt([key])) }), 3);
      assert.match(line, `can open none of the annotation's recipients (alg ${alg});`);
    }
  });
}

withJose("refuses zip, however well compressed", async () => {
  const key = joseKey({ kty: "EC", crv: "P-256" });
  const jwe = joseEncrypt([key], { template: { protected: { zip: "DEF" } } });
  assert.match(
    assertFailure(run(["--keystore", storeWith(key)], { input: unwrapRequest(jwe) }), 1),
    /uses "zip", which is not allowed/,
  );
});

withJose(
  "agrees with jose again and again: one coordinate or shared secret in 256 begins with a zero byte",
  async () => {
    const keys = CURVES.map((crv) => joseKey({ kty: "EC", crv }));
    const [dir, files] = [storeWith(...keys), keys.map(file)];
    for (let round = 0; round < endurance(500); round++) {
      const place = round % keys.length;
      const key = keys[place] ?? {};
      assert.is(await unwrapHere(dir, joseEncrypt([key], { compact: true })), OPTSDATA);
      assertJoseOpens(await wrapHere(dir, String(place)), files[place] ?? "");
    }
  },
);

test.run();
