// What the benchmarks share: commands that take turns, ratios round by round, and the rows of the one table.

import { spawnSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** The folder of this run. Whoever ends the run removes it. */
export const dir = mkdtempSync(join(tmpdir(), "ocicrypt-keystore-bench-"));

/** A path in it. */
export const at = (name: string): string => join(dir, name);

/** A command to be timed. */
export interface Command {
  readonly argv: readonly string[];
  readonly stdin?: string;
  readonly env?: NodeJS.ProcessEnv;
  /** Runs before each round, outside the time taken. */
  readonly prepare?: () => void;
  readonly exitCode?: number;
}

/** A row of the table. */
export type Row = readonly [what: string, against: string, ratio: string, goal: string];

/**
 * Discards output as a shell's `> /dev/null` does. Node's "ignore" looks to a program like a closed standard output.
 */
export const DISCARD = openSync("/dev/null", "w");

/** The table so far. */
export const rows: Row[] = [];

/** Wall time in ms of one run. */
function once({ argv, stdin = "/dev/null", env = {}, prepare, exitCode = 0 }: Command): number {
  prepare?.();
  const [file = "", ...args] = argv;
  const input = openSync(stdin, "r");
  const start = process.hrtime.bigint();
  const { status, stderr } = spawnSync(file, args, { env, stdio: [input, DISCARD, "pipe"] });
  const wall = Number(process.hrtime.bigint() - start) / 1e6;
  closeSync(input);
  if (status !== exitCode) throw new Error(`${argv.join(" ")} ended with ${status}: ${String(stderr)}`);
  return wall;
}

/** The median. */
export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;
}

/** Times commands in turns against the first of them. */
export function compare(
  rounds: number,
  against: string,
  base: Command,
  others: Readonly<Record<string, readonly [Command, string]>>,
): void {
  const commands = [base, ...Object.values(others).map(([command]) => command)];
  const samples = Array.from({ length: rounds + 1 }, () => commands.map(once)).slice(1);
  const baseMedian = median(samples.map(([first]) => first ?? NaN)).toFixed(0);
  for (const [index, [what, [, goal]]] of Object.entries(others).entries()) {
    const ratio = median(samples.map((round) => (round[index + 1] ?? NaN) / (round[0] ?? NaN)));
    rows.push([what, `${against} (${baseMedian} ms)`, ratio.toFixed(2), goal]);
  }
}

/** Runs a command that must succeed: what it printed. */
export function run(
  argv: readonly string[],
  options: { input?: string; env?: NodeJS.ProcessEnv; cwd?: string } = {},
): string {
  const [file = "", ...args] = argv;
  const { status, stdout, stderr } = spawnSync(file, args, { env: {}, maxBuffer: 64 * 1024 * 1024, ...options });
  if (status !== 0) throw new Error(`${argv.join(" ")}: ${String(stderr)}`);
  return String(stdout);
}
