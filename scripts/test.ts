// npm test: builds the binary, runs each test file in a process of its own and adds up what they say.
// A file that crashes, or forgets test.run(), counts as a failure. The last line is `N passed, N failed`.

import { spawn } from "node:child_process";
import { globSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";

const ROOT = join(import.meta.dirname, "..");
const TIME_LIMIT = 40 * 60_000; // ms for one file

interface Totals {
  passed: number;
  failed: number;
  skipped: number;
}

async function run(file: string): Promise<{ code: number | null; output: string }> {
  const child = spawn(process.execPath, [file], { cwd: ROOT, stdio: ["ignore", "pipe", "pipe"], timeout: TIME_LIMIT });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text: string) => (output += text));
  return await new Promise((resolve) => child.on("close", (code) => resolve({ code, output })));
}

/** uvu's own totals; none are printed by a file that crashed while loading or never ran its suite. */
function totals({ code, output }: { code: number | null; output: string }): Totals {
  const count = (label: string): number | undefined => {
    const found = new RegExp(`^  ${label}:\\s+(\\d+)`, "m").exec(output)?.[1];
    return found === undefined ? undefined : Number(found);
  };
  const [total, passed, skipped] = [count("Total"), count("Passed"), count("Skipped")];
  if (total === undefined || passed === undefined || skipped === undefined || total + skipped === 0) return { passed: 0, failed: 1, skipped: 0 };
  return { passed, failed: Math.max(total - passed, code === 0 ? 0 : 1), skipped };
}

async function main(): Promise<void> {
  const build = await run("scripts/build.ts");
  if (build.code !== 0) process.stdout.write(build.output);
  const sum: Totals = { passed: 0, failed: build.code === 0 ? 0 : 1, skipped: 0 };
  const wanted = process.argv.slice(2);
  const files = build.code === 0 ? globSync("test/**/*.test.ts", { cwd: ROOT }).filter((file) => wanted.length === 0 || wanted.some((part) => file.includes(part))) : [];
  const queue = files.toSorted();
  const worker = async (): Promise<void> => {
    for (let file = queue.shift(); file !== undefined; file = queue.shift()) {
      const started = Date.now();
      const result = await run(file);
      const { passed, failed, skipped } = totals(result);
      sum.passed += passed;
      sum.failed += failed;
      sum.skipped += skipped;
      const seconds = ((Date.now() - started) / 1000).toFixed(1);
      process.stdout.write(`${failed === 0 ? "ok  " : "FAIL"} ${file}: ${passed} passed${skipped > 0 ? `, ${skipped} skipped` : ""} (${seconds} s)\n`);
      if (failed > 0 || skipped > 0) process.stdout.write(result.output.replace(/^/gm, "     ").trimEnd() + "\n");
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
  process.stdout.write(`${sum.passed} passed, ${sum.failed} failed${sum.skipped > 0 ? `, ${sum.skipped} skipped` : ""}\n`);
  process.exitCode = sum.failed > 0 ? 1 : 0;
}

await main();
