// A Tang server's HTTP, or that of whoever is on the way to it: whatever comes, a command ends in time, with its result or with one line.

import { generateKeyPairSync } from "node:crypto";
import { once } from "node:events";
import { createServer, type AddressInfo } from "node:net";
import { join } from "node:path";
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { KeystoreError } from "../../src/errors.ts";
import { askTang } from "../../src/at-rest/http.ts";
import { meetServer } from "../../src/at-rest/tang.ts";
import { generateJwk, publicHalf } from "../../src/jwk/jwk.ts";
import { addKey } from "../../src/keystore/add.ts";
import { openStore } from "../../src/keystore/store.ts";
import { encryptedLayer, HandMade } from "../support/encrypted-images.ts";
import { secretFile, tree, temporaryFolder } from "../support/folders.ts";
import { lockForTang } from "../support/here.ts";
import { BROKEN, honest, WHOLE, type Behaviour } from "../support/http.ts";
import { endurance } from "../support/parts.ts";
import { assertFailure, type Result, runBeside } from "../support/program.ts";
import { unwrapRequest } from "../support/requests.ts";
import { makeStore, noSecrets, wrapHere } from "../support/stores.ts";
import { LyingTang, serverOf, type Lie } from "../support/tang.ts";

const IN_TIME = 13_000; // ms: the 10 s that a server has, and a start of the program
const lieOf =
  (behave: Behaviour): Lie =>
  (_request, response, right) =>
    response.socket && behave(response.socket, right);

// In this process, where it is quick: each behaviour, an answer cut at each byte, and answers with errors of all kinds.

const trusting = async (): Promise<void> => undefined;

for (const [name, behave] of Object.entries(WHOLE)) {
  test(`takes an answer with ${name}`, async () => {
    const tang = await LyingTang.started();
    tang.adv = tang.rec = lieOf(behave);
    assert.is((await meetServer(tang.url, trusting)).url, tang.url);
  });
}

const UNREAD = "compression that is none"; // Tang's answers are taken as they are: no encoding is asked for
const broken = Object.entries(BROKEN).filter(([name]) => name !== UNREAD);
for (const [name, behave] of broken) {
  test(`refuses at once what is no answer: ${name}`, async () => {
    for (const asked of ["adv", "rec"] as const) {
      const tang = await LyingTang.started();
      tang[asked] = lieOf(behave);
      const started = Date.now();
      const error: unknown = await meetServer(tang.url, trusting).catch((reason: unknown) => reason);
      assert.instance(error, KeystoreError);
      assert.is((error as KeystoreError).exitCode, 3, asked);
      assert.ok(Date.now() - started < 5_000, asked);
    }
  });
}

test("asks a server again that answered, however slowly", async () => {
  const tang = await LyingTang.started();
  tang.adv = (_request, response, right) => void setTimeout(() => response.end(right), 1_200);
  await askTang(tang.url, "/adv");
  await new Promise((closed) => setTimeout(closed, 50));
  tang.adv = undefined;
  await askTang(tang.url, "/adv");
});

test("does not undo a compression that nobody asked for", async () => {
  const tang = await LyingTang.started();
  tang.adv = tang.rec = lieOf((socket, body) => BROKEN[UNREAD]?.(socket, body));
  await meetServer(tang.url, trusting);
});

/** A server of bytes: each connection gets what `next` gives, then the end or a reset. */
async function byteServer(next: () => { readonly bytes: Uint8Array; readonly reset: boolean }): Promise<string> {
  const server = createServer((socket) => {
    socket.on("error", () => undefined);
    socket.once("data", () => {
      const { bytes, reset } = next();
      socket.write(bytes, () => (reset ? socket.resetAndDestroy() : socket.end()));
    });
  });
  server.listen(0, "127.0.0.1").unref();
  await once(server, "listening");
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** What `ask` makes of it, which is an answer or our own error, and never nothing. */
async function outcome(url: string): Promise<"answer" | "refused"> {
  try {
    await askTang(url, "/adv");
    return "answer";
  } catch (error) {
    assert.ok(
      error instanceof KeystoreError && error.exitCode === 3,
      error instanceof Error ? error.stack : String(error),
    );
    assert.not.match(error.message, "within 10 s");
    return "refused";
  }
}

test("takes no answer for whole that ends at any byte before its end", async () => {
  for (const whole of [
    honest(Buffer.from('{"a":1}')),
    Buffer.from('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n{"a":1}\r\n0\r\n\r\n'),
  ]) {
    for (const reset of [false, true]) {
      let at = 0;
      const url = await byteServer(() => ({ bytes: whole.subarray(0, at), reset }));
      for (; at < whole.length; at++) assert.is(await outcome(url), "refused", `${at} bytes of ${whole.length}`);
      if (!reset) assert.is(await outcome(url), "answer");
    }
  }
});

const SEEDS = [
  honest(Buffer.from('{"keys":[]}')),
  ...[
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n5\r\n{"a":\r\n2;x=y\r\n1}\r\n0\r\nX: a\r\n\r\n',
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}",
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x00",
    "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
  ].map((text) => Buffer.from(text, "latin1")),
];
const WORDS = [
  "\r\n",
  "\r\n\r\n",
  "HTTP/1.1 101 X\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
  "HTTP/1.1 100 C\r\n\r\n",
  "HTTP/1.1 200 OK\r\n\r\n",
  "Transfer-Encoding: chunked\r\n",
  "Content-Length: 0\r\n",
  "Content-Length: 99\r\n",
  "Upgrade: x\r\nConnection: upgrade\r\n",
  "101",
  "204",
  "\0",
  "0\r\n\r\n",
];

test("makes of any bytes an answer or an error, in time", async () => {
  let current: { bytes: Uint8Array; reset: boolean } = { bytes: Buffer.alloc(0), reset: false };
  const url = await byteServer(() => current);
  const patch = fc.record({
    seed: fc.constantFrom(...SEEDS),
    patches: fc.array(
      fc.tuple(
        fc.nat(300),
        fc.nat(20),
        fc.oneof(
          fc.uint8Array({ maxLength: 4 }).map((bytes) => Buffer.from(bytes)),
          fc.constantFrom(...WORDS).map((word) => Buffer.from(word)),
        ),
      ),
      { minLength: 1, maxLength: 4 },
    ),
    reset: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(patch, async ({ seed, patches, reset }) => {
      const bytes = patches.reduce(
        (mutated, [at, gone, put]) => Buffer.concat([mutated.subarray(0, at), put, mutated.subarray(at + gone)]),
        seed,
      );
      current = { bytes, reset };
      await outcome(url);
    }),
    { numRuns: endurance(2_000), seed: 20_261_126 },
  );
});

// Every command that asks a server, by the binary. A sample of the pairs, all of them in a full run; the upgrade is tried with each.

{
  const tang = await LyingTang.started();
  const dir = makeStore("alice");
  const annotation = await wrapHere(dir, "alice");
  const image = new HandMade();
  const manifest = image.blob(`{"layers":[${encryptedLayer(dir, ["alice"])}]}`);
  const reference = image.index(
    `{"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json",${manifest}}]}`,
  );
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const pem = secretFile(privateKey.export({ type: "pkcs8", format: "pem" }));
  await addKey(openStore(dir, noSecrets), "reader", publicHalf(generateJwk({ type: "ec" })));
  await lockForTang(dir, tang.url);
  const socket = join(temporaryFolder(), "socket");
  const refused = (result: Result): void => void assertFailure(result, 3);
  const COMMANDS: readonly (readonly [args: readonly string[], check: (result: Result) => void, input?: string])[] = [
    [[], refused, unwrapRequest(annotation)],
    [["export", "alice", "--private"], refused],
    [
      ["doctor"],
      ({ code, stdout, stderr }) =>
        assert.ok(
          code === 1 && /^fail .*the Tang server /m.test(stdout) && stderr === "",
          `${code} ${stdout} ${stderr}`,
        ),
    ],
    [
      ["inspect", reference, "--verify"],
      ({ code, stdout, stderr }) =>
        assert.ok(code === 0 && stdout.includes("does not open") && stderr === "", `${code} ${stdout} ${stderr}`),
    ],
    [["rewrap", reference, "--to", "reader"], refused],
    [["lock", ...serverOf(tang)], refused],
    [["serve", "--listen", `unix:${socket}`], refused],
    [["rotate", "alice"], refused],
    [["keygen", "carol"], refused],
    [["import", "carol", pem], refused],
    [["unlock"], refused],
  ];
  const before = [tree(dir), tree(image.dir)];
  const full = endurance(100) === 100;
  for (const [index, [args, check, input = ""]] of COMMANDS.entries()) {
    const behaviours = broken.filter(
      ([name], at) => full || name === "101 with an upgrade" || at === (index * 3) % broken.length,
    );
    test(`ends in time and with a line, whatever the server does: ${args[0] ?? "exec mode"}`, async () => {
      for (const [name, behave] of behaviours) {
        tang.adv = tang.rec = lieOf(behave);
        const started = Date.now();
        const result = await runBeside([...args, "--keystore", dir], { input });
        try {
          check(result);
          assert.ok(Date.now() - started < IN_TIME);
          assert.equal([tree(dir), tree(image.dir)], before);
        } catch (error) {
          throw new Error(`${name}: ${JSON.stringify(result)}`, { cause: error });
        }
      }
    });
  }
}

test.run();
