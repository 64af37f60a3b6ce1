// Starts a provider's program as a client starts it, and reads its answer as a client reads it.

import { spawnSync } from "node:child_process";
import { callersEnvironment } from "../environment.ts";
import { errorCode, ioError, KeystoreError, printable } from "../errors.ts";
import { orFail } from "../go-json.ts";
import type { Provider } from "./config-file.ts";
import { resultIn } from "./exchange.ts";
import { lookPath } from "./programs.ts";

/** ms for one start, beside what a holder may take: more than this program gives a Tang server to answer. */
export const TIME_LIMIT = 15_000;

const FIX = "fix what it says; clients get the same answer";
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
  const { path: program, obstacle } = lookPath(path);
  // Node would have a shell run a file that the kernel refuses; clients do not.
  if (program === undefined) throw failure(`${path} ${obstacle.message}`, null, obstacle.hint);
  const options = {
    argv0: path,
    env: callersEnvironment(),
    input,
    timeout,
    killSignal: "SIGKILL",
    maxBuffer: MAX_OUTPUT,
  } as const;
  const { error, status, signal, stdout, stderr } = spawnSync(program, args, options);
  if (status !== 0) {
    const said = /.+/.exec(String(stderr ?? ""))?.[0]?.replace(/^ocicrypt-keystore: /, "");
    const code = errorCode(error);
    const ended = code === "ETIMEDOUT" ? `killed after ${timeout / 1000} s` : signal && `killed by ${signal}`;
    const how = status === null ? (ended ?? code ?? "it cannot be started") : `exit code ${status}`;
    throw failure(`${path} failed (${how})${said === undefined ? "" : `: ${printable(said, 600)}`}`, status);
  }
  const name = RESULTS[results];
  const fail = (reason: string): Error => failure(`${path} gave an answer that ${reason}`, status);
  const value = orFail(fail, () => resultIn(stdout, results, name));
  if (value !== undefined && value.length > 0) return value;
  throw failure(`${path} gave an answer without ${results}.${name}`, status);
}

function failure(message: string, status: number | null, hint = FIX): StartError {
  return new StartError(ioError(message, hint), status ?? undefined);
}
