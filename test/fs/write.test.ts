// Whose the files of a store are and who may read them, whatever the umask, and folders that are made durable.

import { chmodSync, chownSync, existsSync, lstatSync, mkdirSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { writeFileSafely } from "../../src/fs/write.ts";
import { temporaryFolder } from "../support/folders.ts";
import { tool, testWith } from "../support/parts.ts";
import { run, succeed, BINARY } from "../support/program.ts";
import { kidOf, makeSharedStore, makeStore } from "../support/stores.ts";

const root = process.geteuid?.() === 0 ? true : undefined;
const mode = (...path: readonly string[]): string => (lstatSync(join(...path)).mode & 0o7777).toString(8);
const owner = (...path: readonly string[]): string => ((stat) => `${stat.uid}:${stat.gid}`)(statSync(join(...path)));

/** Runs a command under a umask. */
function under(umask: string, ...args: readonly string[]): string {
  return succeed(["-c", `umask ${umask} && exec "$0" "$@"`, BINARY, ...args], { binary: "/bin/sh" });
}

for (const umask of ["077", "027", "022", "000"]) {
  test(`in a store that all may read, umask ${umask} takes nothing from them and gives them no secret`, () => {
    const dir = makeSharedStore("alice");
    const files = ["names/alice", "default"];
    const before = files.map((file) => mode(dir, file));
    under(umask, "rotate", "alice", "--keystore", dir);
    under(umask, "keygen", "bob", "--keystore", dir);
    under(umask, "default", "bob", "--keystore", dir);
    assert.equal(
      files.map((file) => mode(dir, file)),
      before,
    );
    for (const name of ["alice", "bob"]) {
      assert.is(mode(dir, "names", name), "644");
      assert.is(mode(dir, "public", `${kidOf(dir, name)}.jwk`), "644");
      assert.is(mode(dir, "private", `${kidOf(dir, name)}.jwk`), "600");
    }
  });
}

test("a new store honours the umask, and so does what is added to it later", () => {
  const dir = join(temporaryFolder(), "store");
  under("077", "keygen", "alice", "--keystore", dir);
  under("022", "keygen", "bob", "--keystore", dir);
  assert.equal(
    ["", "names", "public", "private"].map((folder) => mode(dir, folder)),
    ["700", "700", "700", "700"],
  );
  for (const name of ["alice", "bob"])
    assert.equal([mode(dir, "names", name), mode(dir, "public", `${kidOf(dir, name)}.jwk`)], ["600", "600"]);
  assert.is(mode(dir, "default"), "600");
});

test("a file that is replaced keeps its mode", () => {
  const dir = makeStore("alice");
  chmodSync(join(dir, "names/alice"), 0o664);
  chmodSync(join(dir, "default"), 0o640);
  under("077", "rotate", "alice", "--keystore", dir);
  under("000", "default", "alice", "--keystore", dir);
  assert.equal([mode(dir, "names/alice"), mode(dir, "default")], ["664", "640"]);
});

test("a file outside of a store: a new one has the umask's mode, a replaced one its own, a secret is the owner's alone", () => {
  const dir = makeStore("alice");
  const [fresh, old] = [join(temporaryFolder(), "fresh"), join(temporaryFolder(), "old")];
  writeFileSync(old, "");
  chmodSync(old, 0o664);
  under("027", "export", "alice", "-o", fresh, "--keystore", dir);
  under("077", "export", "alice", "-o", old, "--force", "--keystore", dir);
  assert.equal([mode(fresh), mode(old)], ["640", "664"]);
  under("000", "export", "alice", "--private", "-o", old, "--force", "--keystore", dir);
  assert.is(mode(old), "600");
});

testWith(
  root,
  "root, to give files away",
  "what root changes stays its owner's: replaced and new files of a store, no exported secret",
  () => {
    const dir = makeStore("alice");
    for (const path of ["", ...readdirSync(dir, { recursive: true, encoding: "utf8" })])
      chownSync(join(dir, path), 65534, 65534);
    chownSync(join(dir, "names/alice"), 1234, 4321);
    succeed(["rotate", "alice", "--keystore", dir]);
    succeed(["keygen", "bob", "--keystore", dir]);
    assert.is(owner(dir, "names/alice"), "1234:4321");
    for (const file of [
      "names/bob",
      `public/${kidOf(dir, "bob")}.jwk`,
      `private/${kidOf(dir, "bob")}.jwk`,
      `private/${kidOf(dir, "alice")}.jwk`,
    ]) {
      assert.is(owner(dir, file), "65534:65534", file);
    }
    const theirs = join(temporaryFolder(), "file");
    writeFileSync(theirs, "", { mode: 0o644 });
    chownSync(theirs, 65534, 65534);
    succeed(["export", "alice", "--private", "-o", theirs, "--force", "--keystore", dir]);
    assert.equal([owner(theirs), mode(theirs)], ["0:0", "600"]);
  },
);

testWith(
  root,
  "root, to give files away",
  "a replaced secret stays with its owner; the caller's own becomes nobody else's to read",
  () => {
    const [own, given] = [join(temporaryFolder(), "own"), join(temporaryFolder(), "given")];
    for (const path of [own, given]) writeFileSync(path, "", { mode: 0o640 });
    chownSync(given, 65534, 65534);
    for (const path of [own, given]) writeFileSafely(path, "new", "secret", "replace");
    assert.equal([mode(own), owner(own)], ["600", "0:0"]);
    assert.equal([mode(given), owner(given)], ["640", "65534:65534"]);
  },
);

const setpriv = root && tool("setpriv");
testWith(setpriv, "root and setpriv", "who may give nothing away goes on without, and keeps the mode", (program) => {
  const dir = makeStore("alice");
  chmodSync(join(dir, ".."), 0o777);
  for (const path of ["", ...readdirSync(dir, { recursive: true, encoding: "utf8" })])
    chownSync(join(dir, path), 65534, 65534);
  chownSync(join(dir, "names/alice"), 0, 0);
  const { code, stderr } = run(
    ["--reuid", "65534", "--regid", "65534", "--clear-groups", BINARY, "rotate", "alice", "--keystore", dir],
    { binary: program },
  );
  assert.is(code, 0, stderr);
  assert.equal([mode(dir, "names/alice"), owner(dir, "names/alice")], ["644", "65534:65534"]);
});

const strace = tool("strace");
testWith(strace, "strace", "of several new folders each is fsynced in its parent", (program) => {
  const top = temporaryFolder();
  const trace = join(temporaryFolder(), "trace");
  succeed(
    ["-y", "-e", "trace=mkdir,fsync", "-o", trace, BINARY, "keygen", "alice", "--keystore", join(top, "a/b/store")],
    { binary: program },
  );
  const text = succeed([trace], { binary: "/bin/cat" });
  for (const parent of ["", "/a", "/a/b", "/a/b/store"]) {
    const made = text.indexOf(`mkdir("${top}${parent}/`);
    assert.ok(
      made >= 0 && text.indexOf(`<${top}${parent}>`, made) > made,
      `${parent} is fsynced after a folder was made in it`,
    );
  }
});

testWith(strace, "strace", "a folder that cannot be made durable is named, and not there the next time", (program) => {
  const top = temporaryFolder();
  const { code, stderr } = run(
    [
      "-qq",
      "-o",
      "/dev/null",
      "-e",
      "inject=fsync:error=EIO:when=2",
      BINARY,
      "keygen",
      "alice",
      "--keystore",
      join(top, "a/b/store"),
    ],
    { binary: program },
  );
  assert.is(code, 1);
  assert.is(
    stderr,
    `ocicrypt-keystore: fsync ${top}/a failed: EIO; check that path, its permissions and the free space\n`,
  );
  assert.not(existsSync(join(top, "a/b")));
  mkdirSync(join(top, "a/b"));
  succeed(["keygen", "alice", "--keystore", join(top, "a/b/store")]);
});

test.run();
