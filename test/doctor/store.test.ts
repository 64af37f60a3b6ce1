// doctor and the store: its folders, modes, owners, leftovers, lock and names.

import { spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { assertCheck, examine, examineHere, NO_ROUND_TRIP, problems } from "../support/checks.ts";
import { temporaryFolder } from "../support/folders.ts";
import { testWith } from "../support/parts.ts";
import { sharedBinary } from "../support/program.ts";
import { kidOf, makeSharedStore, makeStore } from "../support/stores.ts";

const root = process.getuid?.() === 0 ? true : undefined;
const deadPid = (): number => spawnSync("true").pid;
const privateKey = (dir: string, name = "alice", ending = "jwk"): string =>
  join(dir, "private", `${kidOf(dir, name)}.${ending}`);
const publicKey = (dir: string, name = "alice"): string => join(dir, "public", `${kidOf(dir, name)}.jwk`);
const name = (dir: string, key = "alice"): string => join(dir, "names", key);
const temporary = (dir: string, pid = deadPid()): string => join(dir, `.tmp-${pid}-0123456789abcdef`);

const rewrite = (path: string, from: string | RegExp, to: string): void =>
  writeFileSync(path, readFileSync(path, "utf8").replace(from, to));

// What is broken, under which id it is found, and what is said.
const broken: [string, string, "warn" | "fail", RegExp, (dir: string) => void][] = [
  [
    "a store that is a file",
    "store",
    "fail",
    /is not a directory/,
    (dir) => (rmSync(dir, { recursive: true }), writeFileSync(dir, "")),
  ],
  [
    "a private key that others can read",
    "store.modes",
    "fail",
    /can be read by others \(mode 0640\).*chmod 600/,
    (dir) => chmodSync(privateKey(dir), 0o640),
  ],
  [
    "a private folder that others may enter",
    "store.modes",
    "warn",
    /others may enter .*private \(mode 0755\).*chmod 700/,
    (dir) => chmodSync(join(dir, "private"), 0o755),
  ],
  [
    "a half-written file of a dead process",
    "store.leftovers",
    "warn",
    /was not completely written.*doctor --fix/,
    (dir) => writeFileSync(temporary(join(dir, "private")), ""),
  ],
  [
    "a half-written file that is old, whatever its pid is now",
    "store.leftovers",
    "warn",
    /was not completely written/,
    (dir) => (writeFileSync(temporary(dir, process.pid), ""), utimesSync(temporary(dir, process.pid), 1, 1)),
  ],
  [
    "a lock of a dead process",
    "store.lock",
    "warn",
    /\.lock is held by a process that does not run here: process \d+ since \S+; the next change takes it over; or run .*doctor --fix/,
    (dir) => writeFileSync(join(dir, ".lock"), JSON.stringify({ pid: deadPid(), start: "1" })),
  ],
  [
    "a lock of a process that cannot be seen",
    "store.lock",
    "warn",
    /\.lock is held by a process that does not run here, and perhaps elsewhere: process \d+ since \S+; if that process is gone, run .*doctor --fix --force/,
    (dir) => writeFileSync(join(dir, ".lock"), JSON.stringify({ pid: deadPid(), start: "1", system: "" })),
  ],
  [
    "a takeover that died",
    "store.lock",
    "warn",
    /\.lock-takeover is held by/,
    (dir) => writeFileSync(join(dir, ".lock-takeover"), ""),
  ],
  [
    "a lock that its live owner does not touch",
    "store.lock",
    "warn",
    /\.lock is held by process \d+ since \S+, which has not touched it for 10 minutes/,
    (dir) => (
      writeFileSync(join(dir, ".lock"), JSON.stringify({ pid: process.pid })),
      utimesSync(join(dir, ".lock"), 1, 1)
    ),
  ],
  [
    "a lock that is a symlink",
    "store.lock",
    "fail",
    /\.lock is in the way of the lock: it is not a regular file; move it away/,
    (dir) => symlinkSync(join(dir, "default"), join(dir, ".lock")),
  ],
  [
    "a store that everybody can write to",
    "store.modes",
    "warn",
    /others can write to \S+store \(mode 0757\); run chmod go-w/,
    (dir) => chmodSync(dir, 0o757),
  ],
  [
    "a folder that everybody can write to, sticky or not",
    "store.modes",
    "warn",
    /others can write to \S+names \(mode 1777\); run chmod go-w/,
    (dir) => chmodSync(join(dir, "names"), 0o1777),
  ],
  [
    "a public key that everybody can write to",
    "store.modes",
    "warn",
    /others can write to \S+public\S+jwk \(mode 0646\); run chmod go-w/,
    (dir) => chmodSync(publicKey(dir), 0o646),
  ],
  [
    "a default that everybody can write to",
    "store.modes",
    "warn",
    /others can write to \S+default \(mode 0666\); run chmod go-w/,
    (dir) => chmodSync(join(dir, "default"), 0o666),
  ],
  [
    "a parent that everybody can write to",
    "store.modes",
    "warn",
    /others can replace the store: they can write to \S+ \(mode 0777\); run chmod go-w \S+, or chmod \+t/,
    (dir) => chmodSync(join(dir, ".."), 0o777),
  ],
  [
    "a damaged name",
    "store.names",
    "fail",
    /names\/bob is damaged/,
    (dir) => writeFileSync(name(dir, "bob"), "../x\n"),
  ],
  [
    "a name whose key is missing",
    "store.names",
    "fail",
    /the name alice points to \S+, which is missing.*backup/,
    (dir) => (rmSync(publicKey(dir)), rmSync(privateKey(dir))),
  ],
  [
    "a name that is the kid of another key",
    "store.names",
    "warn",
    /is also the kid of another key/,
    (dir) => copyFileSync(name(dir, "bob"), name(dir, kidOf(dir, "alice"))),
  ],
  [
    "a file that cannot be a name",
    "store.names",
    "warn",
    /Enabled is ignored/,
    (dir) => copyFileSync(name(dir), name(dir, "Enabled")),
  ],
  ["no default key", "store.default", "warn", /no default key.*default NAME/, (dir) => rmSync(join(dir, "default"))],
  [
    "a default key that is gone",
    "store.default",
    "fail",
    /the default key is carol, and there is no such name/,
    (dir) => writeFileSync(join(dir, "default"), "carol\n"),
  ],
  [
    "a damaged default",
    "store.default",
    "fail",
    /default is damaged/,
    (dir) => writeFileSync(join(dir, "default"), "\n"),
  ],
  [
    "a public key that is damaged",
    "store.keys",
    "fail",
    /public\/\S+ is damaged: it is not JSON/,
    (dir) => truncateSync(publicKey(dir), 20),
  ],
  [
    "a private key that is damaged",
    "store.keys",
    "fail",
    /private\/\S+ is damaged: it is not JSON/,
    (dir) => truncateSync(privateKey(dir), 20),
  ],
  [
    "a public key that is another one",
    "store.keys",
    "fail",
    /public\/\S+ is damaged: it holds another key than its file name says/,
    (dir) => copyFileSync(publicKey(dir, "bob"), publicKey(dir)),
  ],
  [
    "a private key that is another one",
    "store.keys",
    "fail",
    /private\/\S+ is damaged: it holds another key/,
    (dir) => copyFileSync(privateKey(dir, "bob"), privateKey(dir)),
  ],
  [
    "a private key whose halves do not match",
    "store.keys",
    "fail",
    /has a d that does not match its point/,
    (dir) => rewrite(privateKey(dir), /"d":"[^"]+"/, `"d":"${"A".repeat(42)}E"`),
  ],
  [
    "a private key without its private part",
    "store.keys",
    "fail",
    /has no private part/,
    (dir) => copyFileSync(publicKey(dir), privateKey(dir)),
  ],
  [
    "a private key without its public file",
    "store.keys",
    "warn",
    /has no public file: it unwraps only/,
    (dir) => rmSync(publicKey(dir)),
  ],
  [
    "a private key without a name",
    "store.unnamed",
    "warn",
    /no name points to private key/,
    (dir) => rmSync(name(dir, "bob")),
  ],
];

const THROUGH_THE_BINARY = ["store", "store.default"]; // a row or two of each status are enough

for (const [what, id, status, message, breakIt] of broken) {
  test(`finds ${what}`, async () => {
    const dir = makeStore("alice", "bob");
    breakIt(dir);
    assertCheck(await examineHere(dir, [], NO_ROUND_TRIP), id, status, message);
    if (THROUGH_THE_BINARY.includes(id)) assertCheck(examine(dir), id, status, message);
  });
}

test("takes a store made of symlinks, as Kubernetes mounts a secret, and another owner's open file as they are", async () => {
  const dir = makeStore("alice");
  const [data, path] = [join(temporaryFolder(), "data"), privateKey(dir)];
  copyFileSync(path, data);
  chmodSync(data, 0o400);
  rmSync(path);
  symlinkSync(data, path);
  assert.equal(problems(await examineHere(dir)), []);
});

testWith(
  root,
  "root, to give files away",
  "tells of files of another owner, and leaves their modes to the administrator",
  async () => {
    const dir = makeStore("alice");
    chownSync(privateKey(dir), 65534, 65534);
    chmodSync(privateKey(dir), 0o644);
    const checks = await examineHere(dir, ["--fix"]);
    assertCheck(checks, "store.owners", "warn", /is owned by uid 65534, the store by uid 0; run chown 0/);
    assert.equal(problems(checks), ["warn store.owners"]);
    assert.is(statSync(privateKey(dir)).mode & 0o777, 0o644);
  },
);

testWith(root, "root, to become another user", "fails for a user who may not read the store", () => {
  const args = ["--reuid", "65534", "--clear-groups", sharedBinary(), "doctor", "--keystore", makeSharedStore("alice")];
  const { status, stdout } = spawnSync("setpriv", args, { encoding: "utf8", env: { PATH: "/usr/bin:/bin" } });
  assert.is(status, 1);
  assert.match(stdout, /^fail {2}store: cannot read \S+private: EACCES; let this user read it/);
});

test("knows a lock that is held and a file that is being written, and touches neither", async () => {
  const dir = makeStore("alice");
  const held = [join(dir, ".lock"), temporary(dir, process.pid)];
  for (const path of held) writeFileSync(path, JSON.stringify({ pid: process.pid }));
  const checks = await examineHere(dir, ["--fix"]);
  assert.equal(problems(checks), []);
  assertCheck(checks, "store.lock", "ok", new RegExp(`process ${process.pid} is changing the store`));
  for (const path of held) assert.ok(existsSync(path));
});

test("takes a store as it is where its parent is sticky, as /tmp", async () => {
  const dir = makeStore("alice");
  chmodSync(join(dir, ".."), 0o1777);
  assert.equal(problems(await examineHere(dir)), []);
});

testWith(root, "root, to give files away", "warns where a group or another user can change the store", async () => {
  const dir = makeStore("alice");
  chownSync(name(dir), 0, 1234);
  chmodSync(name(dir), 0o664);
  assertCheck(await examineHere(dir), "store.modes", "warn", /others can write to \S+names.alice \(mode 0664\)/);
  chmodSync(name(dir), 0o644);
  for (const path of ["", ...readdirSync(dir, { recursive: true, encoding: "utf8" })])
    chownSync(join(dir, path), 65534, 65534);
  const checks = await examineHere(dir);
  assertCheck(
    checks,
    "store.owners",
    "warn",
    /store is owned by uid 65534, which can change every key in it; run this as that user, or run chown -R 0/,
  );
  assert.equal(problems(checks), ["warn store.owners"]);
  for (const path of ["", ...readdirSync(dir, { recursive: true, encoding: "utf8" })]) chownSync(join(dir, path), 0, 0);
  chownSync(join(dir, "names"), 1234, 1234);
  assertCheck(await examineHere(dir), "store.owners", "warn", /names is owned by uid 1234, the store by uid 0/);
});

test.run();
