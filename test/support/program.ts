// The built binary as a client starts it, and how it must fail.

import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, copyFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { sharedFolder } from "./folders.ts";
import { startHere } from "./start-here.ts";

export const ROOT = join(import.meta.dirname, "../..");
export const BINARY = join(ROOT, "dist/ocicrypt-keystore");

/** How a process ended. */
export interface Result {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Options of {@link run}. */
export interface RunOptions {
  readonly input?: string | Buffer;
  /** The whole environment; empty where nothing is said, as containerd starts it. */
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  /** ms; a process that takes longer is killed and its code is null. */
  readonly timeout?: number;
  readonly binary?: string;
}

let here = false;
const ITSELF = new Set(["doctor", "serve"]); // commands that start the binary again, or go on

/**
 * From now on {@link run} runs the binary's bundles in this process: for tests of what the program does, which start it
 * a hundred times. What it does as a process is for other tests, and for {@link throughBinary}.
 */
export function runHere(): void {
  here = true;
}

/** Does something for which {@link run} starts the binary, in a file that says {@link runHere}. */
export function throughBinary<T>(body: () => T): T {
  return runIn(false, body);
}

/** Does something for which {@link run} runs the binary's bundles in this process, in any file. */
export function throughBundles<T>(body: () => T): T {
  return runIn(true, body);
}

function runIn<T>(inProcess: boolean, body: () => T): T {
  const former = here;
  here = inProcess;
  try {
    return body();
  } finally {
    here = former;
  }
}

/** Runs the binary to its end. */
export function run(
  args: readonly string[],
  { input = "", env = {}, cwd = "/", timeout = 20_000, binary }: RunOptions = {},
): Result {
  const inWorker = here && binary === undefined && !ITSELF.has(args[0] ?? "");
  return inWorker
    ? startHere({ args, input: Buffer.from(input), env }, cwd, timeout)
    : start(binary ?? BINARY, args, { input, env, cwd, timeout });
}

function start(binary: string, args: readonly string[], { input, env, cwd, timeout }: RunOptions): Result {
  const { status, stdout, stderr } = spawnSync(binary, args, {
    input,
    env,
    cwd,
    timeout,
    killSignal: "SIGKILL",
    maxBuffer: 64 * 1024 * 1024,
  });
  return { code: status, stdout: stdout.toString(), stderr: stderr.toString() };
}

/** Runs the binary to its end while this process goes on, for a server that is in it. It has no terminal. */
export async function runBeside(
  args: readonly string[],
  { input = "", env = {}, timeout = 30_000 }: RunOptions = {},
): Promise<Result> {
  const child = spawn(BINARY, args, { env, cwd: "/", detached: true, timeout, killSignal: "SIGKILL" });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  child.stdin.end(input);
  const [code] = (await once(child, "close")) as [number | null];
  return { code, stdout, stderr };
}

/** Runs a command that must succeed, and gives what it printed. */
export function succeed(args: readonly string[], options?: RunOptions): string {
  const { code, stdout, stderr } = run(args, options);
  assert.is(code, 0, `${args.join(" ")}: ${stderr}`);
  return stdout;
}

/** Asserts how every failure looks: nothing on stdout, one line on stderr, no stack trace. Returns the line. */
export function assertFailure({ code, stdout, stderr }: Result, exitCode: number): string {
  assert.is(code, exitCode, `exit code: ${stderr}`);
  assert.is(stdout, "", "stdout");
  assert.match(stderr, /^ocicrypt-keystore: [^\n]+; [^\n]+\n$/, "one line with a hint");
  assert.not.match(stderr, /\n\s+at |internal error|node:/, "no stack trace");
  assert.ok(stderr.length <= 2049, "a short line");
  return stderr.trimEnd();
}

let shared: string | undefined;
/** A copy of the binary that every user can start: the clone may be where only its owner can go. */
export function sharedBinary(): string {
  if (shared !== undefined) return shared;
  const copy = join(sharedFolder(), "ocicrypt-keystore");
  copyFileSync(BINARY, copy);
  chmodSync(copy, 0o755);
  return (shared = copy);
}

/** A line of these words for sh. */
export function shellLine(words: readonly string[]): string {
  return words.map((word) => `'${word.replaceAll("'", String.raw`'\''`)}'`).join(" ");
}
