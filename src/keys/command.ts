// Runs a holder's command: bytes in, bytes out. Its time, its output and its process group are bounded. The event loop
// never waits for it.

import type { ChildProcessByStdio } from "node:child_process";
import type { Readable, Writable } from "node:stream";
import { callersEnvironment } from "../environment.ts";
import { errorCode, printable } from "../errors.ts";

const MAX_ANSWER = 4 * 1024; // bytes on standard output; the longest valid answer has 66
const MAX_COMPLAINT = 1024 * 1024; // bytes on standard error
const TAIL = 4 * 1024; // bytes of standard error that are kept
// Last lines that are shown, after an earlier line with the reason: many tools end with a general line.
const SHOWN_LINES = 2;
const MAX_SHOWN = 300; // characters of each line
const GRACE = 200; // ms after the command has ended until its pipes must be closed: a child of it may have kept them

// The terminal sends them to this process, not to the command's group.
const SIGNALS = ["SIGHUP", "SIGINT", "SIGTERM"] as const;
const running = new Set<number>();

/** How a command ended. */
export interface Ending {
  /** Everything that it wrote to standard output, even if it failed. */
  readonly answer: Buffer;
  /** What went wrong, such as "failed (exit code 3)"; undefined for exit code 0. */
  readonly failure: string | undefined;
  /** The last lines of its standard error as `: "REASON / LINE / LINE"`, or an empty string. */
  readonly lastLines: string;
}

/**
 * Runs a program without a shell, in / and with this process's environment, in its own process group. The group is
 * killed when the time is over, when it writes too much, when its pipes stay open after the program has ended, and when
 * a signal ends this process.
 *
 * @param timeLimit ms
 */
export async function runCommand(
  program: string,
  args: readonly string[],
  input: Buffer,
  timeLimit: number,
): Promise<Ending> {
  return await new Promise((resolve) => {
    const answer: Buffer[] = [];
    let tail = Buffer.alloc(0);
    let [answered, complained] = [0, 0];
    let grace: NodeJS.Timeout | undefined;
    let child: ChildProcessByStdio<Writable, Readable, Readable> | undefined;
    let ended = false;

    const end = (failure: string | undefined, kill: boolean): void => {
      if (ended) return;
      ended = true;
      clearTimeout(timer);
      clearTimeout(grace);
      if (kill) killGroup(child?.pid);
      if (child?.pid !== undefined) running.delete(child.pid);
      for (const stream of [child?.stdin, child?.stdout, child?.stderr]) stream?.destroy();
      child?.unref(); // do not wait for a process that cannot be killed
      resolve({ answer: Buffer.concat(answer), failure, lastLines: lastLines(tail) });
    };
    const timer = setTimeout(() => end(`did not answer within ${timeLimit / 1000} s`, true), timeLimit);
    const cannotStart = (error: unknown): void => {
      end(`cannot be started (${errorCode(error) ?? "unknown error"})`, false);
    };

    // A server listens to the signals already: it lets the requests under way finish first.
    for (const signal of SIGNALS) if (process.listenerCount(signal) === 0) process.once(signal, endAll);
    try {
      const { spawn } = process.getBuiltinModule("node:child_process");
      child = spawn(program, args, {
        cwd: "/",
        detached: true,
        stdio: ["pipe", "pipe", "pipe"],
        env: callersEnvironment(),
      });
    } catch (error) {
      return cannotStart(error);
    }
    child.on("error", cannotStart);
    // The error follows as an event. If there are no file descriptors left, the child does not even have pipes.
    if (child.pid === undefined) return undefined;
    running.add(child.pid);
    child.stdout.on("data", (chunk: Buffer) => {
      answer.push(chunk);
      answered += chunk.length;
      if (answered > MAX_ANSWER) end(`answered more than ${MAX_ANSWER} bytes`, true);
    });
    child.stderr.on("data", (chunk: Buffer) => {
      tail = Buffer.concat([tail, chunk]).subarray(-TAIL);
      complained += chunk.length;
      if (complained > MAX_COMPLAINT) end(`wrote more than ${MAX_COMPLAINT} bytes to standard error`, true);
    });
    child.on("exit", (code, signal) => {
      // setImmediate: if the event loop was busy all that time, the command's output is there but was not read yet.
      if (!ended) grace = setTimeout(() => setImmediate(() => end(failureOf(code, signal), true)), GRACE);
    });
    child.on("close", (code, signal) => end(failureOf(code, signal), false));
    child.stdin.on("error", () => undefined); // the command may end without reading
    child.stdin.end(input);
  });
}

function failureOf(code: number | null, signal: NodeJS.Signals | null): string | undefined {
  if (code === null) return `was killed by ${signal ?? "a signal"}`;
  return code === 0 ? undefined : `failed (exit code ${code})`;
}

/** Kills all running commands, then lets the signal end this process. */
function endAll(signal: NodeJS.Signals): void {
  endCommands();
  process.kill(process.pid, signal);
}

/** Kills every command that still runs, for whoever ends without waiting for them. */
export function endCommands(): void {
  for (const pid of running) killGroup(pid);
}

function killGroup(pid: number | undefined): void {
  try {
    if (pid !== undefined) process.kill(-pid, "SIGKILL");
  } catch {
    // the group has ended, or runs as another user
  }
}

function lastLines(bytes: Buffer): string {
  const lines = bytes
    .toString()
    .split(/[\r\n]+/)
    .map((line) => line.trim())
    .filter((line) => line !== "");
  const earlier = lines.slice(0, -SHOWN_LINES);
  const last = (pattern: RegExp): string | undefined => earlier.findLast((line) => pattern.test(line));
  const reason = last(/^(?:error|denied|fail)/i) ?? last(/error|denied|fail/i);
  const shown = [...(reason === undefined ? [] : [reason]), ...lines.slice(-SHOWN_LINES)];
  return shown.length === 0 ? "" : `: "${shown.map((line) => printable(line, MAX_SHOWN)).join(" / ")}"`;
}
