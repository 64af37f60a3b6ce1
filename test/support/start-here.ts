// Starts the built program without a process for each start: the bundles that the binary is made of run in a worker of
// this process, anew for each start. What only a process has is not the same: signals, a terminal, limits.

import { Worker, MessageChannel, receiveMessageOnPort, type MessagePort } from "node:worker_threads";
import type { Result } from "./program.ts";

/** What a start gets. */
export interface Start {
  readonly args: readonly string[];
  readonly input: Uint8Array;
  readonly env: NodeJS.ProcessEnv;
}

interface Started {
  readonly thread: Worker;
  readonly port: MessagePort;
  readonly done: Int32Array;
}
let started: Started | undefined;

function worker(): Started {
  const { port1: port, port2 } = new MessageChannel();
  const done = new Int32Array(new SharedArrayBuffer(4));
  const file = new URL("start-worker.ts", import.meta.url);
  const workerData = { port: port2, done };
  const thread = new Worker(file, { workerData, transferList: [port2], env: {}, argv: [] });
  thread.unref();
  port.unref();
  return (started = { thread, port, done });
}

/** Runs the program to its end, while this thread waits. */
export function startHere(start: Start, cwd: string, timeout: number): Result {
  const { thread, port, done } = started ?? worker();
  const former = process.cwd();
  process.chdir(cwd); // the worker's too
  try {
    Atomics.store(done, 0, 0);
    port.postMessage(start);
    Atomics.wait(done, 0, 0, timeout);
    const { message } = (receiveMessageOnPort(port) ?? {}) as { message?: Result };
    if (message !== undefined) return message;
    started = undefined;
    void thread.terminate();
    return { code: null, stdout: "", stderr: `no end within ${timeout} ms` };
  } finally {
    process.chdir(former);
  }
}
