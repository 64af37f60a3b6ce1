// Each system call of each writing command fails once: the command says so in one line, loses nothing, and can be repeated.

import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { tree, temporaryFolder } from "../support/folders.ts";
import { tool, endurance, testWith } from "../support/parts.ts";
import { assertFailure, run, succeed } from "../support/program.ts";
import { unwrap, wrap } from "../support/requests.ts";
import { kidOf, makeStore } from "../support/stores.ts";
import {
  assertNothingLost,
  assertTidy,
  callsOn,
  copyOf,
  record,
  runWriter,
  STRACE,
  strace,
  WRITERS,
  type Writer,
} from "../support/writers.ts";

const ERRORS = ["EIO", "ENOSPC", "EROFS"] as const;

/** Every how many-th fault is tried; which ones is left to chance. */
const step = Math.max(1, Math.floor(1600 / endurance(1600)));

async function faulted(program: string, writer: Writer, fault: string): Promise<boolean> {
  const dir = copyOf(writer.base());
  const before = tree(dir);
  const trace = join(temporaryFolder(), "trace");
  const [name = ""] = fault.split(":");
  const result = runWriter(writer, dir, [program, "-y", "-e", `trace=${name}`, "-e", `inject=${fault}`, "-o", trace]);
  if (!callsOn(dir, trace).some(({ line }) => line.includes("(INJECTED)"))) return false; // a call more or less by then
  const line = result.code === 0 ? "" : assertFailure(result, 1);
  await assertNothingLost(dir, writer);
  if (writer.removes && line.includes("nothing was removed")) assert.equal(withoutLock(tree(dir)), withoutLock(before));
  if (result.code === 0) {
    assert.not.equal(withoutLock(tree(dir)), before, "exit code 0, and nothing done");
    return true;
  }
  const again = line.includes("doctor --fix")
    ? run(["doctor", "--fix", "--keystore", dir], { env: { PATH: "" } })
    : runWriter(writer, dir);
  assert.is(again.code, 0, `after ${line}: ${again.stderr}`);
  await assertNothingLost(dir, writer);
  assertTidy(dir);
  return true;
}

/** What a fault may leave besides: a lock of the ended process, and the folder for what is removed. */
function withoutLock(files: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(files).filter(([path]) => path !== ".lock" && path !== "removed"));
}

let at = Math.floor(Math.random() * step);
for (const writer of WRITERS) {
  testWith(
    strace,
    STRACE,
    `${writer.name}: a call that fails costs nothing (${WRITERS.indexOf(writer)})`,
    async (program) => {
      const calls = record(program, writer, copyOf(writer.base()));
      const faults = calls.flatMap(({ name, when }) => ERRORS.map((error) => `${name}:error=${error}:when=${when}`));
      let [tried, hit] = [0, 0];
      for (; at < faults.length; at += step) {
        const fault = faults[at] ?? "";
        tried++;
        const inject = async (): Promise<boolean> =>
          await faulted(program, writer, fault).catch((error: unknown) => {
            throw new Error(`${writer.name}, ${fault}: ${String(error)}`, { cause: error });
          });
        if ((await inject()) || (await inject())) hit++;
      }
      at -= faults.length;
      assert.ok(hit >= Math.floor(tried * 0.8), `${hit} of ${tried} faults were met`);
    },
  );
}

const chattr = process.geteuid?.() === 0 ? tool("chattr") : undefined;
const probe = join(temporaryFolder(), "file");
writeFileSync(probe, "");
const immutable = chattr !== undefined && spawnSync(chattr, ["+i", probe]).status === 0 ? chattr : undefined;
if (immutable !== undefined) spawnSync(immutable, ["-i", probe]);

for (const purge of [[], ["--purge"]]) {
  for (const which of ["private", "public", "names", "default"]) {
    testWith(
      immutable,
      "root and chattr",
      `remove --force ${purge.join()} of a key whose file in ${which} is immutable changes nothing`,
      (program) => {
        const dir = makeStore("alice", "bob");
        const annotation = wrap(dir, ["alice"]);
        const path =
          which === "default"
            ? join(dir, which)
            : join(dir, which, which === "names" ? "alice" : `${kidOf(dir, "alice")}.jwk`);
        const before = tree(dir);
        assert.is(spawnSync(program, ["+i", path]).status, 0);
        const line = assertFailure(run(["remove", "alice", "--force", ...purge, "--keystore", dir]), 1);
        assert.is(spawnSync(program, ["-i", path]).status, 0);
        assert.match(line, /cannot remove alice: .*EPERM; nothing was removed/);
        assert.equal(withoutLock(tree(dir)), before);
        assert.match(unwrap(dir, annotation), "symkey");
        succeed(["remove", "alice", "--force", ...purge, "--keystore", dir]);
        assert.is(readdirSync(join(dir, "removed")).length, purge.length === 0 ? 2 : 0);
        assert.not(existsSync(path));
      },
    );
  }
}

test.run();
