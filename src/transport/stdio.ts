// Exec mode: one request on standard input, one answer on standard output. No streams, no timers: only system calls.

import { fstatSync, readSync, writeSync } from "node:fs";

import { errorCode, errorLine, asKeystoreError, KeystoreError } from "../errors.ts";
import { directoryKeyStore } from "../keystore/directory.ts";
import { storeLocation } from "../keystore/location.ts";
import { secretFiles } from "../keystore/secrets.ts";
import { answerRequest, wireForm } from "../protocol/answer.ts";
import { parseRequest } from "../protocol/request.ts";

const MAX_REQUEST = 8 * 1024 * 1024; // bytes
const FULL_PIPE_PAUSE = 5; // ms

/** What `args` of ocicrypt.conf may hold. */
export interface ExecOptions {
  readonly keystore?: string;
  readonly provider?: string;
  readonly passphraseFile?: string;
  readonly masterKeyFile?: string;
}

const OPTIONS: ReadonlyMap<string, keyof ExecOptions> = new Map([
  ["--keystore", "keystore"],
  ["--provider", "provider"],
  ["--passphrase-file", "passphraseFile"],
  ["--master-key-file", "masterKeyFile"],
]);

/** The options of exec mode, undefined where the command line is anything else: a subcommand, --help, a mistake. */
export function parseExecOptions(args: readonly string[]): ExecOptions | undefined {
  const options: { -readonly [name in keyof ExecOptions]: string } = {};
  for (let at = 0; at < args.length; at++) {
    const [name = "", ...inline] = (args[at] ?? "").split("=");
    const option = OPTIONS.get(name);
    const value = inline.length > 0 ? inline.join("=") : args[++at];
    if (option === undefined || value === undefined || value === "" || Object.hasOwn(options, option)) return undefined;
    options[option] = value;
  }
  if (args.length === 0 && standardInputIsTerminal()) return undefined;
  return options;
}

/** Answers the request on standard input and ends the process: exit code 0, or nothing on stdout and one line on stderr. */
export async function exec(options: ExecOptions): Promise<never> {
  try {
    const store = directoryKeyStore(storeLocation(options.keystore), secretFiles(options));
    const answer = await answerRequest(parseRequest(readStandardInput()), store, { provider: options.provider, startedAs: process.argv0 });
    writeStandardOutput(`${wireForm(answer, (bytes) => bytes.toString("base64"))}\n`); // Go decodes padded standard base64
    return process.reallyExit(0);
  } catch (error) {
    return fail(error);
  }
}

/** Shows an error as its one line and ends the process with its exit code. */
export function fail(error: unknown): never {
  try {
    writeAll(2, Buffer.from(`${errorLine(error)}\n`));
  } catch {
    // nobody reads standard error: the exit code is left
  }
  return process.reallyExit(asKeystoreError(error).exitCode);
}

/** Writes all of it to standard output. @throws KeystoreError `io` if the reader is gone or the disk is full */
export function writeStandardOutput(text: string): void {
  try {
    writeAll(1, Buffer.from(text));
  } catch (error) {
    throw new KeystoreError("io", `cannot write to standard output: ${errorCode(error) ?? "unknown error"}`, "check what reads it, or the disk it goes to");
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
    if (length > MAX_REQUEST) throw new KeystoreError("request", "the request on standard input is larger than 8 MiB", "no client writes such a one: check what is piped in");
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

function standardInputIsTerminal(): boolean {
  try {
    return fstatSync(0).isCharacterDevice() && process.getBuiltinModule("node:tty").isatty(0);
  } catch {
    return false;
  }
}
