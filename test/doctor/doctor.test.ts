// doctor and the key store: everything that can be wrong with it is found under its id, and fixed if nothing can be lost.

import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chmodSync, chownSync, copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, truncateSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { assertCheck, configFile, entry, examine, problems, skipped } from "../support/checks.ts";
import { secretFile, temporaryFolder } from "../support/folders.ts";
import { testWith } from "../support/parts.ts";
import { assertFailure, run, sharedBinary, succeed } from "../support/program.ts";
import { unwrap, wrap } from "../support/requests.ts";
import { masterKeyFile, kidOf, makeSharedStore, makeStore } from "../support/stores.ts";

const IDS = [
  ..."store store.modes store.owners store.leftovers store.lock store.names store.default store.keys store.unnamed store.twice store.locked store.holders".split(" "),
  ..."config.variable config.file config.json config.provider config.path config.args config.grpc".split(" "),
  ..."clients client.skopeo client.podman client.buildah client.nerdctl client.ctr-enc client.ctd-decoder client.containerd client.crio".split(" "),
  ..."containerd.decoder containerd.keys containerd.provider containerd.zstd containerd.key-model containerd.pull round-trip".split(" "),
];
const root = process.getuid?.() === 0 ? true : undefined;
const deadPid = (): number => spawnSync("true").pid;
const privateKey = (dir: string, name = "alice", ending = "jwk"): string => join(dir, "private", `${kidOf(dir, name)}.${ending}`);
const publicKey = (dir: string, name = "alice"): string => join(dir, "public", `${kidOf(dir, name)}.jwk`);
const name = (dir: string, key = "alice"): string => join(dir, "names", key);
const temporary = (dir: string, pid = deadPid()): string => join(dir, `.tmp-${pid}-0123456789abcdef`);
const lock = (dir: string, secret = masterKeyFile()): string => {
  succeed(["lock", "--keystore", dir, "--master-key-file", secret]);
  return secret;
};
/** A store whose lock was interrupted after it wrote the locked file, and the secret. */
const interruptedLock = (open: (dir: string) => string = (dir) => readFileSync(privateKey(dir), "utf8")): { dir: string; secret: string } => {
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
  assert.equal(checks.map(({ id }) => id), IDS);
  assert.equal(problems(checks), []);
  assertCheck(checks, "round-trip", "ok", /wrapped for alice and unwrapped/);
  for (const check of checks) assert.ok(check.message !== "", JSON.stringify(check));
  assert.equal(skipped(checks).filter((id) => !/^(client|containerd)\./.test(id)), ["config.grpc"]);
});

test("is a line a check for people, with the way out", () => {
  const dir = makeStore("alice");
  rmSync(join(dir, "default"));
  const { code, stdout, stderr } = run(["doctor", "--keystore", dir], { env: { PATH: "" } });
  assert.is(code, 0);
  assert.is(stderr, "");
  assert.is(stdout.trimEnd().split("\n").length, IDS.length);
  assert.match(stdout, `ok    store: ${dir}\n`);
  assert.match(stdout, "\nskip  config.file: no file is named\n");
  assert.match(stdout, "\nwarn  store.default: no default key: a client must name one, provider:PROVIDER:NAME; set one with ocicrypt-keystore default NAME\n");
});

test("fails with the report on standard output where there is no store, and makes none", () => {
  const dir = join(temporaryFolder(), "none");
  const checks = examine(dir, ["--fix"]);
  assertCheck(checks, "store", "fail", /no key store at .*keygen NAME/);
  assert.equal(problems(checks), ["fail store"]);
  assert.not.ok(existsSync(dir));
});

for (const [what, breakIt] of [
  ["is missing", (dir: string) => rmSync(dir, { recursive: true })],
  ["is a file", (dir: string) => (rmSync(dir, { recursive: true }), writeFileSync(dir, ""))],
  ["has a file for a folder", (dir: string) => (rmSync(join(dir, "names"), { recursive: true }), writeFileSync(join(dir, "names"), ""))],
] as const) {
  test(`skips every check that needs the store where the store ${what}, with nothing of it ok`, () => {
    const dir = makeStore("alice");
    breakIt(dir);
    const checks = examine(dir);
    assert.equal(problems(checks), ["fail store"]);
    const needStore = IDS.filter((id) => id.startsWith("store.") || id === "round-trip");
    assert.equal(skipped(checks).filter((id) => needStore.includes(id)), needStore);
    assertCheck(checks, "store.keys", "skip", /no key store that can be read/);
    assertCheck(checks, "round-trip", "skip", /no key store to use at/);
  });
}

test("looks at a store without keys, so nothing of it is skipped", () => {
  const dir = join(temporaryFolder(), "store");
  mkdirSync(dir);
  const checks = examine(dir);
  assert.equal(skipped(checks).filter((id) => id.startsWith("store")), []);
  assertCheck(checks, "store.names", "ok", /^0 names/);
  assertCheck(checks, "store.default", "ok", /no keys yet/);
  assertCheck(checks, "round-trip", "warn", /not tried: no current key/);
});

test("makes the round trip through the store of the provider where the one that is checked is missing", () => {
  const [used, dir] = [makeStore("bob"), join(temporaryFolder(), "none")];
  const withStore = (store: string): string => configFile({ ks: entry(["--keystore", store, "--provider", "ks"]) });
  const checks = examine(dir, [], { OCICRYPT_KEYPROVIDER_CONFIG: withStore(used) });
  assert.equal(problems(checks), ["fail store", "warn config.args"]);
  assertCheck(checks, "round-trip", "ok", /wrapped for bob/);
  const other = examine(used, [], { OCICRYPT_KEYPROVIDER_CONFIG: withStore(dir) });
  assertCheck(other, "round-trip", "skip", new RegExp(`no key store to use at ${dir}`));
});

test("counts one thing in the singular", () => {
  const dir = makeStore("alice");
  assertCheck(examine(dir), "store.names", "ok", /^1 name;/);
  assertCheck(examine(dir), "store.keys", "ok", /^1 key, 1 of them with the private key;/);
  const secret = lock(dir);
  assertCheck(examine(dir), "store.locked", "warn", /^1 key is locked with a master key, which was not given;/);
  const checks = examine(dir, ["--master-key-file", secret]);
  assertCheck(checks, "store.locked", "ok", /^1 private key is locked with a master key, which was given and opens them;/);
});

test("never prints what is secret", () => {
  const { dir, secret } = interruptedLock();
  const { stdout, stderr } = run(["doctor", "--keystore", dir, "--master-key-file", secret, "--fix"]);
  const { k } = JSON.parse(succeed(["export", "alice", "--private", "--keystore", dir, "--master-key-file", secret])) as { k: string };
  assert.not.match(stdout + stderr, k);
});

const rewrite = (path: string, from: string | RegExp, to: string): void => writeFileSync(path, readFileSync(path, "utf8").replace(from, to));

// What is broken, under which id it is found, and what is said.
const broken: [string, string, "warn" | "fail", RegExp, (dir: string) => void][] = [
  ["a store that is a file", "store", "fail", /is not a directory/, (dir) => (rmSync(dir, { recursive: true }), writeFileSync(dir, ""))],
  ["a private key that others can read", "store.modes", "fail", /can be read by others \(mode 0640\).*chmod 600/, (dir) => chmodSync(privateKey(dir), 0o640)],
  ["a private folder that others may enter", "store.modes", "warn", /others may enter .*private \(mode 0755\).*chmod 700/, (dir) => chmodSync(join(dir, "private"), 0o755)],
  ["a half-written file of a dead process", "store.leftovers", "warn", /is half written.*doctor --fix/, (dir) => writeFileSync(temporary(join(dir, "private")), "")],
  ["a half-written file that is old, whatever its pid is now", "store.leftovers", "warn", /half written/, (dir) => (writeFileSync(temporary(dir, process.pid), ""), utimesSync(temporary(dir, process.pid), 1, 1))],
  ["a lock of a dead process", "store.lock", "warn", /\.lock is of a process that does not run here: process \d+ since \S+; the next change takes it over; or run .*doctor --fix/, (dir) => writeFileSync(join(dir, ".lock"), JSON.stringify({ pid: deadPid(), start: "1" }))],
  ["a lock of a process that cannot be seen", "store.lock", "warn", /\.lock is of a process that does not run here, and perhaps elsewhere: process \d+ since \S+; if that process is gone, run .*doctor --fix --force/, (dir) => writeFileSync(join(dir, ".lock"), JSON.stringify({ pid: deadPid(), start: "1", system: "" }))],
  ["a takeover that died", "store.lock", "warn", /\.lock-takeover is of/, (dir) => writeFileSync(join(dir, ".lock-takeover"), "")],
  ["a lock that its live owner does not touch", "store.lock", "warn", /\.lock is of process \d+ since \S+, which has not touched it for 10 minutes/, (dir) => (writeFileSync(join(dir, ".lock"), JSON.stringify({ pid: process.pid })), utimesSync(join(dir, ".lock"), 1, 1))],
  ["a lock that is a symlink", "store.lock", "fail", /\.lock is in the way of the lock: it is not a regular file; move it away/, (dir) => symlinkSync(join(dir, "default"), join(dir, ".lock"))],
  ["a store that everybody can write to", "store.modes", "warn", /others can write to \S+store \(mode 0757\); run chmod go-w/, (dir) => chmodSync(dir, 0o757)],
  ["a folder that everybody can write to, sticky or not", "store.modes", "warn", /others can write to \S+names \(mode 1777\); run chmod go-w/, (dir) => chmodSync(join(dir, "names"), 0o1777)],
  ["a public key that everybody can write to", "store.modes", "warn", /others can write to \S+public\S+jwk \(mode 0646\); run chmod go-w/, (dir) => chmodSync(publicKey(dir), 0o646)],
  ["a default that everybody can write to", "store.modes", "warn", /others can write to \S+default \(mode 0666\); run chmod go-w/, (dir) => chmodSync(join(dir, "default"), 0o666)],
  ["a parent that everybody can write to", "store.modes", "warn", /others can replace the store: they can write to \S+ \(mode 0777\); run chmod go-w \S+, or chmod \+t/, (dir) => chmodSync(join(dir, ".."), 0o777)],
  ["a damaged name", "store.names", "fail", /names\/bob is damaged/, (dir) => writeFileSync(name(dir, "bob"), "../x\n")],
  ["a name whose key is missing", "store.names", "fail", /the name alice points to \S+, which is missing.*backup/, (dir) => (rmSync(publicKey(dir)), rmSync(privateKey(dir)))],
  ["a name that is the kid of another key", "store.names", "warn", /is also the kid of another key/, (dir) => copyFileSync(name(dir, "bob"), name(dir, kidOf(dir, "alice")))],
  ["a file that cannot be a name", "store.names", "warn", /Enabled is ignored/, (dir) => copyFileSync(name(dir), name(dir, "Enabled"))],
  ["no default key", "store.default", "warn", /no default key.*default NAME/, (dir) => rmSync(join(dir, "default"))],
  ["a default key that is gone", "store.default", "fail", /the default key is carol, and there is no such name/, (dir) => writeFileSync(join(dir, "default"), "carol\n")],
  ["a damaged default", "store.default", "fail", /default is damaged/, (dir) => writeFileSync(join(dir, "default"), "\n")],
  ["a public key that is damaged", "store.keys", "fail", /public\/\S+ is damaged: it is not JSON/, (dir) => truncateSync(publicKey(dir), 20)],
  ["a private key that is damaged", "store.keys", "fail", /private\/\S+ is damaged: it is not JSON/, (dir) => truncateSync(privateKey(dir), 20)],
  ["a public key that is another one", "store.keys", "fail", /public\/\S+ is damaged: it holds another key than its file name says/, (dir) => copyFileSync(publicKey(dir, "bob"), publicKey(dir))],
  ["a private key that is another one", "store.keys", "fail", /private\/\S+ is damaged: it holds another key/, (dir) => copyFileSync(privateKey(dir, "bob"), privateKey(dir))],
  ["a private key whose halves do not match", "store.keys", "fail", /has a d that does not match its point/, (dir) => rewrite(privateKey(dir), /"d":"[^"]+"/, `"d":"${"A".repeat(42)}E"`)],
  ["a private key without its private part", "store.keys", "fail", /has no private part/, (dir) => copyFileSync(publicKey(dir), privateKey(dir))],
  ["a private key without its public file", "store.keys", "warn", /has no public file: it unwraps only/, (dir) => rmSync(publicKey(dir))],
  ["a private key without a name", "store.unnamed", "warn", /no name points to private key/, (dir) => rmSync(name(dir, "bob"))],
];

for (const [what, id, status, message, breakIt] of broken) {
  test(`finds ${what}`, () => {
    const dir = makeStore("alice", "bob");
    breakIt(dir);
    assertCheck(examine(dir), id, status, message);
  });
}

test("takes a store made of symlinks, as Kubernetes mounts a secret, and another owner's open file as they are", () => {
  const dir = makeStore("alice");
  const [data, path] = [join(temporaryFolder(), "data"), privateKey(dir)];
  copyFileSync(path, data);
  chmodSync(data, 0o400);
  rmSync(path);
  symlinkSync(data, path);
  assert.equal(problems(examine(dir)), []);
});

testWith(root, "root, to give files away", "tells of files of another owner, and leaves their modes to the administrator", () => {
  const dir = makeStore("alice");
  chownSync(privateKey(dir), 65534, 65534);
  chmodSync(privateKey(dir), 0o644);
  const checks = examine(dir, ["--fix"]);
  assertCheck(checks, "store.owners", "warn", /is owned by uid 65534, the store by uid 0; run chown 0/);
  assert.equal(problems(checks), ["warn store.owners"]);
  assert.is(statSync(privateKey(dir)).mode & 0o777, 0o644);
});

testWith(root, "root, to become another user", "fails for a user who may not read the store", () => {
  const args = ["--reuid", "65534", "--clear-groups", sharedBinary(), "doctor", "--keystore", makeSharedStore("alice")];
  const { status, stdout } = spawnSync("setpriv", args, { encoding: "utf8", env: { PATH: "/usr/bin:/bin" } });
  assert.is(status, 1);
  assert.match(stdout, /^fail {2}store: cannot read \S+private: EACCES; let this user read it/);
});

test("knows a lock that is held and a file that is being written, and touches neither", () => {
  const dir = makeStore("alice");
  const held = [join(dir, ".lock"), temporary(dir, process.pid)];
  for (const path of held) writeFileSync(path, JSON.stringify({ pid: process.pid }));
  const checks = examine(dir, ["--fix"]);
  assert.equal(problems(checks), []);
  assertCheck(checks, "store.lock", "ok", new RegExp(`process ${process.pid} is changing the store`));
  for (const path of held) assert.ok(existsSync(path));
});

test("takes a store as it is where its parent is sticky, as /tmp", () => {
  const dir = makeStore("alice");
  chmodSync(join(dir, ".."), 0o1777);
  assert.equal(problems(examine(dir)), []);
});

testWith(root, "root, to give files away", "warns where a group or another user can change the store", () => {
  const dir = makeStore("alice");
  chownSync(name(dir), 0, 1234);
  chmodSync(name(dir), 0o664);
  assertCheck(examine(dir), "store.modes", "warn", /others can write to \S+names.alice \(mode 0664\)/);
  chmodSync(name(dir), 0o644);
  for (const path of ["", ...readdirSync(dir, { recursive: true, encoding: "utf8" })]) chownSync(join(dir, path), 65534, 65534);
  const checks = examine(dir);
  assertCheck(checks, "store.owners", "warn", /store is owned by uid 65534, which can change every key in it; run this as that user, or run chown -R 0/);
  assert.equal(problems(checks), ["warn store.owners"]);
  for (const path of ["", ...readdirSync(dir, { recursive: true, encoding: "utf8" })]) chownSync(join(dir, path), 0, 0);
  chownSync(join(dir, "names"), 1234, 1234);
  assertCheck(examine(dir), "store.owners", "warn", /names is owned by uid 1234, the store by uid 0/);
});

test("--fix removes a dead lock without needing it, --fix --force one of which nothing is known, and none that is held", () => {
  const dir = makeStore("alice");
  const [path, takeover] = [join(dir, ".lock"), join(dir, ".lock-takeover")];
  const doctor = (...args: readonly string[]): string => run(["doctor", ...args, "--keystore", dir], { env: { PATH: "" } }).stderr;
  const began = performance.now();
  for (const held of [path, takeover]) writeFileSync(held, JSON.stringify({ pid: deadPid() }));
  assert.match(doctor("--fix"), /^fixed: \S+takeover of process \d+ since \S+ is removed\nfixed: \S+lock of process \d+ since \S+ is removed\n$/);
  assert.not.ok(existsSync(path) || existsSync(takeover));
  for (const content of [JSON.stringify({ pid: 7, system: "elsewhere" }), "no record", ""]) {
    for (const held of [path, takeover]) writeFileSync(held, content);
    assert.is(doctor("--fix"), "");
    assert.ok(existsSync(path) && existsSync(takeover));
    assert.match(doctor("--fix", "--force"), /^fixed: .*\nfixed: .*\n$/);
    assert.not.ok(existsSync(path) || existsSync(takeover));
  }
  writeFileSync(path, JSON.stringify({ pid: process.pid }));
  assert.is(doctor("--fix", "--force"), "");
  assert.ok(existsSync(path));
  assert.ok(performance.now() - began < 25_000, "and waits for none");
  assert.match(assertFailure(run(["doctor", "--force", "--keystore", dir]), 2), /--force is only for --fix/);
});

test("opens locked keys with the secret it is given, else tells that it was not given", () => {
  const dir = makeStore("alice", "bob");
  const secret = lock(dir);
  assertCheck(examine(dir, ["--master-key-file", secret]), "store.locked", "ok", /2 private keys are locked with a master key, which was given and opens them/);
  assert.equal(problems(examine(dir, [], { OCICRYPT_KEYSTORE_MASTER_KEY_FILE: secret })), []);
  const checks = examine(dir);
  assertCheck(checks, "store.locked", "warn", /2 keys are locked with a master key, which was not given; .*--master-key-file FILE/);
  assertCheck(checks, "round-trip", "fail", /exit code 3.*locked with a master key/);
  const file = configFile({ ks: entry(["--keystore", dir, "--provider", "ks", "--master-key-file", secret]) });
  assert.equal(problems(examine(dir, [], { OCICRYPT_KEYPROVIDER_CONFIG: file })), []);
});

test("tells of a secret that does not open the keys, is missing, or can be read by others", () => {
  const dir = makeStore("alice");
  lock(dir);
  assertCheck(examine(dir, ["--master-key-file", masterKeyFile()]), "store.locked", "fail", /does not open: wrong master key, or the file is damaged/);
  assertCheck(examine(dir, ["--master-key-file", "/none"]), "store.locked", "fail", /master key file \/none is missing/);
  const open = secretFile(randomBytes(32), 0o644);
  assertCheck(examine(dir, ["--master-key-file", open]), "store.modes", "fail", /master key \S+ can be read by others/);
});

test("tells of keys locked with several kinds of secrets, of some not locked, and of a locked key that is damaged", () => {
  const dir = makeStore("alice", "bob", "carol");
  const [one, other] = [makeStore("x"), makeStore("y")];
  const passphrase = join(temporaryFolder(), "passphrase");
  writeFileSync(passphrase, "horse", { mode: 0o600 });
  const secret = lock(one);
  succeed(["lock", "--keystore", other, "--passphrase-file", passphrase]);
  for (const from of [one, other]) for (const folder of ["private", "public", "names"]) for (const file of readdirSync(join(from, folder))) copyFileSync(join(from, folder, file), join(dir, folder, file));
  const messages = examine(dir, ["--master-key-file", secret, "--passphrase-file", passphrase]).filter(({ id }) => id === "store.locked");
  assert.equal(messages.map(({ status, message }) => `${status} ${message}`), ["warn 3 private keys are not locked, others are", "warn some keys are locked with a master key, others with a passphrase"]);
  truncateSync(privateKey(one, "x", "jwe"), 100);
  assertCheck(examine(one, ["--master-key-file", secret]), "store.locked", "fail", /locked key \S+ is damaged: it is not a JWE.*backup/);
});

test("--fix fixes what crashes left and what others can read, says so, and finds nothing the second time", () => {
  const { dir, secret } = interruptedLock();
  const annotation = wrapWith(dir, secret);
  chmodSync(join(dir, "private"), 0o777);
  chmodSync(privateKey(dir), 0o666);
  chmodSync(secret, 0o604);
  for (const folder of ["", "public", "private", "names"]) writeFileSync(temporary(join(dir, folder)), "half");
  for (const path of [".lock", ".lock-takeover"]) writeFileSync(join(dir, path), JSON.stringify({ pid: deadPid(), start: "1", system: "" }), { mode: 0o600 });
  for (const path of [".lock", ".lock-takeover"]) utimesSync(join(dir, path), 1, 1); // of another boot, so it must be old
  const before = examine(dir, ["--master-key-file", secret]);
  assert.equal([...new Set(problems(before))], ["warn store.modes", "fail store.modes", "warn store.leftovers", "warn store.lock", "warn store.twice", "fail store.locked", "fail round-trip"]);
  const { code, stdout, stderr } = run(["doctor", "--fix", "--json", "--keystore", dir, "--master-key-file", secret], { env: { PATH: "" } });
  assert.is(code, 0, stdout);
  assert.not.match(stderr, "not fixed");
  assert.not.match(stdout, '"fix"');
  assert.match(stderr, /^fixed: \S+ is half written/m);
  assert.equal(readdirSync(dir).toSorted(), ["default", "names", "private", "public"]);
  const { code: second, stderr: silent } = run(["doctor", "--fix", "--keystore", dir, "--master-key-file", secret], { env: { PATH: "" } });
  assert.is(second, 0);
  assert.is(silent, "");
  assert.equal(problems(examine(dir, ["--master-key-file", secret])), []);
  assert.equal(readdirSync(join(dir, "private")), [`${kidOf(dir, "alice")}.jwe`]);
  assert.is(statSync(join(dir, "private")).mode & 0o777, 0o700);
  assert.match(succeed(["--keystore", dir, "--master-key-file", secret], { input: annotation }), "keyunwrapresults");
});

for (const [what, open, withSecret] of [
  ["the secret is not at hand", undefined, false],
  ["the locked key is another one of that kid", (dir: string) => readFileSync(privateKey(dir), "utf8").replace(/"k":"./, '"k":"_'), true],
  ["the open key is damaged", () => "{", true],
] as const) {
  test(`--fix keeps the open file of an interrupted lock where ${what}`, () => {
    const { dir, secret } = interruptedLock(open);
    const before = readFileSync(privateKey(dir), "utf8");
    const checks = examine(dir, ["--fix", ...(withSecret ? ["--master-key-file", secret] : [])]);
    assertCheck(checks, "store.twice", "warn", /a lock or unlock was interrupted; give the secret that opens the locked one to the same key/);
    assert.is(readFileSync(privateKey(dir), "utf8"), before);
  });
}

test("--fix never removes a private key without a name, and works on a removed key's leftovers too", () => {
  const dir = makeStore("alice", "bob");
  const annotation = wrap(dir, ["bob"]);
  const removed = kidOf(dir, "alice");
  succeed(["remove", "alice", "--force", "--keystore", dir]);
  const open = readFileSync(join(dir, "removed", `${removed}.jwk`));
  const secret = lock(dir);
  writeFileSync(join(dir, "removed", `${removed}.jwk`), open);
  chmodSync(join(dir, "removed", `${removed}.jwk`), 0o644);
  rmSync(name(dir, "bob"));
  const checks = examine(dir, ["--fix", "--master-key-file", secret]);
  assert.equal(problems(checks), ["warn store.unnamed", "warn round-trip"]);
  assert.equal(readdirSync(join(dir, "removed")).toSorted(), [`${removed}.jwe`, `${removed}.public.jwk`].toSorted());
  succeed(["unlock", "--keystore", dir, "--master-key-file", secret]);
  assert.match(unwrap(dir, annotation), "symkey");
});

test("--fix says what it could not fix, and writes nothing to a store that needs nothing", () => {
  const dir = makeStore("alice");
  const before = statSync(dir, { bigint: true }).ctimeNs;
  examine(dir, ["--fix"]);
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
  const wrapping = JSON.stringify({ op: "keywrap", keywrapparams: { ec: { Parameters: { keystore: [""] } }, optsdata } });
  const { keywrapresults } = JSON.parse(succeed(["--keystore", dir, "--master-key-file", secret], { input: wrapping })) as { keywrapresults: { annotation: string } };
  return JSON.stringify({ op: "keyunwrap", keyunwrapparams: { dc: null, annotation: keywrapresults.annotation } });
}

test.run();
