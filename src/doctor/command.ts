// Starts a provider's program as a client starts it, and reads its answer as a client reads it.

import { spawnSync } from "node:child_process";
import { callersEnvironment } from "../environment.ts";
import { ioError, KeystoreError, printable } from "../errors.ts";
import type { Provider } from "./config-file.ts";
import { GoJsonError, resultIn } from "./go-json.ts";
import { lookPath } from "./programs.ts";

/** ms for one start, beside what a holder may take. */
export const TIME_LIMIT = 10_000;

const MAX_OUTPUT = 64 * 1024 * 1024;
const RESULTS = {
  keywrapresults: "annotation",
  keyunwrapresults: "optsdata",
} as const;

/** A start that did not give what clients need. */
export class StartError extends KeystoreError {
  /** The exit code, if the program ended by itself. */
  readonly status: number | undefined;

  constructor(error: KeystoreError, status: number | undefined) {
    super(error.code, error.message, error.hint);
    this.status = status;
  }
}

/**
 * Sends one request to a provider's program, in our environment and working directory: the result in its answer.
 *
 * @throws StartError
 */
export function start(
  { path, args }: Provider,
  input: string,
  results: keyof typeof RESULTS,
  timeout = TIME_LIMIT,
): Buffer {
  const options = {
    argv0: path,
    env: callersEnvironment(),
    input,
    timeout,
    killSignal: "SIGKILL",
    maxBuffer: MAX_OUTPUT,
  } as const;
  const { error, status, signal, stdout, stderr } = spawnSync(lookPath(path).path ?? path, args, options);
  if (status !== 0) {
    const said = /.+/.exec(String(stderr ?? ""))?.[0]?.replace(/^ocicrypt-keystore: /, "");
    const code = errorCodeOf(error);
    const ended = code === "ETIMEDOUT" ? `killed after ${timeout / 1000} s` : signal && `killed by ${signal}`;
    const how = status === null ? (ended ?? code ?? "it cannot be started") : `exit code ${status}`;
    throw failure(`${path} failed (${how})${said === undefined ? "" : `: ${printable(said, 600)}`}`, status);
  }
  const name = RESULTS[results];
  try {
    const value = resultIn(stdout, results, name);
    if (value !== undefined && value.length > 0) return value;
  } catch (wrong) {
    if (!(wrong instanceof GoJsonError)) throw wrong;
    throw failure(`${path} gave an answer that ${wrong.message}`, status);
  }
  throw failure(`${path} gave an answer without ${results}.${name}`, status);
}

function errorCodeOf(error: Error | undefined): string | undefined {
  return error !== undefined && "code" in error ? String(error.code) : undefined;
}

function failure(message: string, status: number | null): StartError {
  return new StartError(ioError(message, "fix what it says; clients get the same answer"), status ?? undefined);
}
