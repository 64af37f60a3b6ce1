// A private key that is held elsewhere, in a KMS, an HSM or a TPM: a command does each private operation.

import { statSync, type Stats } from "node:fs";
import { keyError, KeystoreError, printable, unusableError } from "../errors.ts";
import { chmodHint, isNoexec } from "../fs/mount.ts";
import { readSmallFile, refuseOpenMode, shownMode } from "../fs/read.ts";
import { isObject, member, parseJson, type JsonObject, type Fail } from "../json.ts";
import { familyFor, HOLDER_OPERATIONS } from "../jwe/alg/algorithms.ts";
import type { PrivateKey } from "../jwe/key.ts";
import { publicJwk, typeName, type Jwk } from "../jwk/jwk.ts";
import { runCommand } from "./command.ts";
import { inUserNamespace } from "../fs/user-namespace.ts";

/** The names of the operations that a holder can do. */
export const HOLDER_OPERATION_NAMES: readonly string[] = [...HOLDER_OPERATIONS.keys()];

/** A command: the absolute path of its program, and its arguments. */
export type Command = readonly [program: string, ...args: string[]];

/** The holder of a private key: a command for each operation that it can do. */
export interface Holder {
  readonly kid: string;
  readonly ops: ReadonlyMap<string, Command>;
  /** ms that a command may take; default: 30 s. */
  readonly timeout?: number;
}

/** The most words that a command may have, including its program. */
export const MAX_WORDS = 64;

const TIMEOUT = { default: 30_000, max: 600_000 } as const; // ms
const JSON_DEPTH = 3; // the holder, its ops, a command
const UNMAPPED = 65534; // proc(5), overflowuid: an owner that the user namespace does not map
const EXECUTABLE = 0o111;

/** Whether an operation is for keys of this key's type. */
export function isOperationFor(op: string, jwk: Jwk): boolean {
  return HOLDER_OPERATIONS.get(op)?.family.serves(jwk) === true;
}

/** The only alg that an operation serves, undefined if it serves all algs of its family. */
export function algorithmOf(op: string): string | undefined {
  return HOLDER_OPERATIONS.get(op)?.alg;
}

/**
 * Reads and checks a holder file; undefined if there is no file.
 *
 * @throws KeystoreError `key` if it is damaged or another key's, or if other users can read or write it
 */
export function readHolder(path: string, kid: string): Holder | undefined {
  const file = readSmallFile(path);
  if (file === undefined) return undefined;
  refuseOpenMode(path, "holder file", file);
  refuseForeign(path, `holder file ${path}`, file.stat);
  const fail: Fail = (reason) => {
    const hint = "fix it, or move it away and import the key with --holder again";
    return keyError(`holder file ${path} is damaged: it ${reason}`, hint);
  };
  const value = parseJson(file.bytes, JSON_DEPTH, fail);
  if (!isObject(value)) throw fail("is not a JSON object");
  const unknown = Object.keys(value).find((name) => !["kid", "ops", "timeout_ms"].includes(name));
  if (unknown !== undefined) throw fail(`has a member other than kid, ops and timeout_ms: "${printable(unknown, 32)}"`);
  if (member(value, "kid") !== kid) throw fail("has another kid than its file name says");
  const ops = member(value, "ops");
  if (!isObject(ops) || Object.keys(ops).length === 0) throw fail("has no ops");
  const timeout = member(value, "timeout_ms");
  if (timeout === undefined) return { kid, ops: parseOps(ops, fail) };
  if (typeof timeout !== "number" || !Number.isInteger(timeout) || timeout < 1 || timeout > TIMEOUT.max) {
    throw fail(`has a timeout_ms that is not an integer from 1 to ${TIMEOUT.max}`);
  }
  return { kid, ops: parseOps(ops, fail), timeout };
}

function parseOps(ops: JsonObject, fail: Fail): ReadonlyMap<string, Command> {
  return new Map(
    Object.entries(ops).map(([op, argv]) => {
      if (!HOLDER_OPERATIONS.has(op)) {
        throw fail(`has an operation other than ${HOLDER_OPERATION_NAMES.join(", ")}: "${printable(op, 32)}"`);
      }
      if (!Array.isArray(argv) || argv.length > MAX_WORDS || !argv.every((arg) => typeof arg === "string")) {
        throw fail(`has a command for ${op} that is not a list of at most ${MAX_WORDS} strings`);
      }
      const [program, ...args] = argv;
      if (program?.startsWith("/") !== true) throw fail(`has a command for ${op} without an absolute path`);
      return [op, [program, ...args]] as const;
    }),
  );
}

/** The content of a holder file: {@link readHolder} reads it. */
export function holderFile({ kid, ops, timeout }: Holder): string {
  const file = { kid, ops: Object.fromEntries(ops), ...(timeout === undefined ? {} : { timeout_ms: timeout }) };
  return `${JSON.stringify(file)}\n`;
}

/** The most ms that one operation of a holder may take. */
export function timeLimit({ timeout }: Holder): number {
  return timeout ?? TIMEOUT.default;
}

/**
 * The private key of a holder.
 *
 * @param jwk its checked public key
 * @throws KeystoreError `key` if the holder has operations of another type of key
 */
export function holderKey(holder: Holder, jwk: Jwk): PrivateKey {
  const { kid, ops } = holder;
  const wrong = [...ops.keys()].find((op) => !isOperationFor(op, jwk));
  if (wrong !== undefined) {
    const message = `the holder of key ${kid} has the operation ${wrong}, which is not for ${typeName(jwk)} keys`;
    throw keyError(message, `remove ${wrong} from its holder file`);
  }
  return {
    kid,
    jwk: asPrivate(jwk, [...ops.keys()]),
    holder: true,
    perform: async (wrapped) => {
      const { name, input, answerBytes } = familyFor(jwk).ofHolder(wrapped);
      return await runOperation(holder, name, input, answerBytes);
    },
  };
}

/**
 * The key with the usage members of a private key. If its holder has only one operation, and that serves only one alg,
 * the key is for that alg alone. The `use` and `key_ops` of a public key are for wrapping, so they are dropped.
 */
function asPrivate(jwk: Jwk, [op, ...more]: readonly string[]): Jwk {
  const { use: _use, key_ops: _ops, alg, ...key } = publicJwk(jwk);
  const only = op === undefined || more.length > 0 ? undefined : algorithmOf(op);
  const usable = only ?? (severalOperations(jwk) ? undefined : alg);
  return usable === undefined ? key : { ...key, alg: usable };
}

/** Whether holders of keys of this type can have more than one operation: then the key's `alg` does not tell which. */
export function severalOperations(jwk: Jwk): boolean {
  return familyFor(jwk).operations.length > 1;
}

/** Does one operation. @param expected bytes that the answer must have, if the operation tells */
async function runOperation(holder: Holder, op: string, input: Buffer, expected?: number): Promise<Buffer> {
  const [program, ...args] = usableCommand(holder, op);
  const { answer, failure, lastLines } = await runCommand(program, args, input, timeLimit(holder));
  const wrong = failure ?? wrongLength(answer, expected);
  if (wrong === undefined) return answer;
  const hint = `run its command for ${op} by hand to see why (ocicrypt-keystore show ${holder.kid} names the program)`;
  throw unusable(holder.kid, program, `${wrong}${lastLines}`, `${hint}, or run ocicrypt-keystore doctor`);
}

function wrongLength({ length }: Buffer, expected: number | undefined): string | undefined {
  if (length === 0) return "answered nothing";
  return expected === undefined || length === expected ? undefined : `answered ${length} bytes, not ${expected}`;
}

/**
 * The command of an operation, with `{kid}` filled in.
 *
 * @throws KeystoreError `unusable` if its program is missing, or other users can write it
 */
export function usableCommand({ kid, ops }: Holder, op: string): Command {
  const fill = (text: string): string => text.replaceAll("{kid}", kid);
  const command = ops.get(op);
  if (command === undefined) throw new Error("this holder does not have that operation");
  const [first, ...args] = command;
  const program = fill(first);
  let stat: Stats | undefined;
  try {
    stat = statSync(program, { throwIfNoEntry: false });
  } catch {
    // a folder of its path cannot be entered, or is not a folder
  }
  const again = "import the key with another command: --holder OPERATION -- COMMAND";
  if (stat === undefined) throw unusable(kid, program, "does not exist", `install it, or ${again}`);
  if (!stat.isFile() || (stat.mode & EXECUTABLE) === 0) {
    throw unusable(kid, program, "is not executable", `${chmodHint(program, "+x")}, or ${again}`);
  }
  if (isNoexec(program)) {
    throw unusable(kid, program, "is on a mount with noexec", `move it to a mount that runs programs, then ${again}`);
  }
  refuseForeign(program, `the holder of key ${kid}, ${program},`, stat);
  return [program, ...args.map(fill)];
}

function unusable(kid: string, program: string, what: string, hint: string): KeystoreError {
  return unusableError(`the holder of key ${kid}, ${program}, ${what}`, hint);
}

/** Refuses a file that a user other than root and the caller can change: it decides what runs as the caller. */
function refuseForeign(path: string, what: string, stat: Stats): void {
  const hostRoot = stat.uid === UNMAPPED && inUserNamespace(); // rootless podman does not map the host's root
  if (stat.uid !== 0 && stat.uid !== process.geteuid?.() && !hostRoot) {
    const message = `${what} is owned by uid ${stat.uid}, which could replace it`;
    throw unusableError(message, `run chown root ${path}, or run this as that user`);
  }
  if ((stat.mode & 0o022) === 0) return;
  throw unusableError(`${what} can be written by others (mode ${shownMode(stat)})`, chmodHint(path, "go-w"));
}
