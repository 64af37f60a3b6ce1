// Answers of Tang servers that lie, hang and flood, and locked files that were changed: one line each, nothing is lost.

import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { verifyAdvertisement } from "../../src/at-rest/advertisement.ts";
import { atRestKind } from "../../src/at-rest/at-rest.ts";
import { meetServer, tangServer } from "../../src/at-rest/tang.ts";
import { errorLine, KeystoreError } from "../../src/errors.ts";
import { generateJwk } from "../../src/jwk/jwk.ts";
import { tree } from "../support/folders.ts";
import { keygenHere, lockForTang, refusedHere, unlockHere } from "../support/here.ts";
import { SLOW } from "../support/http.ts";
import { changed, send, TRANSPORT } from "../support/lies.ts";
import { endurance } from "../support/parts.ts";
import { assertFailure, runBeside } from "../support/program.ts";
import { unwrapRequest } from "../support/requests.ts";
import { assertClosed, assertOpens, commands, makeStore, wrapHere, type Members } from "../support/stores.ts";
import {
  advertisement,
  encoded,
  freshPoint,
  header,
  lockedFile,
  LyingTang,
  pointOf,
  serverOf,
  type Lie,
} from "../support/tang.ts";

// Advertisements that lie.

// Answers that lie.

/** A store that is locked for a server which lies from now on. */
async function liedTo(...names: readonly string[]): Promise<{ tang: LyingTang; dir: string; annotation: Buffer }> {
  const tang = await LyingTang.started();
  const dir = makeStore("alice", ...names);
  const annotation = await wrapHere(dir, "alice");
  assert.is(await lockForTang(dir, tang.url), 1 + names.length);
  await assertOpens(dir, annotation); // as long as it does not lie
  return { tang, dir, annotation };
}

/** The x = epk + e·G of a request, less the epk of the file: e·G. */
const ephemeral = (
  body: Buffer,
  dir: string,
): InstanceType<(typeof import("@noble/curves/nist.js"))["p521"]["Point"]> =>
  pointOf(JSON.parse(body.toString()) as Parameters<typeof pointOf>[0]).subtract(
    pointOf(header(lockedFile(dir, "alice"))["epk"] as Parameters<typeof pointOf>[0]),
  );

const zero = Buffer.alloc(66).toString("base64url");
const ANSWERS: readonly (readonly [name: string, lie: (tang: LyingTang, dir: string) => Lie, line: RegExp])[] = [
  ...TRANSPORT.map(([name, lie, line]) => [name, () => lie, line] as const),
  [
    "is not found",
    () => (_request, response) => void response.writeHead(404).end(),
    /no longer has the key that this file was locked with/,
  ],
  ["is another point", () => send(freshPoint("P-521")), /gives an answer that does not open it/],
  [
    "is what was asked",
    () =>
      ({ body }, response) =>
        void response.end(body),
    /gives an answer that does not open it/,
  ],
  [
    "is off the curve",
    () => changed((jwk) => ({ ...jwk, y: freshPoint("P-521").y })),
    /has a point that is not on its curve/,
  ],
  [
    "is the point at infinity, as zeros",
    () => changed((jwk) => ({ ...jwk, x: zero, y: zero })),
    /has a point that is not on its curve/,
  ],
  [
    "leaves the point at infinity",
    (tang, dir) =>
      ({ body }, response) => {
        const point = ephemeral(body, dir).toBytes(false);
        const [x, y] = [point.subarray(1, 67), point.subarray(67)].map((bytes) =>
          Buffer.from(bytes).toString("base64url"),
        );
        response.end(JSON.stringify(tang.multiply({ kty: "EC", crv: "P-521", x: x ?? "", y: y ?? "" })));
      },
    /gives an answer that leaves no secret/,
  ],
  ["is on another curve", () => send(freshPoint("P-256")), /is not a public key on P-521/],
  ["is a private key", () => send(generateJwk({ type: "ec", curve: "P-521" })), /is not a public key on P-521/],
  ["is an RSA key", () => send(generateJwk({ type: "rsa", bits: 2048 })), /is not a public key on P-521/],
  ["lacks a coordinate", () => changed(({ y: _, ...jwk }) => jwk), /has no y in canonical base64url/],
  ["has a short coordinate", () => changed((jwk) => ({ ...jwk, y: "AA" })), /has a member y of the wrong length/],
];

{
  const { tang, dir, annotation } = await liedTo();
  const before = tree(dir);
  const input = unwrapRequest(annotation);
  for (const [index, [name, lie, line]] of ANSWERS.entries()) {
    test(`withstands an answer that ${name}: one line, exit code 3`, async () => {
      tang.rec = lie(tang, dir);
      const shown =
        index % 12 === 0
          ? assertFailure(await runBeside(["--keystore", dir], { input }), 3)
          : await assertClosed(dir, annotation);
      assert.match(shown, line);
      assert.match(shown, `locked key ${lockedFile(dir, "alice")}: the Tang server ${tang.url} `);
    });
  }
  test("unlocks nothing with a wrong answer, and opens when it lies no more", async () => {
    for (const args of [["unlock"], ["lock", ...serverOf(tang)], ["keygen", "bob"]]) {
      tang.rec = send(freshPoint("P-521"));
      assert.match(
        assertFailure(await runBeside([...args, "--keystore", dir]), 3),
        /gives an answer that does not open it/,
      );
    }
    assert.equal(tree(dir), before);
    tang.rec = undefined;
    assert.is((await runBeside(["--keystore", dir], { input })).code, 0);
  });
}

test("waits 10 s in all for a server that hangs, whatever it does meanwhile and however many keys there are", async () => {
  const hang: Lie = () => undefined;
  const drip: Lie = (_request, response) => void setInterval(() => response.write(" "), 100).unref();
  const silent = createServer(() => undefined)
    .listen(0, "127.0.0.1")
    .unref(); // takes connections and says nothing
  await once(silent, "listening");
  const timed = async (args: readonly string[], input: string, code: number): Promise<void> => {
    const started = Date.now();
    assert.match(
      assertFailure(await runBeside(args, { input }), code),
      /the Tang server http:.* does not answer: nothing whole within 10 s/,
    );
    const took = Date.now() - started;
    assert.ok(took > 9_500 && took < 19_000, `${took} ms`);
  };
  const stores = await Promise.all(
    [hang, drip].map(async (lie) => {
      const { tang, dir, annotation } = await liedTo("bob", "carol");
      tang.rec = lie;
      return { dir, input: unwrapRequest(annotation.toString().replace(/"kid":"[^"]+",?/, "")) }; // so that every key is tried
    }),
  );
  const { port } = silent.address() as { port: number };
  await Promise.all([
    ...Object.entries(SLOW).map(async ([name, behave]) => {
      const tang = await LyingTang.started();
      tang.adv = (_request, response, right) => response.socket && behave(response.socket, right);
      const [started, error] = [
        Date.now(),
        await meetServer(tang.url, async () => undefined).catch((reason: unknown) => reason),
      ];
      assert.match(errorLine(error), "does not answer: nothing whole within 10 s", name);
      assert.ok(Date.now() - started > 9_500 && Date.now() - started < 13_000, name);
    }),
    ...stores.map(async ({ dir, input }) => await timed(["--keystore", dir], input, 3)),
    timed(["lock", "--tang", `http://127.0.0.1:${port}`, "--keystore", makeStore("alice")], "", 3),
  ]);
});

// Files that are no key locked for a server, or a changed one. None is asked for them, where it can be told before.

const FILES: readonly (readonly [name: string, change: (jwe: Members) => Members, line: RegExp])[] = [
  ["no epk", ({ epk: _, ...rest }) => rest, /it is damaged/],
  ["an epk on another curve", (rest) => ({ ...rest, epk: freshPoint("P-256") }), /it is damaged/],
  [
    "an epk that is off its curve",
    (rest) => ({ ...rest, epk: { ...freshPoint("P-521"), y: freshPoint("P-521").y } }),
    /it is damaged/,
  ],
  ["another kid", (rest) => ({ ...rest, kid: "A".repeat(43) }), /it is damaged/],
  ["no kid", ({ kid: _, ...rest }) => rest, /it is damaged/],
  ["another enc", (rest) => ({ ...rest, enc: "A128GCM" }), /it is damaged/],
  ["another pin", (rest) => ({ ...rest, clevis: { pin: "sss" } }), /it is locked in a way this program does not know/],
  ["no pin", ({ clevis: _, ...rest }) => rest, /it is locked in a way this program does not know/],
  [
    "an alg with a key wrapped",
    (rest) => ({ ...rest, alg: "ECDH-ES+A256KW" }),
    /it is locked in a way this program does not know/,
  ],
  ["no server", (rest) => ({ ...rest, clevis: { pin: "tang" } }), /it is damaged/],
  [
    "a URL that is none",
    (rest) => ({ ...rest, clevis: { pin: "tang", tang: { url: "file:///", adv: { keys: [] } } } }),
    /it is damaged/,
  ],
  [
    "no advertisement",
    ({ clevis, ...rest }) => ({
      ...rest,
      clevis: { pin: "tang", tang: { url: ((clevis as Members)["tang"] as Members)["url"] } },
    }),
    /it is damaged/,
  ],
];

{
  const { tang, dir, annotation } = await liedTo();
  const path = lockedFile(dir, "alice");
  const whole = readFileSync(path, "latin1");
  const [, ...rest] = whole.split(".");
  const members = header(path);
  const before = tang.requests;
  for (const [name, change, line] of FILES) {
    test(`a file with ${name} is told, and no server is asked`, async () => {
      writeFileSync(path, [encoded(change(members)), ...rest].join("."));
      assert.match(await assertClosed(dir, annotation), line);
      if (name === "no epk") assert.match(commands(dir).refuses(1, ["unlock"]), line);
      assert.match(await refusedHere(dir, 1, async () => await unlockHere(dir)), line);
      assert.match(await refusedHere(dir, 1, async () => await keygenHere(dir, "bob")), line);
      assert.is(tang.requests, before);
    });
  }
  test("a file whose content was changed is told", async () => {
    writeFileSync(path, whole.replace(/.{10}$/, "AAAAAAAAAA"));
    assert.match(
      assertFailure(await runBeside(["--keystore", dir], { input: unwrapRequest(annotation) }), 3),
      "or the locked key is damaged: restore it from a backup",
    );
    writeFileSync(path, whole);
    await assertOpens(dir, annotation);
  });
}

class Refused extends Error {}

test("whatever a server says and whatever a file holds, nothing but our own errors comes of it", async () => {
  const { dir } = await liedTo();
  const file = readFileSync(lockedFile(dir, "alice"));
  const lying = new LyingTang();
  lying.exchange.generateKeys();
  const jws = advertisement(lying.keys, [lying.signer.privateKey, lying.signer.privateKey]) as { payload: string };
  const payload = Buffer.from(jws.payload, "base64url");
  const parsers: readonly (readonly [valid: Buffer, parse: (bytes: Buffer) => unknown])[] = [
    [Buffer.from(JSON.stringify(jws)), (bytes) => verifyAdvertisement(bytes, (reason) => new Refused(reason))],
    [
      payload,
      (bytes) =>
        verifyAdvertisement(
          Buffer.from(JSON.stringify({ ...jws, payload: bytes.toString("base64url") })),
          (reason) => new Refused(reason),
        ),
    ],
    [file, (bytes) => [atRestKind(bytes), tangServer(bytes)]],
    [
      Buffer.from(JSON.stringify(header(lockedFile(dir, "alice")))),
      (bytes) =>
        tangServer(Buffer.from(`${bytes.toString("base64url")}${file.toString("latin1").replace(/^[^.]*/, "")}`)),
    ],
  ];
  for (const [valid, parse] of parsers) {
    parse(valid);
    const patch = fc.tuple(
      fc.nat(valid.length),
      fc.nat(20),
      fc.oneof(
        fc.uint8Array({ maxLength: 8 }),
        fc.constantFrom("{}", "[]", "null", "0", '""', '"__proto__":1,').map((text) => Buffer.from(text)),
      ),
    );
    fc.assert(
      fc.property(patch, ([at, gone, put]) => {
        try {
          parse(Buffer.concat([valid.subarray(0, at), put, valid.subarray(at + gone)]));
        } catch (error) {
          assert.ok(
            error instanceof KeystoreError || error instanceof Refused,
            error instanceof Error ? error.stack : String(error),
          );
          assert.ok(error.message.length < 200);
        }
      }),
      { numRuns: endurance(20_000) },
    );
  }
});

test.run();
