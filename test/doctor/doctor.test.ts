// doctor: its list of checks, what it prints, and what --fix does.

import { spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  assertCheck,
  checksIn,
  configFile,
  entry,
  examine,
  examineHere,
  NO_ROUND_TRIP,
  problems,
  skipped,
} from "../support/checks.ts";
import { secretFiles } from "../../src/at-rest/secret-files.ts";
import { fix } from "../../src/doctor/doctor.ts";
import { openStore } from "../../src/keystore/store.ts";
import { temporaryFolder } from "../support/folders.ts";
import { assertFailure, run, succeed } from "../support/program.ts";
import { kidOf, lock, makeStore, noSecrets, readJson, wrapHere, assertOpens } from "../support/stores.ts";

const IDS = [
  ..."store store.modes store.owners store.leftovers store.lock store.names store.default store.keys store.unnamed store.twice store.locked store.holders".split(
    " ",
  ),
  ..."config.variable config.file config.json config.provider config.path config.args config.grpc".split(" "),
  ..."clients client.skopeo client.podman client.buildah client.nerdctl client.ctr-enc client.ctd-decoder client.containerd client.crio".split(
    " ",
  ),
  ..."containerd.config containerd.decoder containerd.keys containerd.provider containerd.gzip containerd.zstd containerd.key-model containerd.pull crio.config crio.provider crio.keys round-trip".split(
    " ",
  ),
];

const deadPid = (): number => spawnSync("true").pid;
const privateKey = (dir: string, name = "alice", ending = "jwk"): string =>
  join(dir, "private", `${kidOf(dir, name)}.${ending}`);
const name = (dir: string, key = "alice"): string => join(dir, "names", key);
const temporary = (dir: string, pid = deadPid()): string => join(dir, `.tmp-${pid}-0123456789abcdef`);
/** A store whose lock was interrupted after it wrote the locked file, and the secret. */
const interruptedLock = (
  open: (dir: string) => string = (dir) => readFileSync(privateKey(dir), "utf8"),
): { dir: string; secret: string } => {
  const dir = makeStore("alice:--type oct");
  const content = open(dir);
  const secret = lock(dir);
  writeFileSync(privateKey(dir), content, { mode: 0o600 });
  return { dir, secret };
};

test("lists every check under its id, each once, where all is well", () => {
  const dir = makeStore("alice", "bob:--type rsa --bits 2048", "carol:--type oct");
  const file = configFile({ keystore: entry(["--keystore", dir, "--provider", "keystore"]) });
  const checks = examine(dir, [], { OCICRYPT_KEYPROVIDER_CONFIG: file });
  assert.equal(
    checks.map(({ id }) => id),
    IDS,
  );
  assert.equal(problems(checks), []);
  assertCheck(checks, "round-trip", "ok", /wrapped for alice and unwrapped/);
  for (const check of checks) assert.ok(check.message !== "", JSON.stringify(check));
  assert.equal(
    skipped(checks).filter((id) => !/^(client|containerd|crio)\./.test(id)),
    ["store.locked", "store.holders", "config.grpc"],
  );
});

test("is a line a problem for people, with the way out, and a summary; --verbose shows every check", () => {
  const dir = makeStore("alice");
  const shown = (...args: readonly string[]): string[] => {
    const { code, stdout, stderr } = run(["doctor", "--keystore", dir, ...args], { env: { PATH: "" } });
    assert.is(code, 0);
    assert.is(stderr, "");
    return stdout.trimEnd().split("\n");
  };
  rmSync(join(dir, "default"));
  const [line, ...others] = shown();
  const problem =
    "warn  store.default: no default key: a client must name one, provider:PROVIDER:NAME; set one with ocicrypt-keystore default NAME";
  assert.is(line, problem);
  assert.match(
    others.pop() ?? "",
    /^3 warnings; \d+ checks passed, \d+ had nothing to look at \(--verbose shows all\)$/,
  );
  for (const other of others) assert.match(other, /^warn {2}(clients|config\.variable): /);
  const all = shown("--verbose");
  assert.is(all.length, IDS.length + 1);
  assert.ok(all.includes(`ok    store: ${dir}`) && all.includes("skip  config.file: no file is named"));
  assert.ok(all.includes(problem));
  const { stdout } = run(["doctor", "--keystore", join(dir, "none")], { env: { PATH: "" } });
  assert.match(stdout, /^fail {2}store: no key store at .*\n(warn .*\n)*1 failure, 2 warnings; /);
});

test("fails with the report on standard output where there is no store, and makes none", async () => {
  const dir = join(temporaryFolder(), "none");
  const checks = await examineHere(dir, ["--fix"]);
  assertCheck(checks, "store", "fail", /no key store at .*keygen NAME/);
  assert.equal(problems(checks), ["fail store"]);
  assert.not.ok(existsSync(dir));
});

for (const [what, breakIt] of [
  ["is missing", (dir: string) => rmSync(dir, { recursive: true })],
  ["is a file", (dir: string) => (rmSync(dir, { recursive: true }), writeFileSync(dir, ""))],
  [
    "has a file for a folder",
    (dir: string) => (rmSync(join(dir, "names"), { recursive: true }), writeFileSync(join(dir, "names"), "")),
  ],
] as const) {
  test(`skips every check that needs the store where the store ${what}, with nothing of it ok`, async () => {
    const dir = makeStore("alice");
    breakIt(dir);
    const checks = await examineHere(dir);
    assert.equal(problems(checks), ["fail store"]);
    const needStore = IDS.filter((id) => id.startsWith("store.") || id === "round-trip");
    assert.equal(
      skipped(checks).filter((id) => needStore.includes(id)),
      needStore,
    );
    assertCheck(checks, "store.keys", "skip", /no key store that can be read/);
    assertCheck(checks, "round-trip", "skip", /no key store to use at/);
  });
}

test("looks at a store without keys, and skips only what is about keys of a kind", async () => {
  const dir = join(temporaryFolder(), "store");
  mkdirSync(dir);
  const checks = await examineHere(dir);
  assert.equal(
    skipped(checks).filter((id) => id.startsWith("store")),
    ["store.locked", "store.holders"],
  );
  assertCheck(checks, "store.names", "ok", /^0 names/);
  assertCheck(checks, "store.default", "ok", /no keys yet/);
  assertCheck(checks, "round-trip", "warn", /not tried: no current key/);
});

test("takes a store of private keys alone as it is: it decrypts", async () => {
  const dir = makeStore("alice");
  for (const one of ["names", "public", "default"]) rmSync(join(dir, one), { recursive: true });
  const env = { OCICRYPT_KEYPROVIDER_CONFIG: configFile({ ks: entry(["--keystore", dir, "--provider", "ks"]) }) };
  for (const checks of [await examineHere(dir), await examineHere(dir, [], env)]) {
    assert.equal(problems(checks), []);
    for (const id of ["store.default", "store.unnamed", "round-trip"])
      assertCheck(checks, id, "skip", /only private keys/);
  }
});

test("counts one thing in the singular", async () => {
  const dir = makeStore("alice");
  assertCheck(await examineHere(dir, [], NO_ROUND_TRIP), "store.names", "ok", /^1 name;/);
  assertCheck(await examineHere(dir, [], NO_ROUND_TRIP), "store.keys", "ok", /^1 key, 1 of them with the private key;/);
  const secret = lock(dir);
  assertCheck(
    await examineHere(dir, [], NO_ROUND_TRIP),
    "store.locked",
    "warn",
    /^1 key is locked with a master key, which was not given;/,
  );
  const checks = await examineHere(dir, ["--master-key-file", secret], NO_ROUND_TRIP);
  assertCheck(
    checks,
    "store.locked",
    "ok",
    /^1 private key is locked with a master key, which was given and opens them;/,
  );
});

test("never prints what is secret", () => {
  const { dir, secret } = interruptedLock();
  const { k } = readJson(privateKey(dir)) as { k: string };
  const { stdout, stderr } = run(["doctor", "--keystore", dir, "--master-key-file", secret, "--fix"]);
  assert.match(stderr, /^fixed: /m);
  assert.not.match(stdout + stderr, k);
});

test("--fix removes a dead lock without needing it, --fix --force one of which nothing is known, and none that is held", async () => {
  const dir = makeStore("alice");
  const [path, takeover] = [join(dir, ".lock"), join(dir, ".lock-takeover")];
  const doctor = (...args: readonly string[]): string =>
    run(["doctor", ...args, "--keystore", dir], { env: { PATH: "", ...NO_ROUND_TRIP } }).stderr;
  const fixHere = async (force: boolean): Promise<string> =>
    (await fix(openStore(dir, noSecrets), {}, force)).map((line) => `${line}\n`).join("");
  const began = performance.now();
  for (const held of [path, takeover]) writeFileSync(held, JSON.stringify({ pid: deadPid() }));
  assert.match(
    doctor("--fix"),
    /^fixed: \S+takeover of process \d+ since \S+ is removed\nfixed: \S+lock of process \d+ since \S+ is removed\n$/,
  );
  assert.not.ok(existsSync(path) || existsSync(takeover));
  for (const content of [JSON.stringify({ pid: 7, system: "elsewhere" }), "no record", ""]) {
    for (const held of [path, takeover]) writeFileSync(held, content);
    assert.is(await fixHere(false), "");
    assert.ok(existsSync(path) && existsSync(takeover));
    assert.match(content === "" ? doctor("--fix", "--force") : await fixHere(true), /^fixed: .*\nfixed: .*\n$/);
    assert.not.ok(existsSync(path) || existsSync(takeover));
  }
  writeFileSync(path, JSON.stringify({ pid: process.pid }));
  assert.is(await fixHere(true), "");
  assert.ok(existsSync(path));
  assert.ok(performance.now() - began < 25_000, "and waits for none");
  assert.match(assertFailure(run(["doctor", "--force", "--keystore", dir]), 2), /--force is only for --fix/);
});

test("--fix fixes what crashes left and what others can read, says so, and finds nothing the second time", async () => {
  const { dir, secret } = interruptedLock();
  const annotation = wrapWith(dir, secret);
  chmodSync(join(dir, "private"), 0o777);
  chmodSync(privateKey(dir), 0o666);
  chmodSync(secret, 0o604);
  for (const folder of ["", "public", "private", "names"]) writeFileSync(temporary(join(dir, folder)), "half");
  for (const path of [".lock", ".lock-takeover"])
    writeFileSync(join(dir, path), JSON.stringify({ pid: deadPid(), start: "1", system: "" }), { mode: 0o600 });
  for (const path of [".lock", ".lock-takeover"]) utimesSync(join(dir, path), 1, 1); // of another boot, so it must be old
  const before = await examineHere(dir, ["--master-key-file", secret]);
  assert.equal(
    [...new Set(problems(before))],
    [
      "warn store.modes",
      "fail store.modes",
      "warn store.leftovers",
      "warn store.lock",
      "warn store.twice",
      "fail store.locked",
      "fail round-trip",
    ],
  );
  const { code, stdout, stderr } = run(["doctor", "--fix", "--json", "--keystore", dir, "--master-key-file", secret], {
    env: { PATH: "" },
  });
  assert.is(code, 0, stdout);
  assert.not.match(stderr, "not fixed");
  assert.not.match(stdout, '"fix"');
  assert.match(stderr, /^fixed: \S+ was not completely written/m);
  assert.equal(readdirSync(dir).toSorted(), ["default", "names", "private", "public"]);
  const second = run(["doctor", "--fix", "--json", "--keystore", dir, "--master-key-file", secret], {
    env: { PATH: "" },
  });
  assert.is(second.stderr, "");
  assert.equal(problems(checksIn(second)), []);
  assert.equal(readdirSync(join(dir, "private")), [`${kidOf(dir, "alice")}.jwe`]);
  assert.is(statSync(join(dir, "private")).mode & 0o777, 0o700);
  assert.match(succeed(["--keystore", dir, "--master-key-file", secret], { input: annotation }), "keyunwrapresults");
});

for (const [what, open, withSecret] of [
  ["the secret is not at hand", undefined, false],
  [
    "the locked key is another one of that kid",
    (dir: string) => readFileSync(privateKey(dir), "utf8").replace(/"k":"./, '"k":"_'),
    true,
  ],
  ["the open key is damaged", () => "{", true],
] as const) {
  test(`--fix keeps the open file of an interrupted lock where ${what}`, async () => {
    const { dir, secret } = interruptedLock(open);
    const before = readFileSync(privateKey(dir), "utf8");
    const args = ["--fix", ...(withSecret ? ["--master-key-file", secret] : [])];
    const checks = await examineHere(dir, args, NO_ROUND_TRIP);
    assertCheck(
      checks,
      "store.twice",
      "warn",
      /a lock or unlock was interrupted; give the secret that opens the locked one to the same key/,
    );
    assert.is(readFileSync(privateKey(dir), "utf8"), before);
  });
}

test("--fix never removes a private key without a name, and works on a removed key's leftovers too", async () => {
  const dir = makeStore("alice", "bob");
  const annotation = await wrapHere(dir, "bob");
  const removed = kidOf(dir, "alice");
  succeed(["remove", "alice", "--force", "--keystore", dir]);
  const open = readFileSync(join(dir, "removed", `${removed}.jwk`));
  const secret = lock(dir);
  writeFileSync(join(dir, "removed", `${removed}.jwk`), open);
  chmodSync(join(dir, "removed", `${removed}.jwk`), 0o644);
  rmSync(name(dir, "bob"));
  const checks = await examineHere(dir, ["--fix", "--master-key-file", secret]);
  assert.equal(problems(checks), ["warn store.unnamed", "warn round-trip"]);
  assert.equal(readdirSync(join(dir, "removed")).toSorted(), [`${removed}.jwe`, `${removed}.public.jwk`].toSorted());
  await assertOpens(dir, annotation, secretFiles({ masterKeyFile: secret }));
});

test("--fix says what it could not fix, and writes nothing to a store that needs nothing", async () => {
  const dir = makeStore("alice");
  const before = statSync(dir, { bigint: true }).ctimeNs;
  assert.equal(await fix(openStore(dir, noSecrets), {}, false), []);
  assert.is(statSync(dir, { bigint: true }).ctimeNs, before);
  mkdirSync(temporary(dir)); // no file: it is not ours to remove
  const { code, stderr } = run(["doctor", "--fix", "--keystore", dir], { env: { PATH: "" } });
  assert.is(code, 0);
  assert.match(stderr, /^not fixed: \S+ was not completely written: a crash left it behind: /);
});

test("is wrong usage with an unknown option", () => {
  assert.match(assertFailure(run(["doctor", "--repair"]), 2), /unknown argument: repair/);
});

function wrapWith(dir: string, secret: string): string {
  const optsdata = Buffer.from("secret").toString("base64");
  const wrapping = JSON.stringify({
    op: "keywrap",
    keywrapparams: { ec: { Parameters: { keystore: [""] } }, optsdata },
  });
  const { keywrapresults } = JSON.parse(
    succeed(["--keystore", dir, "--master-key-file", secret], { input: wrapping }),
  ) as { keywrapresults: { annotation: string } };
  return JSON.stringify({ op: "keyunwrap", keyunwrapparams: { dc: null, annotation: keywrapresults.annotation } });
}

test.run();
