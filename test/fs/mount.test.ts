// Stores on the mounts that people have: without hard links, without modes, read-only, with noexec.

import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { generateJwk } from "../../src/jwk/jwk.ts";
import { secretFile, temporaryFolder } from "../support/folders.ts";
import { holds, newEc, openssl } from "../support/holders.ts";
import { canMount, exfat, exfatParts, mounted } from "../support/mounts.ts";
import { endurance, testWith, tool } from "../support/parts.ts";
import { assertFailure, BINARY, run, succeed, type Result } from "../support/program.ts";
import { OPTSDATA, unwrapRequest, wrap, wrapRequest } from "../support/requests.ts";
import { commands, kidOf, makeStore, masterKeyFile } from "../support/stores.ts";
import { assertTidy, WRITERS, runWriter, assertNothingLost, copyOf } from "../support/writers.ts";

const WARNING =
  /^warning: others can read the private keys in \S+; files of its file system \(fuseblk\) have the mode that the mount says: mount it with umask=077, or run ocicrypt-keystore lock\n$/;

function opened({ code, stdout, stderr }: Result): string {
  assert.is(code, 0, stderr);
  const { keyunwrapresults } = JSON.parse(stdout) as { keyunwrapresults: { optsdata: string } };
  return Buffer.from(keyunwrapresults.optsdata, "base64").toString();
}

testWith(
  exfatParts,
  "root, exfat-fuse and exfatprogs",
  "a store on exFAT works, and says who can read it",
  async () => {
    const system = await exfat();
    const dir = join(system.dir, "store");
    const store = ["--keystore", dir];
    const done = (...args: readonly string[]): Result => {
      const result = system.run([...args, ...store]);
      assert.is(result.code, 0, `${args.join(" ")}: ${result.stderr}`);
      return result;
    };
    assert.match(done("keygen", "alice").stderr, WARNING);
    const { annotation } = (
      JSON.parse(system.run(store, { input: wrapRequest(["alice"]) }).stdout) as {
        keywrapresults: { annotation: string };
      }
    ).keywrapresults;
    const unwrap = (): string =>
      opened(system.run(store, { input: unwrapRequest(Buffer.from(annotation, "base64").toString()) }));
    assert.is(unwrap(), OPTSDATA);
    assert.match(done("rotate", "alice").stderr, WARNING);
    assert.match(done("keygen", "bob", "--type", "oct").stderr, WARNING);
    assert.match(done("import", "carol", secretFile(JSON.stringify(generateJwk({ type: "ec" })))).stderr, WARNING);
    done("default", "bob");
    done("remove", "bob", "--force");
    assert.is(unwrap(), OPTSDATA);
    const checks = done("doctor", "--verbose")
      .stdout.split("\n")
      .filter((line) => line.includes("store.modes"));
    assert.is(checks.length, 3, checks.join("\n"));
    for (const line of checks)
      assert.match(line, /^warn .*\(fuseblk\) have the mode that the mount says: mount it with umask=077/);
    assert.not.match(system.run(["doctor", "--fix", ...store]).stdout, "fixed");

    const secret = ["--master-key-file", masterKeyFile()];
    assert.match(done("lock", ...secret).stderr, /^locked \d private keys with a master key\n$/);
    assert.not.match(done("keygen", "dave", ...secret).stderr, "warning");
    assert.match(done("unlock", ...secret).stderr, "can read the private keys");
    done("export", "alice", "-o", join(system.dir, "alice.jwk"));
    assert.match(
      assertFailure(system.run(["export", "alice", "-o", join(system.dir, "alice.jwk"), ...store]), 1),
      "alice.jwk",
    );
    assert.is(unwrap(), OPTSDATA);
    const files = system.use("find", [dir, "-name", ".*"]).stdout;
    assert.is(files, "", "no lock and no temporary file is left");

    const many = Array.from({ length: 4 }, (_, index) => `n${index}`).map((name) => `"$0" keygen ${name} "$@" & `);
    assert.is(system.use("sh", ["-c", `${many.join("")} wait`, BINARY, ...store]).stderr.split("warning").length, 5);
    assert.is(
      done("list")
        .stdout.split("\n")
        .filter((line) => line.startsWith("n")).length,
      4,
    );
  },
);

testWith(
  exfatParts,
  "root, exfat-fuse and exfatprogs",
  "on exFAT that is mounted with umask=077 nothing is said",
  async () => {
    const system = await exfat("umask=077");
    const store = ["--keystore", join(system.dir, "store")];
    const { code, stderr } = system.run(["keygen", "alice", ...store]);
    assert.equal([code, stderr], [0, ""]);
    assert.match(system.run(["doctor", "--verbose", ...store]).stdout, "ok    store.modes");
  },
);

const strace = openssl === undefined ? undefined : tool("strace");

// What a file system may say to a hard link, and to the fsync of a folder. A third of the commands each.
const REFUSALS = [
  ["link", "EPERM"],
  ["link", "EOPNOTSUPP"],
  ["fsync", "EINVAL"],
] as const;

for (const [turn, [call, error]] of REFUSALS.entries()) {
  testWith(strace, "strace and openssl", `every command works where ${call} says ${error}`, async (program) => {
    const share = WRITERS.filter((_, index) => index % REFUSALS.length === turn);
    const full = endurance(100) === 100; // else every second one of them
    for (const writer of share.filter((_, index) => full || index % 2 === turn % 2)) {
      const dir = copyOf(writer.base());
      mkdirSync(join(dir, "removed"), { recursive: true, mode: 0o700 });
      const folders = ["", "/names", "/public", "/private", "/removed"].flatMap((name) => ["-P", `${dir}${name}`]);
      const trace = join(temporaryFolder(), "trace");
      const inject = [
        ...(call === "fsync" ? folders : []),
        "-e",
        `trace=${call}`,
        "-e",
        `inject=${call}:error=${error}`,
      ];
      const result = runWriter(writer, dir, [program, "-qq", "-o", trace, ...inject]);
      assert.is(result.code, 0, `${writer.name}: ${result.stderr}`);
      assert.match(readFileSync(trace, "utf8"), `${error} (`);
      await assertNothingLost(dir, writer);
      assertTidy(dir);
    }
  });
}

testWith(strace, "strace", "a link whose answer was lost, as on NFS, is not another writer's", async (program) => {
  const dir = makeStore("alice");
  const args = ["-qq", "-o", "/dev/null", "-e", "inject=link:delay_enter=700000:when=1", BINARY];
  const child = spawn(program, [...args, "keygen", "bob", "--keystore", dir], { env: {}, stdio: "ignore" });
  const ended = once(child, "close");
  let temporary: string | undefined;
  while (temporary === undefined) {
    await sleep(5);
    temporary = readdirSync(dir).find((name) => name.startsWith(".tmp-") && readFileSync(join(dir, name)).length > 0);
  }
  linkSync(join(dir, temporary), join(dir, ".lock")); // the call that the server made
  const before = Date.now();
  assert.equal((await ended)[0], 0);
  assert.ok(Date.now() - before < 5000, "it did not wait for itself");
  assert.equal(readdirSync(join(dir, "names")), ["alice", "bob"]);
  assertTidy(dir);
});

// Read-only mounts: secrets of Kubernetes and docker belong to root, and their mode is what the cluster says.

for (const mode of [0o444, 0o440]) {
  testWith(canMount, "mount namespaces", `uses secrets of mode ${mode.toString(8)} on a read-only mount`, async () => {
    const source = makeStore("alice");
    const annotation = wrap(source, ["alice"]).toString();
    const key = masterKeyFile();
    const locked = makeStore("bob");
    const second = wrap(locked, ["bob"]).toString();
    commands(locked)("lock", "--master-key-file", key);
    copyFileSync(key, join(source, "master"));
    for (const path of [join(source, "private", `${kidOf(source, "alice")}.jwk`), join(source, "master")])
      chmodSync(path, mode);
    const input = unwrapRequest(annotation);
    assertFailure(run(["--keystore", source], { input }), 3); // it can be changed: this is its owner's mistake
    const system = await mounted('mount --bind "$0" "$0"; mount -o remount,bind,ro "$0"', source);
    const store = ["--keystore", source];
    assert.is(opened(system.run(store, { input })), OPTSDATA);
    const limited = ["--bounding-set", "-dac_override,-dac_read_search", BINARY, ...store]; // as an ordinary user
    assert.is(opened(system.use("setpriv", limited, { input })), OPTSDATA);
    assert.is(
      opened(
        system.run(["--keystore", locked, "--master-key-file", join(source, "master")], {
          input: unwrapRequest(second),
        }),
      ),
      OPTSDATA,
    );
    const { stdout } = system.run(["doctor", "--verbose", ...store]);
    assert.not.match(stdout, "chmod");
    assert.match(stdout, "ok    store.modes");
    assert.match(assertFailure(system.run(["keygen", "carol", ...store]), 1), "EROFS");
  });
}

testWith(
  canMount && openssl,
  "mount namespaces and openssl",
  "a holder on a mount with noexec is told, and one that is not executable on a read-only mount",
  async () => {
    const holder = newEc();
    const dir = makeStore("alice");
    const programs = temporaryFolder();
    const [program = "", ...args] = holds("ecdh", holder);
    const system = await mounted(
      'mount -t tmpfs -o noexec tmpfs "$0"; cp /bin/true "$0/holder"; mkdir "$0/dir"; chmod 755 "$0/holder"',
      programs,
    );
    const words = ["import", "hsm", holder.publicFile, "--holder", "ecdh", "--keystore", dir, "--"];
    assert.match(
      assertFailure(system.run([...words, join(programs, "holder")]), 1),
      `${join(programs, "holder")}, is on a mount with noexec`,
    );
    const plain = join(temporaryFolder(), "holder");
    writeFileSync(plain, "#!/bin/sh\n", { mode: 0o644 });
    assert.match(assertFailure(run([...words, plain]), 1), `is not executable; `);
    const frozen = await mounted('mount --bind "$0" "$0"; mount -o remount,bind,ro "$0"', join(plain, ".."));
    assert.not.match(assertFailure(frozen.run([...words, plain]), 1), `run chmod +x ${plain}`);
    succeed([...words, program, ...args]);
    assert.ok(existsSync(join(dir, "names/hsm")));
  },
);

test.run();
