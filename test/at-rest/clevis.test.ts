// Files of clevis and ours: either program opens the other's. Every row is sealed by one of the two, and opened by both.

import { spawnSync } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { atRestByParts, atRestKind, atRestOf } from "../../src/at-rest/at-rest.ts";
import type { AtRest } from "../../src/at-rest/locked-file.ts";
import { atRestByTang, meetServer } from "../../src/at-rest/tang.ts";
import { assertCheck, examine } from "../support/checks.ts";
import { tree } from "../support/folders.ts";
import { keygenHere, refusedHere, unlockHere } from "../support/here.ts";
import { endurance, testWith, tool, use } from "../support/parts.ts";
import { runBeside, assertFailure } from "../support/program.ts";
import { unwrapRequest, wrap } from "../support/requests.ts";
import {
  assertClosed,
  assertOpens,
  commands,
  kidOf,
  makeStore,
  noSecrets,
  readJson,
  wrapHere,
  type Members,
} from "../support/stores.ts";
import { lockedFile, LyingTang, serverOf, Tang, TANG_PARTS, tangParts } from "../support/tang.ts";
import { startTpm, TPM_PARTS, tpmParts } from "../support/tpm.ts";

type Parts = NonNullable<typeof tangParts>;
const withTang = (name: string, body: (parts: Parts) => Promise<void>): void =>
  testWith(tangParts, TANG_PARTS, name, body);

/** A store with one key, an annotation for it, and the key's JSON. */
async function plainStore(): Promise<{ dir: string; annotation: Buffer; jwk: Members; path: string }> {
  const dir = makeStore("alice");
  const annotation = await wrapHere(dir, "alice");
  const path = join(dir, "private", `${kidOf(dir, "alice")}.jwk`);
  return { dir, annotation, jwk: readJson(path), path };
}

/** The same, whose key clevis locks in place of our lock. */
async function lockedByClevis(
  clevis: string,
  pin: string,
  config: unknown,
): Promise<{ dir: string; annotation: Buffer; jwk: Members }> {
  const { dir, annotation, jwk, path } = await plainStore();
  const sealed = use(clevis, ["encrypt", pin, JSON.stringify(config), "-y"], readFileSync(path));
  writeFileSync(path.replace(/k$/, "e"), sealed, { mode: 0o600 });
  rmSync(path);
  return { dir, annotation, jwk };
}

// Each start of clevis takes a second: without ENDURANCE=100, only every third row of a table is for it.
const FULL = endurance(100) === 100;

const bare = (url: string): string => url.replace("http://", "");
const tang = (...urls: readonly string[]): object => ({ tang: urls.map((url) => ({ url })) });

// What clevis is told, given the URLs of three servers, the last of which is down when the file is opened.
const FILES: readonly (readonly [name: string, pin: string, config: (urls: readonly string[]) => unknown])[] = [
  ["a URL without scheme", "tang", ([url = ""]) => ({ url: bare(url) })],
  ["a scheme in capitals", "tang", ([url = ""]) => ({ url: url.replace("http", "HTTP") })],
  ["a host name without scheme", "tang", ([url = ""]) => ({ url: bare(url).replace("127.0.0.1", "localhost") })],
  ["any of two servers", "sss", ([a = "", , down = ""]) => ({ t: 1, pins: tang(down, a) })],
  ["two of two servers, without scheme", "sss", ([a = "", b = ""]) => ({ t: 2, pins: tang(bare(a), bare(b)) })],
  ["two of three servers", "sss", ([a = "", b = "", down = ""]) => ({ t: 2, pins: tang(a, down, b) })],
  [
    "both servers of a group, or another",
    "sss",
    ([a = "", b = "", down = ""]) => ({ t: 1, pins: { sss: { t: 2, pins: tang(a, b) }, ...tang(down) } }),
  ],
  [
    "a group in a group in a group",
    "sss",
    ([a = "", b = ""]) => ({ t: 1, pins: { sss: { t: 1, pins: { sss: { t: 2, pins: tang(a, b) } } } } }),
  ],
  ["a server or a pin that only clevis opens", "sss", ([a = ""]) => ({ t: 1, pins: { null: {}, ...tang(a) } })],
];

withTang("opens what clevis locked, as clevis does", async ({ clevis }) => {
  const [a, b, down] = [await Tang.started(), await Tang.started(), await Tang.started()];
  const rows = [];
  const asked = FILES.filter((_, index) => FULL || index % 3 === 2);
  for (const [name, pin, config] of asked) {
    rows.push({ name, ...(await lockedByClevis(clevis, pin, config([a.url, b.url, down.url]))) });
  }
  await down.stop();
  for (const { name, dir, annotation, jwk } of rows) {
    const file = lockedFile(dir, "alice");
    assert.equal(JSON.parse(use(clevis, ["decrypt"], readFileSync(file))), jwk, `clevis: ${name}`);
    await assertOpens(dir, annotation).catch((error: unknown) => {
      throw new Error(`${name}: ${String(error)}`, { cause: error });
    });
    writeFileSync(file, `${readFileSync(file, "latin1")}\n`);
    await assertOpens(dir, annotation); // a terminal's or an editor's newline changes nothing
  }
  const { dir } = rows.at(-1) ?? { dir: "" };
  assert.is(commands(dir).run(["unlock"]).stderr, "unlocked 1 private key\n");
});

withTang("new keys are locked as the others are, and clevis opens them", async ({ clevis }) => {
  const [a, b] = [await Tang.started(), await Tang.started()];
  for (const [pin, config] of [
    ["tang", { url: bare(a.url) }],
    ["sss", { t: 2, pins: { sss: { t: 1, pins: tang(a.url, b.url) }, ...tang(b.url) } }],
  ] as const) {
    const { dir, annotation } = await lockedByClevis(clevis, pin, config);
    if (pin === "sss") commands(dir)("keygen", "bob");
    else await keygenHere(dir, "bob");
    const opened = JSON.parse(use(clevis, ["decrypt"], readFileSync(lockedFile(dir, "bob")))) as Members;
    assert.is(opened["kid"], kidOf(dir, "bob"));
    await assertOpens(dir, annotation);
    if (pin === "tang") continue;
    assertCheck(examine(dir), "store.locked", "ok", /2 private keys are locked for the .*http:\/\/127/);
  }
});

withTang("a file with a SHA-1 thumbprint, as clevis wrote it once", async ({ clevis, jose }) => {
  const server = await Tang.started();
  const { dir, annotation, jwk } = await lockedByClevis(clevis, "tang", { url: server.url });
  const file = lockedFile(dir, "alice");
  const [head = ""] = readFileSync(file, "latin1").split(".");
  const { alg, enc, clevis: policy } = JSON.parse(Buffer.from(head, "base64url").toString()) as Members;
  const { keys } = ((policy as Members)["tang"] as { adv: { keys: Members[] } }).adv;
  const { key_ops: _ops, alg: _alg, ...exchange } = keys.find((key) => key["alg"] === "ECMR") ?? {};
  const kid = use(jose, ["jwk", "thp", "-a", "S1", "-i-"], JSON.stringify(exchange)).trim();
  const template = JSON.stringify({ protected: { alg, enc, clevis: policy, kid } });
  const input = `${template}${JSON.stringify(exchange)}${JSON.stringify(jwk)}`;
  writeFileSync(file, use(jose, ["jwe", "enc", "-i-", "-k-", "-I-", "-c"], input));
  assert.equal(JSON.parse(use(clevis, ["decrypt"], readFileSync(file))), jwk);
  await assertOpens(dir, annotation);
});

withTang("clevis opens what we lock for several servers, and so do we while enough of them run", async ({ clevis }) => {
  const tangs = [await Tang.started(), await Tang.started(), await Tang.started()];
  const [a, b, c] = tangs.map((one) => serverOf(one));
  assert.ok(a && b && c);
  const rows = [];
  for (const [args, needed, what] of [
    [[...a, ...b, ...c], 1, "1 of the Tang servers"],
    [[...a, ...b, ...c, "--threshold", "2"], 2, "2 of the Tang servers"],
    [["--tang", bare(tangs[0]?.url ?? ""), "--thumbprint", tangs[0]?.thumbprint ?? ""], 1, "the Tang server 127"],
  ] as const) {
    const { dir, annotation, jwk } = await plainStore();
    const alone = what.startsWith("the");
    assert.match(commands(dir).run(["lock", ...args]).stderr, `locked 1 private key for ${what}`);
    if (alone) assert.equal(JSON.parse(use(clevis, ["decrypt"], readFileSync(lockedFile(dir, "alice")))), jwk);
    else assert.match(commands(dir).run(["lock", ...args]).stderr, "locked 0 private keys");
    rows.push({ dir, annotation, needed, alone });
  }
  const [first] = rows;
  assert.match(
    commands(first?.dir ?? "").refuses(1, ["lock", ...a, ...b, "--threshold", "2"]),
    "are locked for another Tang server",
  );
  assert.match(commands(first?.dir ?? "").refuses(1, ["lock", ...a]), "are locked with a group of Tang servers");
  assertCheck(
    examine(rows[1]?.dir ?? ""),
    "store.locked",
    "ok",
    /1 private key is locked for the group of Tang servers http:\S+, http:\S+, http:\S+ \(2 of 3 must answer\), which is/,
  );
  for (const [index, one] of tangs.toReversed().entries()) {
    await one.stop();
    const running = tangs.length - index - 1;
    for (const { dir, annotation, needed, alone } of rows) {
      const opens = alone ? running > 0 : running >= needed;
      const decrypted =
        alone || (!FULL && (needed === 1 || running === 0))
          ? opens
          : spawnSync(clevis, ["decrypt"], { input: readFileSync(lockedFile(dir, "alice")) }).status === 0;
      assert.is(decrypted, opens, `clevis with ${running} servers for ${needed}`);
      if (opens) await assertOpens(dir, annotation);
      else if (alone) assert.match(await assertClosed(dir, annotation), "does not answer: ECONNREFUSED; start it");
      else {
        assert.match(
          await assertClosed(dir, annotation),
          new RegExp(
            `it needs ${needed} of its 3 parts, and ${4 - needed} do not open: the Tang server http:\\S+ does not`,
          ),
        );
      }
    }
  }
});

for (const [name, args, line] of [
  [
    "more than there are",
    (a: string[], b: string[]) => [...a, ...b, "--threshold", "3"],
    "is not a number from 1 to 2",
  ],
  ["zero", (a: string[], b: string[]) => [...a, ...b, "--threshold", "0"], "is not a number from 1 to 2"],
  ["a word", (a: string[], b: string[]) => [...a, ...b, "--threshold", "all"], "is not a number from 1 to 2"],
  ["two of one", (a: string[]) => [...a, "--threshold", "2"], "is not a number from 1 to 1"],
  ["without a server", () => ["--threshold", "1"], "--threshold is only for --tang"],
  ["the same server twice", (a: string[]) => [...a, ...a], "names http://127.0.0.1:"],
] as const) {
  test(`refuses a threshold or servers: ${name}`, async () => {
    const [a, b] = [await LyingTang.started(), await LyingTang.started()];
    const dir = makeStore("alice");
    const before = tree(dir);
    const words = args(serverOf(a), serverOf(b));
    assert.match(assertFailure(await runBeside(["lock", ...words, "--keystore", dir]), 2), line);
    assert.equal(tree(dir), before);
  });
}

test("every server must have one of the thumbprints, and a slow one is not waited for", async () => {
  const [a, b, slow] = [await LyingTang.started(), await LyingTang.started(), await LyingTang.started()];
  const dir = makeStore("alice");
  const annotation = await wrapHere(dir, "alice");
  const store = ["--keystore", dir];
  const line = assertFailure(await runBeside(["lock", ...serverOf(a), "--tang", b.url, ...store]), 1);
  assert.match(line, `${a.thumbprint} is not a signing key of the Tang server ${b.url}`);
  const words = [...serverOf(slow), ...serverOf(a), ...serverOf(b), "--threshold", "2"];
  assert.is((await runBeside(["lock", ...words, ...store])).code, 0);
  slow.rec = () => undefined; // it never answers
  const began = Date.now();
  const { code, stderr } = await runBeside(store, { input: unwrapRequest(annotation) });
  assert.is(code, 0, stderr);
  assert.ok(Date.now() - began < 8_000, `${Date.now() - began} ms`);
});

test("a group of many servers is one file, and one that would be too large is not written", async () => {
  const liar = await LyingTang.started();
  const server = await meetServer(liar.url, async () => undefined);
  const group = (needed: number, size: number): AtRest =>
    atRestByParts(
      needed,
      Array.from({ length: size }, () => atRestByTang(server)),
    );
  const file = await group(7, 12).seal(Buffer.from("key"));
  assert.is((await atRestOf(file, noSecrets).open(file))?.toString(), "key");
  const nested = atRestByParts(2, [group(2, 3), atRestByTang(server)]);
  const other = await nested.seal(Buffer.from("key"));
  assert.is((await nested.open(other))?.toString(), "key");
  assert.equal([nested.sameAs(other), nested.sameAs(file)], [true, false]);
  const error: unknown = await group(1, 60)
    .seal(Buffer.from("key"))
    .catch((reason: unknown) => reason);
  assert.match(String(error), "too large to be read again");
});

// Files that only clevis opens, and damaged ones: the line says which of the two.

const header = (members: object): string => Buffer.from(JSON.stringify(members)).toString("base64url");
const REST = `..${"A".repeat(16)}.AAAA.${"A".repeat(22)}`;
const sss = (members: object): string =>
  header({ alg: "dir", enc: "A256GCM", clevis: { pin: "sss", sss: members } }) + REST;
const P = Buffer.alloc(32, 0xff).toString("base64url");

for (const [name, file, exitCode, line] of [
  [
    "pkcs11",
    header({ alg: "dir", enc: "A256GCM", clevis: { pin: "pkcs11", pkcs11: {} } }) + REST,
    1,
    /clevis's pin pkcs11, which this program does not open; open it with clevis decrypt/,
  ],
  [
    "null",
    header({ alg: "dir", enc: "A256GCM", clevis: { pin: "null", null: {} } }) + REST,
    1,
    /clevis's pin null, which/,
  ],
  [
    "a server with a password",
    header({
      alg: "ECDH-ES",
      enc: "A256GCM",
      kid: "x",
      clevis: { pin: "tang", tang: { url: "http://user:secret@host", adv: {} } },
    }) + REST,
    1,
    /for the Tang server "http:\/\/…@host", which this program does not open/,
  ],
  ["no pin", header({ alg: "dir", enc: "A256GCM" }) + REST, 1, /locked in a way this program does not know/],
  ["shares without t", sss({ jwe: [], p: P }), 1, /it is damaged: it has a t that/],
  ["shares with too high a t", sss({ jwe: ["a"], p: P, t: 2 }), 1, /it is damaged: it has a t that/],
  ["shares with a short p", sss({ jwe: ["a"], p: "AAAA", t: 1 }), 1, /it is damaged: it has no p of 32 bytes/],
  ["shares without jwe", sss({ p: P, t: 1 }), 1, /it is damaged: it has no jwe/],
  [
    "shares that are nothing",
    sss({ jwe: ["a", "b"], p: P, t: 1 }),
    3,
    /it needs 1 of its 2 parts, and 2 do not open: it is damaged/,
  ],
  [
    "a TPM without its key",
    header({ alg: "dir", enc: "A256GCM", clevis: { pin: "tpm2", tpm2: { hash: "sha256", key: "ecc" } } }) + REST,
    1,
    /it is damaged: it has no jwk_pub or no jwk_priv/,
  ],
  [
    "a TPM with options in the place of words",
    header({ alg: "dir", enc: "A256GCM", clevis: { pin: "tpm2", tpm2: { hash: "--help", key: "ecc" } } }) + REST,
    1,
    /it is damaged: it has an odd hash/,
  ],
] as const) {
  test(`says what is locked with ${name}`, async () => {
    const { dir, annotation, path } = await plainStore();
    writeFileSync(path.replace(/k$/, "e"), file, { mode: 0o600 });
    rmSync(path);
    const shown = await assertClosed(dir, annotation);
    assert.match(shown, line);
    assert.is(shown.includes("restore it from a backup"), line.source.includes("damaged"));
    assert.not.match(shown, "secret");
    if (name === "shares that are nothing") assert.match(commands(dir).refuses(exitCode, ["unlock"]), line);
    assert.match(await refusedHere(dir, exitCode, async () => await unlockHere(dir)), line);
    if (name === "pkcs11") assertCheck(examine(dir), "store.locked", "fail", line);
  });
}

withTang("shares of which too few open, as for clevis: the line names each reason", async ({ clevis }) => {
  const server = await Tang.started();
  const { dir, annotation } = await lockedByClevis(clevis, "sss", { t: 2, pins: { null: {}, ...tang(server.url) } });
  const line = await assertClosed(dir, annotation);
  assert.match(line, "it needs 2 of its 2 parts, and 1 do not open: it is locked with clevis's pin null");
});

// A TPM.

test("leaves the other recipients where there is no folder for the TPM's tools", async () => {
  const dir = makeStore("alice", "bob");
  const [alice, both] = [wrap(dir, ["alice"]), wrap(dir, ["alice", "bob"])];
  const path = join(dir, "private", `${kidOf(dir, "alice")}.jwk`);
  const clevis = { pin: "tpm2", tpm2: { hash: "sha256", key: "ecc", jwk_pub: "AAAA", jwk_priv: "AAAA" } };
  writeFileSync(path.replace(/k$/, "e"), header({ alg: "dir", enc: "A256GCM", clevis }) + REST, { mode: 0o600 });
  rmSync(path);
  const former = process.env["TMPDIR"];
  process.env["TMPDIR"] = join(dir, "none");
  try {
    const line = await assertClosed(dir, alice);
    assert.match(line, /\/none cannot be written: ENOENT; make that folder writable, or mount a tmpfs there/);
    await assertOpens(dir, both);
  } finally {
    if (former === undefined) delete process.env["TMPDIR"];
    else process.env["TMPDIR"] = former;
  }
});

testWith(tangParts && tpmParts, `${TPM_PARTS}, ${TANG_PARTS}`, "opens what clevis locked for a TPM", async () => {
  const env = await startTpm();
  const server = await Tang.started();
  process.env["TPM2TOOLS_TCTI"] = env.TPM2TOOLS_TCTI;
  try {
    const clevis = tool("clevis") ?? "";
    const configs = [
      ["tpm2", {}],
      ["sss", { t: 2, pins: { tpm2: {}, ...tang(server.url) } }],
      ["tpm2", { hash: "sha256", key: "rsa", pcr_bank: "sha256", pcr_ids: "0,7" }],
    ] as const;
    for (const [pin, config] of configs.slice(FULL ? 0 : 1)) {
      const { dir, annotation, jwk } = await lockedByClevis(clevis, pin, config);
      const file = readFileSync(lockedFile(dir, "alice"));
      assert.equal(JSON.parse(use(clevis, ["decrypt"], file)), jwk);
      await assertOpens(dir, annotation);
      assert.is(atRestKind(file), pin === "tpm2" ? "TPM" : "clevis policy");
      assert.match(commands(dir).refuses(3, ["keygen", "bob"]), "locked for a TPM");
    }
    const { dir, annotation } = await lockedByClevis(clevis, "tpm2", { pcr_bank: "sha256", pcr_ids: "16" });
    use("tpm2_pcrextend", [`16:sha256=${"11".repeat(32)}`]);
    assert.match(
      await assertClosed(dir, annotation),
      /locked for a TPM: tpm2_unseal fails.*; it opens only on the machine/,
    );
  } finally {
    delete process.env["TPM2TOOLS_TCTI"];
  }
});

test.run();
