// One writer at a time, and no lock that outlives its owner.

import { spawn, spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { atRestBySecret } from "../../src/at-rest/secret.ts";
import { secretFiles } from "../../src/at-rest/secret-files.ts";
import { moveFile, removeFile, writeFileSafely } from "../../src/fs/write.ts";
import { lockOwner } from "../../src/fs/lock-owner.ts";
import { withLock } from "../../src/fs/lock.ts";
import { temporaryFolder, tree } from "../support/folders.ts";
import { keygenHere, lockHere, refusedHere } from "../support/here.ts";
import { deadPid, makeOld, owner } from "../support/locks.ts";
import { endurance, testWith, tool } from "../support/parts.ts";
import { assertFailure, BINARY, ROOT, run, succeed } from "../support/program.ts";
import { makeStore, masterKeyFile } from "../support/stores.ts";

test("lets one after another work", async () => {
  const path = join(temporaryFolder(), "lock");
  let inside = 0;
  await Promise.all(
    Array.from({ length: 5 }, () =>
      withLock(path, async () => {
        assert.is(++inside, 1);
        await sleep(10);
        inside--;
      }),
    ),
  );
  assert.not.ok(existsSync(path));
});

const timeNamespaces = spawnSync("unshare", ["--time", "--boottime", "1000", "true"]).status === 0 ? true : undefined;
testWith(
  timeNamespaces,
  "root and time namespaces",
  "its owner is alive where another clock counts its start",
  async () => {
    const path = join(temporaryFolder(), "lock");
    const modules = ["fs/lock", "fs/lock-owner"].map((name) => JSON.stringify(join(ROOT, `src/${name}.ts`)));
    const work = `import { withLock } from ${modules[0]}; await withLock(${JSON.stringify(path)}, async () => {
    process.stdout.write("held"); await new Promise((end) => process.stdin.once("data", end)); }); process.exit(0);`;
    const args = [
      "--time",
      "--boottime",
      "100000",
      process.execPath,
      "--input-type=module-typescript",
      "--no-warnings",
      "-e",
      work,
    ];
    const holder = spawn("unshare", args, { stdio: ["pipe", "pipe", "inherit"] });
    await new Promise((held) => holder.stdout.once("data", held));
    assert.is(lockOwner(path).state, "alive");
    holder.stdin.end("done");
    await new Promise((ended) => holder.once("exit", ended));
    assert.equal(lockOwner(path), { state: "none" });
  },
);

test("is released when the work fails", async () => {
  const path = join(temporaryFolder(), "lock");
  await withLock(path, () => Promise.reject(new Error("work"))).catch((error: unknown) =>
    assert.match(String(error), "work"),
  );
  assert.not.ok(existsSync(path));
});

for (const [name, content] of [
  ["a dead process", () => owner({ pid: deadPid() })],
  ["a pid that is another process by now", () => owner({ pid: process.ppid, start: "1" })],
] as const) {
  test(`is taken over from ${name}`, async () => {
    const path = join(temporaryFolder(), "lock");
    writeFileSync(path, content());
    assert.is(await withLock(path, () => "done"), "done");
    assert.equal(readdirSync(join(path, "..")), []);
  });
}

test("is taken over when the one who took it over died in turn", async () => {
  const path = join(temporaryFolder(), "lock");
  writeFileSync(path, owner({ pid: deadPid() }));
  writeFileSync(`${path}-takeover`, owner({ pid: deadPid() }));
  assert.is(await withLock(path, () => "done"), "done");
});

const otherBoot = (changes = {}): string => owner({ ...changes, system: `0${randomUUID().slice(1)} pid:[4026531836]` });

test("of a live process is obeyed, and not for ever where that does not touch it", async () => {
  const path = join(temporaryFolder(), "lock");
  writeFileSync(path, owner({}));
  assert.is(lockOwner(path).state, "alive");
  makeOld(path);
  assert.is(await withLock(path, () => "done"), "done");
});

// What may be in the lock's place, and must be neither read, removed nor waited for.
const inTheWay: [string, (path: string) => unknown][] = [
  [
    "a symlink to a file with secrets",
    (path) => (writeFileSync(`${path}-secret`, '{"pid":1,"k":"c2VjcmV0"}'), symlinkSync(`${path}-secret`, path)),
  ],
  ["a dangling symlink", (path) => symlinkSync("nowhere", path)],
  ["a symlink to itself", (path) => symlinkSync(".lock", path)],
  ["a FIFO", (path) => spawnSync("mkfifo", [path])],
  ["a folder", (path) => mkdirSync(path)],
  [
    "a socket",
    (path) =>
      spawnSync(process.execPath, [
        "-e",
        `require("net").createServer().listen(${JSON.stringify(path)}, () => process.reallyExit())`,
      ]),
  ],
];

for (const [what, put] of inTheWay) {
  test(`${what} in the place of the lock is refused at once, and stays`, async () => {
    const dir = makeStore("alice");
    const path = join(dir, ".lock");
    put(path);
    const masterKeyPath = masterKeyFile();
    const lock = atRestBySecret("master key", secretFiles({ masterKeyFile: masterKeyPath }));
    const byBinary = (...args: readonly string[]): string =>
      assertFailure(run([...args, "--keystore", dir], { timeout: 5000 }), 1);
    const tries: (() => string | Promise<string>)[] = [
      async () => await refusedHere(dir, 1, async () => await keygenHere(dir, "bob")),
      async () => await refusedHere(dir, 1, async () => await lockHere(dir, lock)),
    ];
    if (what === "a FIFO") tries.push(() => byBinary("keygen", "bob"));
    if (what === "a socket") tries.push(() => byBinary("lock", "--master-key-file", masterKeyPath));
    for (const refused of tries) {
      const before = tree(dir);
      const began = performance.now();
      assert.is(
        await refused(),
        `ocicrypt-keystore: ${path} is in the way of the lock: it is not a regular file; move it away, then try again`,
      );
      assert.ok(performance.now() - began < 5000);
      assert.equal(tree(dir), before);
    }
    const { code, stdout, stderr } = run(["doctor", "--fix", "--force", "--keystore", dir], { env: { PATH: "" } });
    assert.is(code, 1);
    assert.match(stdout, /fail {2}store.lock: .*is in the way of the lock/);
    assert.not.match(stdout + stderr, "c2VjcmV0");
    assert.ok(lstatSync(path));
  });
}

test("an error names whose the lock is and since when, and quotes nothing of it", async () => {
  const path = join(temporaryFolder(), "lock");
  const record = (content: object): string =>
    otherBoot({ machine: "", host: "build7", since: "2026-01-02T03:04:05.678Z", ...content });
  for (const [content, line] of [
    [record({ pid: 4711 }), "process 4711 on build7 since 2026-01-02T03:04:05.678Z"],
    [record({ pid: 4711, host: "\u001b[31m", since: "now\n" }), "process 4711 on \\u001b[31m since TOUCHED"],
    ["secret", "an unknown process since TOUCHED"],
  ] as const) {
    writeFileSync(path, content);
    utimesSync(path, 1e9, new Date("2026-05-06T07:08:09Z"));
    const owned = lockOwner(path);
    assert.is(
      owned.state === "none" ? "" : `${owned.who} ${owned.where}`,
      line.replace("TOUCHED", "2026-05-06T07:08:09.000Z"),
    );
  }
});

test("whoever was taken over writes no more, and leaves the other's lock alone", async () => {
  const dir = temporaryFolder();
  const path = join(dir, "lock");
  const lost = withLock(path, () => {
    writeFileSafely(join(dir, "first"), "", "shared", "create");
    rmSync(path);
    writeFileSync(path, "another's");
    for (const change of [
      (): void => writeFileSafely(join(dir, "second"), "", "shared", "replace"),
      (): void => writeFileSafely(join(dir, "second"), "", "shared", "create"),
      (): void => removeFile(join(dir, "first")),
      (): void => moveFile(join(dir, "first"), join(dir, "third")),
    ])
      assert.throws(change, /lock .* was lost while this process stood still/);
  });
  assert.match(String(await lost.catch((error: unknown) => error)), "was lost");
  assert.equal(readdirSync(dir), ["first", "lock"]);
  assert.is(readFileSync(path, "utf8"), "another's");
});

test("a lock that somebody removed by hand is told at the end", async () => {
  const path = join(temporaryFolder(), "lock");
  assert.match(String(await withLock(path, () => rmSync(path)).catch((error: unknown) => error)), "was lost");
});

const strace = tool("strace");
testWith(
  strace,
  "strace",
  "a writer that is stopped and taken over writes nothing more, and no key stays unlocked in a store just locked",
  async (program) => {
    const secret = masterKeyFile();
    for (let turn = 3, last = 9; turn < last; turn += Math.max(1, Math.floor(12 / endurance(300)))) {
      const dir = makeStore("alice");
      const trace = join(temporaryFolder(), "trace");
      const stopped = spawn(
        program,
        [
          "-qq",
          "-o",
          trace,
          "-e",
          "trace=fsync",
          "-e",
          `inject=fsync:signal=SIGSTOP:when=${turn}`,
          BINARY,
          "keygen",
          "bob",
          "--keystore",
          dir,
        ],
        { env: {} },
      );
      let [stdout, stderr] = ["", ""];
      stopped.stdout.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
      stopped.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
      const ended = new Promise<number | null>((resolve) => stopped.once("close", resolve));
      const path = join(dir, ".lock");
      while (!existsSync(trace) || !readFileSync(trace, "utf8").includes("stopped by SIGSTOP")) await sleep(5);
      const { pid } = JSON.parse(readFileSync(path, "utf8")) as { pid: number };
      makeOld(path);
      succeed(["lock", "--keystore", dir, "--master-key-file", secret]);
      const before = tree(dir);
      process.kill(pid, "SIGCONT");
      assertFailure({ code: await ended, stdout, stderr }, 1);
      assert.match(stderr, /the lock \S+ was lost while this process stood still/);
      const after = tree(dir);
      const kept = Object.fromEntries(Object.entries(before).filter(([file]) => !file.includes(".tmp-")));
      assert.equal(after, kept, `stopped at fsync ${turn}`);
      assert.equal(
        readdirSync(join(dir, "private")).filter((file) => file.endsWith(".jwk")),
        [],
      );
      succeed(["keygen", "carol", "--keystore", dir, "--master-key-file", secret]);
    }
  },
);

test("keeps eight writers from losing each other's keys", async () => {
  const dir = join(temporaryFolder(), "store");
  mkdirSync(dir);
  const names = Array.from({ length: 8 }, (_, index) => `key${index}`);
  const codes = await Promise.all(
    names.map(
      (name) =>
        new Promise((resolve) => spawn(BINARY, ["keygen", name, "--keystore", dir], { env: {} }).on("close", resolve)),
    ),
  );
  assert.equal(
    codes,
    names.map(() => 0),
  );
  const listed = JSON.parse(succeed(["list", "--json", "--keystore", dir])) as { name: string }[];
  assert.equal(
    listed.map(({ name }) => name),
    names,
  );
  assert.equal(readdirSync(dir).toSorted(), ["default", "names", "private", "public"]);
});

test.run();
