// Runs a holder's command: bytes in, bytes out; time, output and its group of processes bounded. The event loop never waits for it.

import type { ChildProcessByStdio } from "node:child_process";
import type { Readable, Writable } from "node:stream";
import { errorCode, printable } from "../errors.ts";

const MAX_ANSWER = 4 * 1024; // bytes on standard output; the longest answer due has 66
const MAX_COMPLAINT = 1024 * 1024; // bytes on standard error
const TAIL = 4 * 1024; // bytes of it that are kept
const SHOWN = 2; // lines, and before them the one with the reason: the last ones of many tools only say that they give up
const MAX_SHOWN = 300; // characters of each
const GRACE = 200; // ms for the pipes to be closed once the command has ended: a child of its own may have kept them

const SIGNALS = ["SIGHUP", "SIGINT", "SIGTERM"] as const; // what ends a client ends us, but not a group of its own
const running = new Set<number>();

/** How a command ended. */
export interface Ending {
  /** All that it wrote to standard output, whatever else happened. */
  readonly answer: Buffer;
  /** What went wrong, such as "failed (exit code 3)"; undefined for exit code 0. */
  readonly failure: string | undefined;
  /** The last lines of its standard error as `: "REASON / LINE / LINE"`, or nothing. */
  readonly lastLines: string;
}

/**
 * Runs a program without a shell, in / and with this process's environment, in a process group of its own. The group
 * is killed when the time is over, when it writes too much, when its pipes stay open after the program has ended, and when
 * a signal ends this process.
 *
 * @param timeLimit ms
 */
export async function runCommand(program: string, args: readonly string[], input: Buffer, timeLimit: number): Promise<Ending> {
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
      child?.unref(); // what cannot be killed is not waited for
      resolve({ answer: Buffer.concat(answer), failure, lastLines: lastLines(tail) });
    };
    const timer = setTimeout(() => end(`did not answer within ${timeLimit / 1000} s`, true), timeLimit);
    const cannotStart = (error: unknown): void => end(`cannot be started (${errorCode(error) ?? "unknown error"})`, false);

    for (const signal of SIGNALS) if (process.listenerCount(signal) === 0) process.once(signal, endAll); // who listens already, as a server does, ends in its own time
    try {
      child = process.getBuiltinModule("node:child_process").spawn(program, args, { cwd: "/", detached: true, stdio: ["pipe", "pipe", "pipe"] });
    } catch (error) {
      return cannotStart(error);
    }
    child.on("error", cannotStart);
    if (child.pid === undefined) return undefined; // the error comes as an event; where file descriptors ran out there are not even pipes
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
      // Once more round the loop: where it was busy for as long, what the command wrote is there and not read yet.
      if (!ended) grace = setTimeout(() => setImmediate(() => end(failureOf(code, signal), true)), GRACE);
    });
    child.on("close", (code, signal) => end(failureOf(code, signal), false));
    child.stdin.on("error", () => undefined); // it may end without reading
    child.stdin.end(input);
  });
}

function failureOf(code: number | null, signal: NodeJS.Signals | null): string | undefined {
  if (code === null) return `was ended by ${signal ?? "a signal"}`;
  return code === 0 ? undefined : `failed (exit code ${code})`;
}

/** Ends what runs, and this process as the signal would have. */
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
    // all of it has ended, or runs as another user
  }
}

function lastLines(bytes: Buffer): string {
  const lines = bytes.toString().split(/[\r\n]+/).map((line) => line.trim()).filter((line) => line !== "");
  const earlier = lines.slice(0, -SHOWN);
  const reason = earlier.findLast((line) => /^(?:error|denied|fail)/i.test(line)) ?? earlier.findLast((line) => /error|denied|fail/i.test(line));
  const shown = [...(reason === undefined ? [] : [reason]), ...lines.slice(-SHOWN)];
  return shown.length === 0 ? "" : `: "${shown.map((line) => printable(line, MAX_SHOWN)).join(" / ")}"`;
}
