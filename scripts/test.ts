// npm test: builds the binary, runs each test file in a process of its own and adds up what they say. With words, only
// the files whose paths contain one of them. A file fails if it crashes, does not end or leaves tests out, and in CI if
// it skips any. The last line is `N passed, N failed`.

import { spawn } from "node:child_process";
import { globSync, readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";

const ROOT = join(import.meta.dirname, "..");
const IN_CI = process.env["CI"] !== undefined;
// For one file: 10 minutes, and 40 where the endurance tests run in full.
const TIME_LIMIT = (10 + 0.3 * Number(process.env["ENDURANCE"] ?? 0)) * 60_000; // ms
const PIPE_LIMIT = 5000; // ms for what a file left running to close its output
// The slowest first, so that no long file is left over at the end. A name that is out of date costs nothing but that.
const SLOWEST =
  "keystore/kill clients/containerd cli/lock image/rewrap jwe/alg/algorithms image/hostile clients/skopeo cli/import".split(
    " ",
  );

interface Ended {
  readonly code: number | null;
  readonly output: string;
}

interface Totals {
  passed: number;
  failed: number;
  skipped: number;
}

const FAILED: Totals = { passed: 0, failed: 1, skipped: 0 };
const running = new Set<number>();

/** Ends what is left of a file: each runs in a process group of its own. */
function endGroup(pid: number): void {
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // all of it has ended
  }
}

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.once(signal, () => {
    for (const pid of running) endGroup(pid);
    process.kill(process.pid, signal);
  });
}

async function run(file: string): Promise<Ended> {
  const child = spawn(process.execPath, [file], { cwd: ROOT, stdio: ["ignore", "pipe", "pipe"], detached: true });
  const { pid, stdout, stderr } = child;
  if (pid === undefined) throw new Error(`cannot start ${process.execPath}`);
  running.add(pid);
  let output = "";
  for (const stream of [stdout, stderr]) stream.setEncoding("utf8").on("data", (text: string) => (output += text));
  let timer = setTimeout(() => {
    output += `\nstill running after ${TIME_LIMIT / 60_000} minutes\n`;
    endGroup(pid);
  }, TIME_LIMIT);
  child.once("exit", () => {
    clearTimeout(timer);
    endGroup(pid);
    running.delete(pid);
    timer = setTimeout(() => [stdout, stderr].forEach((stream) => stream.destroy()), PIPE_LIMIT);
  });
  return await new Promise((resolve) => {
    child.once("close", (code) => {
      clearTimeout(timer);
      resolve({ code, output });
    });
  });
}

/** uvu's own totals; none are printed by a file that crashed while loading, ended early or never ran its suite. */
function totals({ code, output }: Ended): Totals {
  const count = (label: string): number | undefined => {
    const found = new RegExp(`^  ${label}:\\s+(\\d+)`, "m").exec(output)?.[1];
    return found === undefined ? undefined : Number(found);
  };
  const [total, passed, skipped] = [count("Total"), count("Passed"), count("Skipped")];
  if (total === undefined || passed === undefined || skipped === undefined || total + skipped === 0) return FAILED;
  const failed = Math.max(total - passed, code === 0 ? 0 : 1);
  return IN_CI ? { passed, failed: failed + skipped, skipped: 0 } : { passed, failed, skipped };
}

/** Runs a test file. What stands behind its test.run() would never run, and is no test. */
async function test(file: string): Promise<Totals & { output: string }> {
  const [, after, ...more] = readFileSync(join(ROOT, file), "utf8").split(/^test\.run\(\);$/m);
  if (after?.trim() !== "" || more.length > 0) return { ...FAILED, output: "test.run(); must be its last line, once" };
  const ended = await run(file);
  return { ...totals(ended), output: ended.output };
}

/** The test files that are meant, in the order in which they start. */
function filesFor(wanted: readonly string[]): string[] {
  const place = (file: string): number => {
    const index = SLOWEST.indexOf(file.slice("test/".length, -".test.ts".length));
    return index === -1 ? SLOWEST.length : index;
  };
  const isMeant = (file: string): boolean => wanted.length === 0 || wanted.some((part) => file.includes(part));
  const files = globSync("test/**/*.test.ts", { cwd: ROOT }).filter(isMeant);
  return files.toSorted().toSorted((one, other) => place(one) - place(other));
}

async function main(): Promise<void> {
  const build = await run("scripts/build.ts");
  if (build.code !== 0) process.stdout.write(build.output);
  const queue = build.code === 0 ? filesFor(process.argv.slice(2)) : [];
  if (build.code === 0 && queue.length === 0) process.stdout.write("no test file has such a path\n");
  const sum: Totals = { passed: 0, failed: queue.length === 0 ? 1 : 0, skipped: 0 };
  const worker = async (): Promise<void> => {
    for (let file = queue.shift(); file !== undefined; file = queue.shift()) {
      const started = Date.now();
      const { passed, failed, skipped, output } = await test(file);
      sum.passed += passed;
      sum.failed += failed;
      sum.skipped += skipped;
      const seconds = ((Date.now() - started) / 1000).toFixed(1);
      const result = `${passed} passed${skipped > 0 ? `, ${skipped} skipped` : ""}`;
      process.stdout.write(`${failed === 0 ? "ok  " : "FAIL"} ${file}: ${result} (${seconds} s)\n`);
      if (failed > 0 || skipped > 0) process.stdout.write(output.replace(/^/gm, "     ").trimEnd() + "\n");
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
  process.stdout.write(
    `${sum.passed} passed, ${sum.failed} failed${sum.skipped > 0 ? `, ${sum.skipped} skipped` : ""}\n`,
  );
  process.exitCode = sum.failed > 0 ? 1 : 0;
}

await main();
