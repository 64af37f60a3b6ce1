// The store against a model of it: whatever is done to it in whatever order, it holds what the model says, and every
// annotation opens whose key was not removed. And bytes from anywhere: nothing but our own errors comes of them.

import { createECDH } from "node:crypto";
import { rmSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { asKeystoreError, KeystoreError } from "../../src/errors.ts";
import { parseJson } from "../../src/json.ts";
import { openAtRest, sealAtRest } from "../../src/jwe/at-rest.ts";
import { parseJwe } from "../../src/jwe/gate.ts";
import type { PrivateKeys } from "../../src/jwe/key.ts";
import { open } from "../../src/jwe/open.ts";
import { seal } from "../../src/jwe/seal.ts";
import { checkJwk, CURVES, isPrivate, publicJwk, thumbprint, toPrivateKey, toPublicKey, type Curve, type EcJwk, type Jwk, type RsaJwk } from "../../src/jwk/jwk.ts";
import { addKey, removeKey, rotateKey, setDefault } from "../../src/keystore/change.ts";
import { readDefault } from "../../src/keystore/directory.ts";
import { entries } from "../../src/keystore/entries.ts";
import { fileKey } from "../../src/keystore/file-key.ts";
import { generateJwk } from "../../src/keystore/generate.ts";
import { parseKey } from "../../src/keystore/import.ts";
import { lockKeys, unlockKeys } from "../../src/keystore/locked.ts";
import { secretFiles } from "../../src/keystore/secrets.ts";
import { parseRequest } from "../../src/protocol/request.ts";
import { assertClosed, assertOpens, masterKeyFile, tree, wrapHere } from "../store.ts";
import { endurance, OPTSDATA, recorded, temporaryFolder } from "../support.ts";

// The store's model.

const PAIR = generateJwk({ type: "ec" });
const OTHER = generateJwk({ type: "ec", curve: "P-384" });
const SYMMETRIC = generateJwk({ type: "oct" });
/** The keys that are imported again and again: pairs, halves of them, a symmetric one. */
const FIXED: readonly Jwk[] = [PAIR, publicJwk(PAIR), OTHER, publicJwk(OTHER), SYMMETRIC];
const NAMES = ["a", "b", "c", "default", PAIR.kid ?? ""];

type Step =
  | { readonly do: "keygen"; readonly name: string; readonly type: "ec" | "oct" }
  | { readonly do: "import"; readonly name: string; readonly key: Jwk; readonly force: boolean }
  | { readonly do: "rotate" | "default"; readonly name: string }
  | { readonly do: "remove"; readonly target: string | number; readonly force: boolean; readonly purge: boolean }
  | { readonly do: "lock" | "unlock" };

const name = fc.constantFrom(...NAMES);
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ do: fc.constant("keygen" as const), name, type: fc.constantFrom("ec" as const, "oct" as const) }),
  fc.record({ do: fc.constant("import" as const), name, key: fc.constantFrom(...FIXED), force: fc.boolean() }),
  fc.record({ do: fc.constantFrom("rotate" as const, "rotate" as const, "default" as const), name }),
  // a number stands for one of the kids that were ever there
  fc.record({ do: fc.constant("remove" as const), target: fc.oneof(name, fc.nat(20)), force: fc.boolean(), purge: fc.boolean() }),
  fc.record({ do: fc.constantFrom("lock" as const, "unlock" as const) }),
);

/** What should happen: an error's code, or a kid that is not known before it is made. */
type Outcome = "store" | "recipient" | "done";

class Model {
  readonly names = new Map<string, string[]>();
  /** Each key of the store, and whether its private half is there. */
  readonly keys = new Map<string, boolean>();
  /** The kids whose private keys lie in removed/: they are locked with the others. */
  readonly removed = new Set<string>();
  readonly seen: string[] = [];
  default: string | undefined;
  locked = false;

  /** The state after adding, if it is allowed. */
  add(into: string, kid: string, secret: boolean, force: boolean): Outcome {
    const former = this.names.get(into);
    if (this.keys.has(into) || (former !== undefined && !force) || this.names.has(kid)) return "store";
    this.keys.set(kid, secret || this.keys.get(kid) === true);
    this.names.set(into, [kid, ...(former ?? []).filter((one) => one !== kid)]);
    this.default ??= into;
    if (!this.seen.includes(kid)) this.seen.push(kid);
    return "done";
  }

  /** The state after rotating: of the default it changes nothing. */
  rotate(which: string, kid: string): Outcome {
    const { default: before } = this;
    const outcome = this.add(which, kid, true, true);
    this.default = before;
    return outcome;
  }

  canRotate(which: string): boolean {
    return this.keys.get(this.names.get(which)?.[0] ?? "") === true;
  }

  remove(target: string, force: boolean, purge: boolean): Outcome {
    const ofName = this.names.get(target);
    if (ofName === undefined && !this.keys.has(target)) return "recipient";
    const holders = ofName === undefined ? [...this.names].filter(([, kids]) => kids.includes(target)) : [[target, ofName] as const];
    const rest = (kids: readonly string[]): string[] => (ofName === undefined ? kids.filter((kid) => kid !== target) : []);
    if (ofName === undefined && holders.some(([, kids]) => kids[0] === target && kids.length > 1)) return "store";
    const untouched = [...this.names].filter(([one]) => holders.every(([holder]) => holder !== one)).flatMap(([, kids]) => kids);
    const gone = (ofName ?? [target]).filter((kid) => !untouched.includes(kid));
    if (!force && gone.some((kid) => this.keys.get(kid) === true)) return "store";
    for (const [holder, kids] of holders) {
      if (rest(kids).length > 0) this.names.set(holder, rest(kids));
      else this.names.delete(holder);
      if (rest(kids).length === 0 && this.default === holder) this.default = undefined;
    }
    for (const kid of gone) {
      if (this.keys.get(kid) === true && !purge) this.removed.add(kid);
      this.keys.delete(kid);
    }
    if (!this.anyPrivate) this.locked = false; // nothing is left to tell
    return "done";
  }

  get anyPrivate(): boolean {
    return this.removed.size > 0 || [...this.keys.values()].includes(true);
  }

  get rows(): string[] {
    return [...this.names]
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .flatMap(([one, kids]) =>
        kids.map((kid, place) => {
          const secret = this.keys.get(kid) === true ? (this.locked ? "locked" : "file") : "none";
          return `${one} ${kid} ${place === 0 ? "current" : "retired"} ${secret}${place === 0 && this.default === one ? " default" : ""}`;
        }),
      );
  }
}

const withMasterKey = secretFiles({ masterKeyFile: masterKeyFile() });

/** Does a step to the store and the model. @returns what should have happened and what did */
async function take(dir: string, model: Model, one: Step): Promise<readonly [expected: Outcome, actual: string]> {
  const outcome = async (work: Promise<unknown>): Promise<string> => await work.then(() => "done", (error: unknown) => asKeystoreError(error).code);
  switch (one.do) {
    case "keygen": {
      const key = generateJwk({ type: one.type });
      return [model.add(one.name, key.kid ?? "", true, false), await outcome(addKey(dir, one.name, key, withMasterKey))];
    }
    case "import": {
      if (one.name === kidOfFixed(one.key)) return ["done", "done"]; // test/cli/import.test.ts has that
      const key = await parseKey(Buffer.from(JSON.stringify(one.key)), () => Promise.resolve(Buffer.alloc(0)));
      return [model.add(one.name, kidOfFixed(one.key), isPrivate(one.key), one.force), await outcome(addKey(dir, one.name, key, withMasterKey, one.force))];
    }
    case "rotate": {
      if (!model.canRotate(one.name)) return ["recipient", await outcome(rotateKey(dir, one.name, withMasterKey))];
      return [model.rotate(one.name, await rotateKey(dir, one.name, withMasterKey)), "done"];
    }
    case "default": {
      const actual = await outcome(setDefault(dir, one.name));
      if (!model.names.has(one.name)) return ["recipient", actual];
      model.default = one.name;
      return ["done", actual];
    }
    case "remove": {
      const target = typeof one.target === "string" ? one.target : (model.seen[one.target % Math.max(1, model.seen.length)] ?? "never");
      return [model.remove(target, one.force, one.purge), await outcome(removeKey(dir, target, one))];
    }
    case "lock":
    case "unlock": {
      const work = one.do === "lock" ? lockKeys(dir, "master key", withMasterKey) : unlockKeys(dir, withMasterKey);
      model.locked = one.do === "lock" && model.anyPrivate;
      return ["done", await outcome(work)];
    }
  }
  throw new Error("no such step");
}

function kidOfFixed(jwk: Jwk): string {
  return jwk.kty === "oct" ? (jwk.kid ?? "") : thumbprint(jwk);
}

/** Everything that a user relies on, read from the store. */
async function assertIsAsModelled(dir: string, model: Model, annotations: Map<string, Buffer>): Promise<void> {
  assert.equal(
    entries(dir).map((entry) => `${entry.name} ${entry.kid} ${entry.state} ${entry.private}${entry.default ? " default" : ""}`),
    model.rows,
  );
  assert.is(readDefault(dir), model.default);
  for (const [kid, annotation] of annotations) {
    if (model.keys.get(kid) === true) await assertOpens(dir, annotation, withMasterKey);
    else await assertClosed(dir, annotation, withMasterKey);
  }
  const current = new Set([...model.names.values()].map(([kid]) => kid));
  for (const [one, [kid = "", ...retired]] of model.names) {
    const annotation = await wrapHere(dir, one, withMasterKey);
    const { recipients } = JSON.parse(annotation.toString()) as { recipients: { header: { kid: string } }[] };
    assert.equal(recipients.map(({ header }) => header.kid), [kid], `${one} wraps for its current key`);
    annotations.set(kid, annotation);
    for (const old of retired.filter((other) => !current.has(other))) {
      const error = await wrapHere(dir, old, withMasterKey).catch((reason: unknown) => reason);
      assert.match(String(error), "is retired and wraps no more");
    }
  }
  const files = Object.keys(tree(dir));
  assert.equal(files.filter((file) => /\.lock|\.tmp/.test(file)), []);
  assert.equal(files.filter((file) => /^(private|removed)\/[^.]+\.jw[ek]$/.test(file) && file.endsWith(".jwk") === model.locked), [], "all are locked, or none is");
}

test("a store holds what its model says, after any commands in any order", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 25 }), async (steps) => {
      const dir = join(temporaryFolder(), "store");
      const model = new Model();
      const annotations = new Map<string, Buffer>();
      await addKey(dir, "a", PAIR, withMasterKey);
      model.add("a", kidOfFixed(PAIR), true, false);
      for (const one of steps) {
        const [expected, actual] = await take(dir, model, one);
        assert.is(actual, expected, JSON.stringify(one));
        await assertIsAsModelled(dir, model, annotations);
      }
      rmSync(dir, { recursive: true });
    }),
    { numRuns: endurance(2500), includeErrorInReport: true },
  );
});

// Keys from JWK to PEM and back.

const noPassphrase = (): Promise<Buffer> => Promise.reject(new Error("nobody asked for one"));
const parse = async (content: string): Promise<Jwk> => await parseKey(Buffer.from(content), noPassphrase);

function ecKey(crv: Curve, d: bigint): EcJwk & { d: string } {
  const { openssl, bytes } = CURVES[crv];
  const ecdh = createECDH(openssl);
  const scalar = Buffer.from(d.toString(16).padStart(bytes * 2, "0"), "hex");
  ecdh.setPrivateKey(scalar);
  const both = ecdh.getPublicKey();
  const text = (from: number): string => both.subarray(from, from + bytes).toString("base64url");
  return { kty: "EC", crv, x: text(1), y: text(1 + bytes), d: scalar.toString("base64url") };
}

async function assertRoundTrip(jwk: EcJwk | RsaJwk): Promise<void> {
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
    fc.asyncProperty(fc.constantFrom(...(Object.keys(CURVES) as Curve[])), fc.oneof(small, large), async (crv, d) => await assertRoundTrip(ecKey(crv, d))),
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

// Bytes from anywhere.

class Refused extends Error {}
const refuse = (reason: string): Error => new Refused(reason);

const RSA_KEY = generateJwk({ type: "rsa", bits: 2048 });
const MASTER_KEY = Buffer.alloc(32, 7);
const KEYS: readonly Jwk[] = [PAIR, OTHER, SYMMETRIC, RSA_KEY];
const privateKeys: PrivateKeys = {
  privateKey: (kid) => Promise.resolve(KEYS.filter((jwk) => jwk.kid === kid).map((jwk) => fileKey(kid, jwk))[0]),
  privateKids: () => Promise.resolve(KEYS.map(({ kid }) => kid ?? "")),
};
const recipients = KEYS.map((jwk) => ({ kid: jwk.kid ?? "", jwk }));
const pem = (jwk: Jwk): Buffer => Buffer.from(jwk.kty === "oct" ? "" : String(toPrivateKey(jwk).export({ type: "pkcs8", format: "pem", cipher: "aes-256-cbc", passphrase: "secret" })));

async function cheapPassphrase(): Promise<Buffer> {
  return Buffer.from((await sealAtRest(Buffer.from(JSON.stringify(PAIR)), "passphrase", MASTER_KEY)).toString().replace(/"p2c":\d+/, '"p2c":1000'));
}

/** Valid inputs of everything that parses. */
const VALID: readonly Buffer[] = [
  ...KEYS.map((jwk) => Buffer.from(JSON.stringify(jwk))),
  Buffer.from(JSON.stringify({ keys: [publicJwk(RSA_KEY)] })),
  pem(PAIR),
  Buffer.from(String(toPrivateKey(PAIR as EcJwk).export({ type: "sec1", format: "pem" }))),
  await seal(Buffer.from(OPTSDATA), recipients),
  await seal(Buffer.from(OPTSDATA), recipients.slice(0, 1)),
  Buffer.from("eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..AAAAAAAAAAAAAAAA.AAAA.AAAAAAAAAAAAAAAAAAAAAA"),
  await sealAtRest(Buffer.from(JSON.stringify(PAIR)), "master key", MASTER_KEY),
  await cheapPassphrase(),
  Buffer.from(recorded("wrap-skopeo-two")),
  Buffer.from(recorded("unwrap-skopeo")),
];

const PARSERS: Readonly<Record<string, (bytes: Buffer) => unknown>> = {
  parseJson: (bytes) => parseJson(bytes, 8, refuse),
  checkJwk: (bytes) => checkJwk(parseJson(bytes, 8, refuse), refuse),
  parseKey: async (bytes) => await parseKey(bytes, () => Promise.resolve(Buffer.from("secret"))),
  parseJwe,
  parseRequest,
  open: async (bytes) => await open(bytes, privateKeys),
  openAtRest: async (bytes) => await openAtRest(bytes, "master key", () => Promise.resolve(MASTER_KEY)),
};

/** Runs every parser: none throws anything but our own errors, whose words quote nothing. */
async function assertOnlyOurErrors(bytes: Buffer): Promise<void> {
  for (const [parser, run] of Object.entries(PARSERS)) {
    try {
      await run(bytes);
    } catch (error) {
      assert.ok(error instanceof KeystoreError || error instanceof Refused, `${parser}: ${error instanceof Error ? (error.stack ?? "") : String(error)}`);
      if (!/kid|made for|unknown op/.test(error.message)) assert.ok(error.message.length < 200, `${parser} quotes its input`);
    }
  }
}

interface Place {
  readonly holder: Record<string, unknown>;
  readonly name: string;
}

function places(value: unknown): Place[] {
  if (typeof value !== "object" || value === null) return [];
  const holder = value as Record<string, unknown>;
  return Object.keys(holder).flatMap((one) => [{ holder, name: one }, ...places(holder[one])]);
}

const change = fc.record({ where: fc.nat(), how: fc.constantFrom("replace", "delete", "rename", "cut", "append", "wrap"), by: fc.jsonValue({ maxDepth: 3 }), text: fc.string({ unit: "binary" }) });

/** Valid JSON of ours with some of its members changed. */
function mutateJson(valid: Buffer, changes: readonly { where: number; how: string; by: unknown; text: string }[]): Buffer {
  const value: unknown = JSON.parse(valid.toString());
  for (const { where, how, by, text } of changes) {
    const all = places(value);
    const place = all[where % Math.max(1, all.length)];
    if (place === undefined) break;
    const { holder, name: at } = place;
    const old = holder[at];
    if (how === "delete") delete holder[at];
    else if (how === "rename") holder[text] = old;
    else if (how === "cut" && typeof old === "string") holder[at] = old.slice(0, where % (old.length + 1));
    else if (how === "append" && typeof old === "string") holder[at] = old + text;
    else if (how === "wrap") holder[at] = [old, old];
    else holder[at] = by;
  }
  return Buffer.from(JSON.stringify(value));
}

const runs = { numRuns: endurance(20_000), includeErrorInReport: true };

test("no bytes make a parser throw anything but our own errors: random ones", async () => {
  const start = fc.constantFrom("", "{", "[", '{"', "-----BEGIN ", "a.b.c.d.");
  await fc.assert(
    fc.asyncProperty(start, fc.uint8Array({ maxLength: 400 }), async (first, bytes) => await assertOnlyOurErrors(Buffer.concat([Buffer.from(first), bytes]))),
    runs,
  );
});

test("no bytes make a parser throw anything but our own errors: any JSON", async () => {
  await fc.assert(fc.asyncProperty(fc.json({ stringUnit: "binary", maxDepth: 10 }), async (text) => await assertOnlyOurErrors(Buffer.from(text))), runs);
});

test("no bytes make a parser throw anything but our own errors: valid ones with bytes changed, cut or doubled", async () => {
  const edit = fc.record({ at: fc.nat(), length: fc.nat(40), bytes: fc.uint8Array({ maxLength: 8 }) });
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...VALID), fc.array(edit, { minLength: 1, maxLength: 4 }), async (valid, edits) => {
      let bytes = valid;
      for (const { at, length, bytes: put } of edits) {
        const from = at % (bytes.length + 1);
        bytes = Buffer.concat([bytes.subarray(0, from), put, bytes.subarray(from + (put.length === 0 ? length : put.length))]);
      }
      await assertOnlyOurErrors(bytes);
    }),
    runs,
  );
});

test("no bytes make a parser throw anything but our own errors: valid JSON with members changed", async () => {
  const json = VALID.filter((bytes) => bytes[0] === 0x7b);
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...json), fc.array(change, { minLength: 1, maxLength: 4 }), async (valid, changes) => await assertOnlyOurErrors(mutateJson(valid, changes))),
    runs,
  );
});

test("the valid ones are valid: each is taken by the parser that it is for", async () => {
  for (const bytes of VALID) {
    const taken = await Promise.all(Object.values(PARSERS).slice(1).map(async (run) => await Promise.resolve().then(async () => await run(bytes)).then((value) => value !== undefined, () => false)));
    assert.ok(taken.includes(true), bytes.toString().slice(0, 60));
  }
});

test.run();
