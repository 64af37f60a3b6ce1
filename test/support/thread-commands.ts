// The thread of thread.ts: the program's commands, one after the other. Their standard input and output are buffers, and
// what would end the process ends the command.

import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { workerData, type MessagePort } from "node:worker_threads";
import { parseExecOptions, exec } from "../../src/exec/exec.ts";
import { fail } from "../../src/exec/stdio.ts";
import { run } from "../../src/cli/main.ts";

interface Command {
  readonly args: readonly string[];
  readonly input: Uint8Array;
  readonly env: Readonly<Record<string, string | undefined>>;
}

const { port, done } = workerData as { port: MessagePort; done: Int32Array };
const { readSync, writeSync } = fs;
let input = Buffer.alloc(0);
let output: Partial<Record<number, Buffer[]>> = {};
let code: number | undefined;

Object.assign(fs, {
  readSync: (...args: Parameters<typeof readSync>): number => {
    const [fd, into] = args;
    if (fd !== 0) return readSync(...args);
    const count = input.copy(into as Uint8Array);
    input = input.subarray(count);
    return count;
  },
  writeSync: (...args: Parameters<typeof writeSync>): number => {
    const [fd, bytes, at = 0] = args as unknown as [number, Buffer, number?];
    if (fd !== 1 && fd !== 2) return writeSync(...args);
    if (code === undefined) (output[fd] ??= []).push(Buffer.from(bytes.subarray(at)));
    return bytes.length - at;
  },
});
syncBuiltinESMExports();
Object.assign(process, {
  reallyExit: (status: number): never => {
    code ??= status; // what the command does after its end, nobody sees
    throw new Error("the command has ended");
  },
});

const exitCode = (): number => Number(process.exitCode ?? 0);

async function perform(command: Command): Promise<void> {
  input = Buffer.from(command.input);
  [output, code] = [{}, undefined];
  for (const name of Object.keys(process.env)) delete process.env[name];
  for (const [name, value] of Object.entries(command.env)) if (value !== undefined) process.env[name] = value;
  process.argv.splice(2, process.argv.length, ...command.args);
  process.exitCode = undefined;
  const options = parseExecOptions(command.args);
  await (options === undefined ? run(command.args).catch(fail) : exec(options)).catch(() => undefined);
  process.removeAllListeners("exit");
  process.removeAllListeners("uncaughtException");
  code ??= exitCode();
  const [stdout, stderr] = [1, 2].map((fd) => Buffer.concat(output[fd] ?? []).toString());
  port.postMessage({ code, stdout, stderr });
  Atomics.store(done, 0, 1);
  Atomics.notify(done, 0);
}

port.on("message", (command: Command) => void perform(command));
