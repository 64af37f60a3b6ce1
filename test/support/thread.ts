// The program without a start of the binary, for tables with many rows. It runs from src/ in a thread of this process:
// one or two rows of each table go through the binary itself.

import { MessageChannel, receiveMessageOnPort, Worker, type MessagePort } from "node:worker_threads";
import * as assert from "uvu/assert";
import type { Result, RunOptions } from "./program.ts";

interface Thread {
  readonly worker: Worker;
  readonly port: MessagePort;
  readonly done: Int32Array;
}

let thread: Thread | undefined;

function started(): Thread {
  if (thread !== undefined) return thread;
  const { port1, port2 } = new MessageChannel();
  const done = new Int32Array(new SharedArrayBuffer(4));
  const worker = new Worker(new URL("thread-commands.ts", import.meta.url), {
    workerData: { port: port2, done },
    transferList: [port2],
  });
  worker.unref();
  port1.unref();
  return (thread = { worker, port: port1, done });
}

/** Like `run`, but for the working directory and the umask: those are this process's. */
export function runHere(
  args: readonly string[],
  { input = "", env = {}, timeout = 20_000 }: Omit<RunOptions, "cwd" | "binary"> = {},
): Result {
  const { worker, port, done } = started();
  Atomics.store(done, 0, 0);
  port.postMessage({ args, input: Buffer.from(input), env });
  if (Atomics.wait(done, 0, 0, timeout) === "timed-out") {
    thread = undefined;
    void worker.terminate();
    return { code: null, stdout: "", stderr: `still running after ${timeout} ms` };
  }
  return receiveMessageOnPort(port)?.message as Result;
}

/** Like `succeed`. */
export function succeedHere(args: readonly string[], options?: Omit<RunOptions, "cwd" | "binary">): string {
  const { code, stdout, stderr } = runHere(args, options);
  assert.is(code, 0, `${args.join(" ")}: ${stderr}`);
  return stdout;
}
