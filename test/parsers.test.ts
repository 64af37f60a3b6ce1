// Bytes from anywhere: nothing but our own errors comes of them, whatever parses them.

import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { KeystoreError } from "../src/errors.ts";
import { parseJson } from "../src/json.ts";
import { atRestBySecret } from "../src/at-rest/secret.ts";
import type { SecretKind } from "../src/at-rest/locked-file.ts";
import { parseJwe } from "../src/jwe/gate.ts";
import type { PrivateKeys } from "../src/jwe/key.ts";
import { open } from "../src/jwe/open.ts";
import { seal } from "../src/jwe/seal.ts";
import { point, type EcPrivateJwk } from "../src/jwk/ec.ts";
import type { RsaPrivateJwk } from "../src/jwk/rsa.ts";
import { checkJwk, generateJwk, publicJwk, toPrivateKey, type PrivateJwk } from "../src/jwk/jwk.ts";
import { memoryKey } from "../src/keys/memory.ts";
import { parseKey } from "../src/keys/import.ts";
import { parseRequest } from "../src/protocol/request.ts";
import { endurance } from "./support/parts.ts";
import { OPTSDATA, recorded } from "./support/requests.ts";

const sealAtRest = async (jwk: Buffer, kind: SecretKind, secret: Buffer): Promise<Buffer> =>
  await atRestBySecret(kind, () => Promise.resolve(secret)).seal(jwk);

const PAIR = generateJwk({ type: "ec" });
const OTHER = generateJwk({ type: "ec", curve: "P-384" });
const SYMMETRIC = generateJwk({ type: "oct" });

class Refused extends Error {}
const refuse = (reason: string): Error => new Refused(reason);

const RSA_KEY = generateJwk({ type: "rsa", bits: 2048 });
const MASTER_KEY = Buffer.alloc(32, 7);
const KEYS: readonly PrivateJwk[] = [PAIR, OTHER, SYMMETRIC, RSA_KEY];
const privateKeys: PrivateKeys = {
  privateKey: (kid) => Promise.resolve(KEYS.filter((jwk) => jwk.kid === kid).map((jwk) => memoryKey(kid, jwk))[0]),
  privateKids: () => Promise.resolve(KEYS.map(({ kid }) => kid ?? "")),
};
const recipients = KEYS.map((jwk) => ({ kid: jwk.kid ?? "", jwk }));
const pem = (jwk: PrivateJwk): Buffer =>
  Buffer.from(
    jwk.kty === "oct"
      ? ""
      : String(toPrivateKey(jwk).export({ type: "pkcs8", format: "pem", cipher: "aes-256-cbc", passphrase: "secret" })),
  );

async function cheapPassphrase(): Promise<Buffer> {
  return Buffer.from(
    (await sealAtRest(Buffer.from(JSON.stringify(PAIR)), "passphrase", MASTER_KEY))
      .toString()
      .replace(/"p2c":\d+/, '"p2c":1000'),
  );
}

/** A key of P-256 as a line of authorized_keys. */
function sshLine(jwk: EcPrivateJwk): string {
  const string = (bytes: Buffer): Buffer => {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    return Buffer.concat([length, bytes]);
  };
  const type = "ecdsa-sha2-nistp256";
  const blob = [string(Buffer.from(type)), string(Buffer.from("nistp256")), string(point(jwk))];
  return `no-pty ${type} ${Buffer.concat(blob).toString("base64")} me@example.org\n`;
}

/** Valid inputs of everything that parses. */
const VALID: readonly Buffer[] = [
  ...KEYS.map((jwk) => Buffer.from(JSON.stringify(jwk))),
  Buffer.from(JSON.stringify({ keys: [publicJwk(RSA_KEY)] })),
  pem(PAIR),
  Buffer.from(String(toPrivateKey(PAIR as EcPrivateJwk).export({ type: "sec1", format: "pem" }))),
  toPrivateKey(RSA_KEY as RsaPrivateJwk).export({ type: "pkcs8", format: "der" }),
  Buffer.from(sshLine(PAIR as EcPrivateJwk)),
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
  openAtRest: async (bytes) => await atRestBySecret("master key", () => Promise.resolve(MASTER_KEY)).open(bytes),
};

/** Runs every parser: none throws anything but our own errors, whose words quote nothing. */
async function assertOnlyOurErrors(bytes: Buffer): Promise<void> {
  for (const [parser, run] of Object.entries(PARSERS)) {
    try {
      await run(bytes);
    } catch (error) {
      assert.ok(
        error instanceof KeystoreError || error instanceof Refused,
        `${parser}: ${error instanceof Error ? (error.stack ?? "") : String(error)}`,
      );
      if (!/kid|made for|unknown op/.test(error.message))
        assert.ok(error.message.length < 200, `${parser} quotes its input`);
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

const change = fc.record({
  where: fc.nat(),
  how: fc.constantFrom("replace", "delete", "rename", "cut", "append", "wrap"),
  by: fc.jsonValue({ maxDepth: 3 }),
  text: fc.string({ unit: "binary" }),
});

/** Valid JSON of ours with some of its members changed. */
function mutateJson(
  valid: Buffer,
  changes: readonly { where: number; how: string; by: unknown; text: string }[],
): Buffer {
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
    fc.asyncProperty(
      start,
      fc.uint8Array({ maxLength: 400 }),
      async (first, bytes) => await assertOnlyOurErrors(Buffer.concat([Buffer.from(first), bytes])),
    ),
    runs,
  );
});

test("no bytes make a parser throw anything but our own errors: any JSON", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.json({ stringUnit: "binary", maxDepth: 10 }),
      async (text) => await assertOnlyOurErrors(Buffer.from(text)),
    ),
    runs,
  );
});

test("no bytes make a parser throw anything but our own errors: valid ones with bytes changed, cut or doubled", async () => {
  const edit = fc.record({ at: fc.nat(), length: fc.nat(40), bytes: fc.uint8Array({ maxLength: 8 }) });
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...VALID),
      fc.array(edit, { minLength: 1, maxLength: 4 }),
      async (valid, edits) => {
        let bytes = valid;
        for (const { at, length, bytes: put } of edits) {
          const from = at % (bytes.length + 1);
          bytes = Buffer.concat([
            bytes.subarray(0, from),
            put,
            bytes.subarray(from + (put.length === 0 ? length : put.length)),
          ]);
        }
        await assertOnlyOurErrors(bytes);
      },
    ),
    runs,
  );
});

test("no bytes make a parser throw anything but our own errors: valid JSON with members changed", async () => {
  const json = VALID.filter((bytes) => bytes[0] === 0x7b);
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...json),
      fc.array(change, { minLength: 1, maxLength: 4 }),
      async (valid, changes) => await assertOnlyOurErrors(mutateJson(valid, changes)),
    ),
    runs,
  );
});

test("the valid ones are valid: each is taken by the parser that it is for", async () => {
  for (const bytes of VALID) {
    const taken = await Promise.all(
      Object.values(PARSERS)
        .slice(1)
        .map(
          async (run) =>
            await Promise.resolve()
              .then(async () => await run(bytes))
              .then(
                (value) => value !== undefined,
                () => false,
              ),
        ),
    );
    assert.ok(taken.includes(true), bytes.toString().slice(0, 60));
  }
});

test.run();
