// What a test needs of the machine: a tool, a right, or time.

import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { temporaryFolder } from "./folders.ts";

/**
 * A test that needs a real part. Where it is missing the test is skipped and says why; in CI that is a failure.
 *
 * @param part what it needs, undefined where this machine has none
 */
export function testWith<T>(
  part: T | undefined,
  missing: string,
  name: string,
  body: (part: T) => void | Promise<void>,
): void {
  if (part !== undefined) return test(name, async () => await body(part));
  if (process.env["CI"] !== undefined) {
    return test(name, () => {
      throw new Error(`CI must have ${missing}`);
    });
  }
  process.stdout.write(`skipped: ${name} (needs ${missing})\n`);
  return test.skip(name);
}

/** What makes unshare(1) give a mount namespace: a user namespace of its own, or root's rights. Undefined where neither does. */
export function mountNamespace(): readonly string[] | undefined {
  return [["-rm"], ["-m"]].find(
    (args) => spawnSync("unshare", [...args, "mount", "--rbind", "/tmp", "/etc"]).status === 0,
  );
}

/** A tool's path, undefined where this machine has none. */
export function tool(name: string): string | undefined {
  return (process.env["PATH"] ?? "")
    .split(delimiter)
    .map((folder) => join(folder, name))
    .find((path) => existsSync(path));
}

/** Runs a tool that must succeed: its standard output. */
export function use(command: string, args: readonly string[], input: string | Buffer = ""): string {
  const { status, stdout, stderr } = spawnSync(command, args, { input, cwd: temporaryFolder(), timeout: 60_000 });
  assert.is(status, 0, `${command} ${args.join(" ")}: ${String(stderr)}`);
  return stdout.toString();
}

/** How often an endurance test repeats: `full` in CI (ENDURANCE=100, in per cent), a fiftieth where nothing is said. */
export function endurance(full: number): number {
  return Math.max(3, Math.ceil((full * Number(process.env["ENDURANCE"] ?? 2)) / 100));
}

/** Of rows that each cost starts of other programs: every n-th from a place on, and all in a full run (ENDURANCE=100). */
export function sampled<T>(rows: readonly T[], every: number, first = 0): readonly T[] {
  return endurance(100) === 100 ? rows : rows.filter((_, at) => at % every === first % every);
}
