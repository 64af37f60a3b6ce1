// The worker of start-here.ts. It stands in for what a process has: arguments, environment, standard streams, its end.

import fs, { readdirSync, readFileSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import tty from "node:tty";
import vm from "node:vm";
import { workerData, type MessagePort } from "node:worker_threads";
import type { Start } from "./start-here.ts";

const { port, done } = workerData as { readonly port: MessagePort; readonly done: Int32Array };
const ROOT = join(import.meta.dirname, "../..");
const load = createRequire(import.meta.url);
process.execPath = join(ROOT, "dist/ocicrypt-keystore");

// The binary's assets: bundles, and the topics of help.
const assetPath = (name: string): string =>
  join(ROOT, name.startsWith("help/") ? `src/${name}.md` : `dist/bundles/${name}.js`);
const sea = {
  isSea: (): boolean => true,
  getAssetKeys: (): string[] =>
    readdirSync(join(ROOT, "src/help"))
      .filter((name) => name.endsWith(".md"))
      .map((name) => `help/${name.replace(/\.md$/, "")}`),
  getAsset: (name: string): string => readFileSync(assetPath(name), "utf8"),
  // A bundle's source is its name here, and its code cache is nothing: it is compiled once in this worker.
  getRawAsset: (name: string): Buffer => Buffer.from(name),
};
const scripts = new Map<string, vm.Script>();
function compiled(name: string): vm.Script {
  const script = scripts.get(name) ?? new vm.Script(readFileSync(assetPath(name), "latin1"), { filename: name });
  scripts.set(name, script);
  return script;
}
const Script = function (name: string): vm.Script {
  return compiled(name);
};
const require = (name: string): unknown =>
  name === "node:sea" ? sea : name === "node:vm" ? { Script, compileFunction: vm.compileFunction } : load(name);

interface Running {
  readonly input: Buffer;
  at: number; // of the input
  code: number | undefined;
  stdout: string;
  stderr: string;
  readonly end: () => void;
}
let running: Running | undefined;

const real = { readSync: fs.readSync, writeSync: fs.writeSync, fstatSync: fs.fstatSync, isatty: tty.isatty };
const file = statSync(import.meta.filename); // what the standard streams look like: no device
Object.assign(fs, {
  readSync: (fd: number, buffer: Buffer, ...more: unknown[]): number => {
    if (fd !== 0 || running === undefined) return Reflect.apply(real.readSync, fs, [fd, buffer, ...more]) as number;
    const count = running.input.copy(buffer, 0, running.at);
    running.at += count;
    return count;
  },
  writeSync: (fd: number, bytes: Buffer | string, ...more: unknown[]): number => {
    if ((fd !== 1 && fd !== 2) || running === undefined)
      return Reflect.apply(real.writeSync, fs, [fd, bytes, ...more]) as number;
    const at = typeof more[0] === "number" ? more[0] : 0;
    const text = Buffer.from(bytes).subarray(at);
    if (running.code === undefined) running[fd === 1 ? "stdout" : "stderr"] += text.toString();
    return text.length;
  },
  fstatSync: (fd: number, ...more: unknown[]): fs.Stats =>
    fd <= 2 ? file : (Reflect.apply(real.fstatSync, fs, [fd, ...more]) as fs.Stats),
});
Object.assign(tty, { isatty: (fd: number): boolean => fd > 2 && real.isatty(fd) });

const ENDED = new Error("the program has ended");
process.reallyExit = (code): never => {
  if (running !== undefined && running.code === undefined) {
    running.code = typeof code === "number" ? code : 0;
    setImmediate(running.end);
  }
  throw ENDED; // nothing after the end of a process runs
};
// The program's last act, where nothing has failed, is to stop watching for an early end (stdio.ts).
const off = process.off.bind(process);
process.off = (event: string | symbol, ...more: unknown[]): NodeJS.Process => {
  if (event === "exit" && running !== undefined && running.code === undefined) {
    running.code = Number(process.exitCode ?? 0);
    setImmediate(running.end);
  }
  return Reflect.apply(off, process, [event, ...more]) as NodeJS.Process;
};
process.on("unhandledRejection", (error) => {
  if (error !== ENDED) throw error;
});

/** Lets go of what a start has left: a process would have taken it along. */
function clean(): void {
  for (const event of ["exit", "uncaughtException", "SIGHUP", "SIGINT", "SIGTERM"]) process.removeAllListeners(event);
  process.exitCode = undefined;
}

async function run(start: Start): Promise<void> {
  for (const name of Object.keys(process.env)) delete process.env[name];
  Object.assign(process.env, start.env);
  process.argv = ["ocicrypt-keystore", "ocicrypt-keystore", ...start.args];
  await new Promise<void>((end) => {
    running = { input: Buffer.from(start.input), at: 0, code: undefined, stdout: "", stderr: "", end };
    try {
      (compiled("exec").runInThisContext() as (load: unknown) => void)(require);
    } catch (error) {
      if (error !== ENDED) throw error;
    }
  });
  if (running !== undefined) {
    const { code, stdout, stderr } = running;
    port.postMessage({ code: code ?? null, stdout, stderr });
  }
  running = undefined;
  clean();
  Atomics.store(done, 0, 1);
  Atomics.notify(done, 0);
}

port.on("message", (start: Start) => void run(start));
