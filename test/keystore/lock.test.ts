// One writer at a time, and no lock that outlives its owner.

import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { withLock } from "../../src/keystore/lock.ts";
import { BINARY, succeed, temporaryFolder } from "../support.ts";

const owner = (changes: object): string => {
  let written = "";
  const path = join(temporaryFolder(), "lock");
  void withLock(path, () => (written = readFileSync(path, "utf8")));
  return JSON.stringify({ ...(JSON.parse(written || readFileSync(path, "utf8")) as object), ...changes });
};
const deadPid = (): number => spawnSync("true").pid;

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

test("is released when the work fails", async () => {
  const path = join(temporaryFolder(), "lock");
  await withLock(path, () => Promise.reject(new Error("work"))).catch((error: unknown) => assert.match(String(error), "work"));
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

for (const [name, content] of [
  ["another boot or pid namespace", () => owner({ pid: deadPid(), system: "elsewhere" })],
  ["nobody who can be told", () => "damaged"],
] as const) {
  test(`of ${name} is taken over only when it is old`, async () => {
    const path = join(temporaryFolder(), "lock");
    writeFileSync(path, content());
    let done = false;
    const work = withLock(path, () => (done = true));
    await sleep(300);
    assert.not.ok(done);
    const old = Date.now() / 1000 - 3600;
    utimesSync(path, old, old);
    await work;
    assert.ok(done);
  });
}

test("keeps eight writers from losing each other's keys", async () => {
  const dir = join(temporaryFolder(), "store");
  mkdirSync(dir);
  const names = Array.from({ length: 8 }, (_, index) => `key${index}`);
  const codes = await Promise.all(
    names.map((name) => new Promise((resolve) => spawn(BINARY, ["keygen", name, "--keystore", dir], { env: {} }).on("close", resolve))),
  );
  assert.equal(codes, names.map(() => 0));
  const listed = JSON.parse(succeed(["list", "--json", "--keystore", dir])) as { name: string }[];
  assert.equal(listed.map(({ name }) => name), names);
  assert.equal(readdirSync(dir).toSorted(), ["default", "names", "private", "public"]);
});

test.run();
