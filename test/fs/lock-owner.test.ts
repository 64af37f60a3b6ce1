// Whose a lock is: a live process, a dead one, one of another boot, machine or pid namespace, or nobody that is known.

import { spawn, spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { chmodSync, existsSync, readdirSync, readFileSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { lockOwner } from "../../src/fs/lock-owner.ts";
import { withLock } from "../../src/fs/lock.ts";
import { temporaryFolder } from "../support/folders.ts";
import { makeOld, owner } from "../support/locks.ts";
import { testWith, tool } from "../support/parts.ts";
import { ROOT } from "../support/program.ts";

const otherBoot = (changes = {}): string => owner({ ...changes, system: `0${randomUUID().slice(1)} pid:[4026531836]` });

const machine = existsSync("/etc/machine-id") ? true : undefined;
testWith(machine, "a machine id", "of another boot of this machine is dead, and taken over at once", async () => {
  const path = join(temporaryFolder(), "lock");
  writeFileSync(path, otherBoot());
  assert.is(lockOwner(path).state, "dead");
  assert.is(await withLock(path, () => "done"), "done");
  assert.equal(readdirSync(join(path, "..")), []);
});

for (const [name, content] of [
  ["another machine", () => otherBoot({ machine: "0123456789abcdef0123456789abcdef" })],
  ["another host with this machine's id, as of a copied image", () => otherBoot({ host: "elsewhere" })],
  ["a container without a machine id", () => otherBoot({ machine: "" })],
  [
    "a pid namespace that is none",
    () => owner({ system: `${readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim()} net:[1]` }),
  ],
  ["a system that tells nothing of itself", () => owner({ system: "" })],
  ["no record", () => "damaged"],
  ["an empty file", () => ""],
  ["a record whose pid is none", () => owner({ pid: -1 })],
  ["a list", () => "[1]"],
  ["a file that is too large", () => " ".repeat(100_000)],
] as const) {
  test(`of ${name} is obeyed until nobody touched it for 10 minutes, or where its time is in the future`, async () => {
    for (const silent of [makeOld, (file: string): void => utimesSync(file, 4e9, 4e9)]) {
      const path = join(temporaryFolder(), "lock");
      writeFileSync(path, content());
      assert.is(lockOwner(path).state, "unknown");
      let done = false;
      const work = withLock(path, () => (done = true));
      await sleep(100);
      assert.not.ok(done);
      silent(path);
      await work;
      assert.ok(done);
    }
  });
}

/** Statements with the lock's functions at hand, in a process of its own. */
const script = (statements: string): string[] => [
  process.execPath,
  "--input-type=module",
  "-e",
  `import { withLock } from "${ROOT}/src/fs/lock.ts"; import { lockOwner } from "${ROOT}/src/fs/lock-owner.ts"; ${statements}`,
];
const ask = (path: string): string[] => script(`console.log(lockOwner("${path}").state)`);
const unshare = (...options: readonly string[]): string[] | undefined => {
  const command = ["unshare", "--pid", "--fork", "--kill-child", ...options];
  return spawnSync("unshare", [...command.slice(1), "true"]).status === 0 ? command : undefined;
};
const output = ([file = "", ...args]: readonly string[]): string =>
  spawnSync(file, args, { encoding: "utf8" }).stdout.trim();

for (const [proc, namespace] of [
  ["its own /proc", unshare("--mount-proc")],
  ["the host's /proc", unshare()],
] as const) {
  testWith(
    namespace,
    "root, to make pid namespaces",
    `of a pid namespace with ${proc} is alive while its process runs, unknown from a third one, dead when it has ended`,
    async (command) => {
      const path = join(temporaryFolder(), "lock");
      const child = spawn(command[0] ?? "", [
        ...command.slice(1),
        ...script(`await withLock("${path}", () => new Promise((done) => setTimeout(done, 60_000)))`),
      ]);
      const closed = new Promise((resolve) => child.once("close", resolve));
      while (!existsSync(path)) await sleep(20);
      assert.is((JSON.parse(readFileSync(path, "utf8")) as { pid: number }).pid, 1);
      assert.is(lockOwner(path).state, "alive");
      assert.is(output([...command, "--mount-proc", ...ask(path)]), "unknown", "from beside it nothing is seen");
      const copy = `${path}2`; // of a process that has ended, in a namespace that lives
      writeFileSync(copy, readFileSync(path, "utf8").replace('"pid":1,', '"pid":2,'));
      assert.is(lockOwner(copy).state, "dead");
      child.kill("SIGKILL");
      await closed;
      while (lockOwner(path).state === "alive") await sleep(20);
      assert.is(lockOwner(path).state, "dead");
      assert.is(output([...command, "--mount-proc", ...ask(path)]), "unknown");
      assert.is(await withLock(path, () => "done"), "done");
    },
  );
}

const setpriv = process.geteuid?.() === 0 ? tool("setpriv") : undefined;
const namespaces = setpriv === undefined ? undefined : unshare("--mount-proc");
testWith(
  namespaces,
  "root, setpriv and pid namespaces",
  "of an ended pid namespace is dead for every user of the host, and unknown to whom /proc hides others",
  (command: readonly string[]) => {
    const path = join(temporaryFolder(), "lock");
    chmodSync(join(path, ".."), 0o755); // the lock is as readable as its folder
    output([...command, ...script(`await withLock("${path}", () => process.exit())`)]);
    const read = ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]; // the clone may be root's alone
    const asNobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", ...read, ...ask(path)];
    assert.is(output(asNobody), "dead");
    const hiding = ["unshare", "--mount", "sh", "-c", 'mount -t proc -o hidepid=2 proc /proc && exec "$0" "$@"'];
    assert.is(output([...hiding, ...asNobody]), "unknown");
  },
);

test.run();
