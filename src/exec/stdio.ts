// The program's standard input and output, and its end. No streams and no timers: only system calls.

import { constants, fstatSync, readFileSync, readSync, writeSync } from "node:fs";
import { asKeystoreError, errorCode, errorLine, ioError, KeystoreError, requestError, usageError } from "../errors.ts";

const MAX_REQUEST = 8 * 1024 * 1024; // bytes
const FULL_PIPE_PAUSE = 5; // ms
const NULL_DEVICE = 0x103; // the device number of /dev/null: major 1, minor 3 (null(4))
const ACCESS_MODE = constants.O_WRONLY | constants.O_RDWR; // the bits of open(2)'s flags that hold the access mode

/**
 * Runs the program's work. If it fails, the process ends with one error line. The same happens if the process would end
 * before the work has settled: Node ends with exit code 0 as soon as nothing keeps it alive, even if a promise is still
 * awaited.
 */
export async function settle(work: () => Promise<void>): Promise<void> {
  const endedEarly = (): never =>
    fail(
      ioError(
        "the program ended before its work was done",
        "run the same command again; if that fails too, please report it",
      ),
    );
  process.once("exit", endedEarly);
  process.on("uncaughtException", fail); // also a rejected promise that nothing awaits
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
  const paths = Object.entries(process.env).filter(([name]) =>
    /^(OCICRYPT_|HOME$|XDG_CONFIG_HOME$|CREDENTIALS_DIRECTORY$)/.test(name),
  );
  const odd = paths.find(([, value]) => value?.includes("\ufffd"))?.[0];
  if (process.argv.slice(2).some((arg) => arg.includes("\ufffd")))
    throw usageError("an argument is not UTF-8", "rename the file or folder that it names");
  if (odd !== undefined)
    throw usageError(`the environment variable ${odd} is not UTF-8`, "rename the file or folder that it names");
}

/** Shows an error as its one line and ends the process with its exit code. */
export function fail(error: unknown): never {
  writeStandardError(`${errorLine(error)}\n`);
  return process.reallyExit(asKeystoreError(error).exitCode);
}

/** Writes text that is not data to standard error. If that fails, nothing else changes: the exit code is the same. */
export function writeStandardError(text: string): void {
  try {
    writeAll(2, Buffer.from(text));
  } catch {
    // closed, full, or without a reader
  }
}

/** Writes the whole text to standard output. @throws a system error if the reader is gone or the disk is full */
export function writeStandardOutput(text: string): void {
  writeAll(1, Buffer.from(text));
}

/** Writes data to standard output. @throws KeystoreError `io` if it does not reach its reader */
export function writeAnswer(text: string): void {
  if (standardOutputWasClosed()) {
    const message = "standard output is closed, or is /dev/null opened to read and write";
    throw ioError(message, "connect standard output to a reader or a file; > /dev/null discards the answer");
  }
  try {
    writeStandardOutput(text);
  } catch (error) {
    throw outputError(error);
  }
}

/** The error for a failure to write to standard output. */
export function outputError(error: unknown): KeystoreError {
  const message = `cannot write to standard output: ${errorCode(error) ?? "unknown error"}`;
  return ioError(message, "check the program that reads it, or the disk that it is written to");
}

/**
 * Whether the program was started with a closed standard output. Node then opens /dev/null in its place, to read and
 * write. A shell's `> /dev/null` is open to write only. Python's DEVNULL is open to read and write: it cannot be told
 * from a closed standard output.
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
    if (length > MAX_REQUEST) {
      throw requestError(
        "the request on standard input is larger than 8 MiB",
        "no client sends that much: check what is piped in",
      );
    }
  }
}

function writeAll(fd: number, bytes: Buffer): void {
  for (let at = 0; at < bytes.length;) at += retryWhenBusy(() => writeSync(fd, bytes, at));
}

/**
 * Repeats a call that fails with EAGAIN: a pipe that its other end made non-blocking does so while it is full or
 * empty.
 */
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

/** Whether standard input is a terminal: no client sends a request from there. */
export function standardInputIsTerminal(): boolean {
  try {
    return fstatSync(0).isCharacterDevice() && process.getBuiltinModule("node:tty").isatty(0);
  } catch {
    return false;
  }
}
