// The program's standard input and output, and how it ends. No streams, no timers: only system calls.

import { constants, fstatSync, readFileSync, readSync, writeSync } from "node:fs";
import { asKeystoreError, errorCode, errorLine, ioError, KeystoreError, requestError, usageError } from "../errors.ts";

const MAX_REQUEST = 8 * 1024 * 1024; // bytes
const FULL_PIPE_PAUSE = 5; // ms
const NULL_DEVICE = 0x103; // the device number of /dev/null: major 1, minor 3 (null(4))
const ACCESS_MODE = constants.O_WRONLY | constants.O_RDWR; // the bits of open(2)'s flags that hold it

/**
 * Runs the program's work. A failure ends the process with its one line, and so does an end before the work has settled: Node ends with
 * exit code 0 as soon as nothing keeps it alive, whatever is still awaited.
 */
export async function settle(work: () => Promise<void>): Promise<void> {
  const endedEarly = (): never =>
    fail(ioError("the program ended before its work was done", "run the same command again; if it ends so again, please report it"));
  process.once("exit", endedEarly);
  process.on("uncaughtException", fail); // also of a promise that nobody awaits
  try {
    refuseOtherBytes();
    await work();
  } catch (error) {
    fail(error);
  }
  process.off("exit", endedEarly);
}

/** Node reads bytes that are not UTF-8 as U+FFFD: with a path of those, another file would be read or written. */
function refuseOtherBytes(): void {
  const paths = Object.entries(process.env).filter(([name]) => /^(OCICRYPT_|HOME$|XDG_CONFIG_HOME$|CREDENTIALS_DIRECTORY$)/.test(name));
  const odd = paths.find(([, value]) => value?.includes("\ufffd"))?.[0];
  if (process.argv.slice(2).some((arg) => arg.includes("\ufffd"))) throw usageError("an argument is not UTF-8", "rename the file or folder that it names");
  if (odd !== undefined) throw usageError(`the environment variable ${odd} is not UTF-8`, "rename the file or folder that it names");
}

/** Shows an error as its one line and ends the process with its exit code. */
export function fail(error: unknown): never {
  writeStandardError(`${errorLine(error)}\n`);
  return process.reallyExit(asKeystoreError(error).exitCode);
}

/** Writes to standard error what is no data. If that cannot be written, nothing else changes: the exit code still tells how it went. */
export function writeStandardError(text: string): void {
  try {
    writeAll(2, Buffer.from(text));
  } catch {
    // closed, full, or without a reader
  }
}

/** Writes all of it to standard output. @throws a system error if the reader is gone or the disk is full */
export function writeStandardOutput(text: string): void {
  writeAll(1, Buffer.from(text));
}

/** Writes to standard output what must reach its reader. @throws KeystoreError `io` if it does not */
export function writeAnswer(text: string): void {
  if (standardOutputWasClosed()) {
    throw ioError("standard output is closed, or /dev/null open to read and write", "give it a reader or a file; > /dev/null discards the answer");
  }
  try {
    writeStandardOutput(text);
  } catch (error) {
    throw outputError(error);
  }
}

/** What to say if standard output could not be written. */
export function outputError(error: unknown): KeystoreError {
  return ioError(`cannot write to standard output: ${errorCode(error) ?? "unknown error"}`, "check what reads it, or the disk it goes to");
}

/**
 * Whether the program was started with a closed standard output. Node then opens /dev/null in its place, to read and write. A shell's
 * `> /dev/null` is open to write only, but some programs that discard output (Python's DEVNULL) open it as Node does.
 */
function standardOutputWasClosed(): boolean {
  try {
    if (fstatSync(1).rdev !== NULL_DEVICE) return false;
    const flags = /^flags:\s*(\d+)$/m.exec(readFileSync("/proc/self/fdinfo/1", "latin1"))?.[1] ?? "";
    return (Number.parseInt(flags, 8) & ACCESS_MODE) === constants.O_RDWR;
  } catch {
    return false;
  }
}

/** Reads standard input to its end. @throws KeystoreError `request` beyond 8 MiB */
export function readStandardInput(): Buffer {
  const chunks: Buffer[] = [];
  let length = 0;
  for (;;) {
    const chunk = Buffer.allocUnsafe(64 * 1024);
    const count = retryWhenBusy(() => readSync(0, chunk, 0, chunk.length, null));
    if (count === 0) return Buffer.concat(chunks, length);
    chunks.push(chunk.subarray(0, count));
    length += count;
    if (length > MAX_REQUEST) throw requestError("the request on standard input is larger than 8 MiB", "no client writes such a one: check what is piped in");
  }
}

function writeAll(fd: number, bytes: Buffer): void {
  for (let at = 0; at < bytes.length; ) at += retryWhenBusy(() => writeSync(fd, bytes, at));
}

/** A pipe that its other end made non-blocking says EAGAIN while it is full or empty. */
function retryWhenBusy(call: () => number): number {
  for (;;) {
    try {
      return call();
    } catch (error) {
      if (errorCode(error) === "EOF") return 0;
      if (errorCode(error) !== "EAGAIN") throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, FULL_PIPE_PAUSE);
    }
  }
}

/** Whether standard input is a terminal, so that no request will come. */
export function standardInputIsTerminal(): boolean {
  try {
    return fstatSync(0).isCharacterDevice() && process.getBuiltinModule("node:tty").isatty(0);
  } catch {
    return false;
  }
}
