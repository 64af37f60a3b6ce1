// A private key that lies elsewhere, in a KMS, an HSM or a TPM: each operation is asked of a command.

import { statSync, type Stats } from "node:fs";
import { keyError, KeystoreError, printable, unusableError } from "../errors.ts";
import { readSmallFile, refuseOpenMode, shownMode } from "../fs/read.ts";
import { isObject, member, parseJson, type JsonObject, type Fail } from "../json.ts";
import { familyFor, HOLDER_OPERATIONS } from "../jwe/alg/algorithms.ts";
import type { PrivateKey } from "../jwe/key.ts";
import { publicJwk, typeName, type Jwk } from "../jwk/jwk.ts";
import { runCommand } from "./command.ts";
import { inUserNamespace } from "../fs/user-namespace.ts";

/** The names of what a holder can be asked. */
export const HOLDER_OPERATION_NAMES: readonly string[] = [...HOLDER_OPERATIONS.keys()];

/** A command: the absolute path of its program, and its arguments. */
export type Command = readonly [program: string, ...args: string[]];

/** Who holds a private key: a command for each operation that it can do. */
export interface Holder {
  readonly kid: string;
  readonly ops: ReadonlyMap<string, Command>;
  /** ms that a command may take, where it is not 30 s. */
  readonly timeout?: number;
}

/** Words that a command may have, its program included. */
export const MAX_WORDS = 64;

const TIMEOUT = { default: 30_000, max: 600_000 } as const; // ms
const JSON_DEPTH = 3; // the holder, its ops, a command
const UNMAPPED = 65534; // proc(5), overflowuid: an owner whom a user namespace does not know
const EXECUTABLE = 0o111;

/** Whether keys of this one's type can be asked for an operation. */
export function isOperationFor(op: string, jwk: Jwk): boolean {
  return HOLDER_OPERATIONS.get(op)?.family.serves(jwk) === true;
}

/** The only alg that an operation serves, undefined where it serves all of its family. */
export function algorithmOf(op: string): string | undefined {
  return HOLDER_OPERATIONS.get(op)?.alg;
}

/**
 * A holder file, checked; undefined if there is none.
 *
 * @throws KeystoreError `key` if it is damaged, another key's, or somebody else's to read or to write
 */
export function readHolder(path: string, kid: string): Holder | undefined {
  const file = readSmallFile(path);
  if (file === undefined) return undefined;
  refuseOpenMode(path, "holder file", file);
  refuseForeign(path, `holder file ${path}`, file.stat);
  const fail: Fail = (reason) => keyError(`holder file ${path} is damaged: it ${reason}`, "mend it, or move it away and import the key with its holder again");
  const value = parseJson(file.bytes, JSON_DEPTH, fail);
  if (!isObject(value)) throw fail("is not a JSON object");
  const stray = Object.keys(value).find((name) => !["kid", "ops", "timeout_ms"].includes(name));
  if (stray !== undefined) throw fail(`has a member other than kid, ops and timeout_ms: "${printable(stray, 32)}"`);
  if (member(value, "kid") !== kid) throw fail("has another kid than its name says");
  const ops = member(value, "ops");
  if (!isObject(ops) || Object.keys(ops).length === 0) throw fail("has no ops");
  const timeout = member(value, "timeout_ms");
  if (timeout === undefined) return { kid, ops: parseOps(ops, fail) };
  if (typeof timeout !== "number" || !Number.isInteger(timeout) || timeout < 1 || timeout > TIMEOUT.max) throw fail(`has a timeout_ms that is not 1 to ${TIMEOUT.max}`);
  return { kid, ops: parseOps(ops, fail), timeout };
}

function parseOps(ops: JsonObject, fail: Fail): ReadonlyMap<string, Command> {
  return new Map(
    Object.entries(ops).map(([op, argv]) => {
      if (!HOLDER_OPERATIONS.has(op)) throw fail(`has an operation other than ${HOLDER_OPERATION_NAMES.join(", ")}: "${printable(op, 32)}"`);
      if (!Array.isArray(argv) || argv.length > MAX_WORDS || !argv.every((arg) => typeof arg === "string")) throw fail(`has a command of ${op} that is not a list of at most ${MAX_WORDS} strings`);
      const [program, ...args] = argv;
      if (program?.startsWith("/") !== true) throw fail(`has a command of ${op} without an absolute path`);
      return [op, [program, ...args]] as const;
    }),
  );
}

/** What {@link readHolder} reads. */
export function holderFile({ kid, ops, timeout }: Holder): string {
  return `${JSON.stringify({ kid, ops: Object.fromEntries(ops), ...(timeout === undefined ? {} : { timeout_ms: timeout }) })}\n`;
}

/** ms that one operation of a holder may take. */
export function timeLimit({ timeout }: Holder): number {
  return timeout ?? TIMEOUT.default;
}

/**
 * The private key that a holder has.
 *
 * @param jwk its checked public key
 * @throws KeystoreError `key` if the holder's operations are for another type of key
 */
export function holderKey(holder: Holder, jwk: Jwk): PrivateKey {
  const { kid, ops } = holder;
  const wrong = [...ops.keys()].find((op) => !isOperationFor(op, jwk));
  if (wrong !== undefined) throw keyError(`the holder of key ${kid} has ${wrong}, which is not for ${typeName(jwk)} keys`, "take it out of the holder file");
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

/** The key as far as its holder can use it: with one operation of one algorithm it is for that algorithm alone. The usage that the public half names is the other side's. */
function asPrivate(jwk: Jwk, [op, ...more]: readonly string[]): Jwk {
  const { use: _use, key_ops: _ops, alg, ...key } = publicJwk(jwk);
  const only = op === undefined || more.length > 0 ? undefined : algorithmOf(op);
  const usable = only ?? (severalOperations(jwk) ? undefined : alg);
  return usable === undefined ? key : { ...key, alg: usable };
}

/** Whether holders of keys of this type can be asked for more than one operation: then its alg tells nothing of them. */
export function severalOperations(jwk: Jwk): boolean {
  return familyFor(jwk).operations.length > 1;
}

/** One operation. @param due bytes that the answer must have, where the operation tells */
async function runOperation(holder: Holder, op: string, input: Buffer, due?: number): Promise<Buffer> {
  const [program, ...args] = usableCommand(holder, op);
  const { answer, failure, lastLines } = await runCommand(program, args, input, timeLimit(holder));
  const wrong = failure ?? (answer.length === 0 ? "answered nothing" : due !== undefined && answer.length !== due ? `answered ${answer.length} bytes, not ${due}` : undefined);
  if (wrong === undefined) return answer;
  throw unusable(holder.kid, program, `${wrong}${lastLines}`, `run its command for ${op} by hand to see why (ocicrypt-keystore show ${holder.kid} names it), or ocicrypt-keystore doctor`);
}

/** The command of an operation with `{kid}` filled in. @throws KeystoreError `key` (exit code 3) if its program is not there, or somebody else's to write */
export function usableCommand({ kid, ops }: Holder, op: string): Command {
  const fill = (text: string): string => text.replaceAll("{kid}", kid);
  const command = ops.get(op);
  if (command === undefined) throw new Error("an operation that this holder does not have");
  const [first, ...args] = command;
  const program = fill(first);
  let stat: Stats | undefined;
  try {
    stat = statSync(program, { throwIfNoEntry: false });
  } catch {
    // a folder of its path cannot be entered, or is none
  }
  if (stat === undefined) throw unusable(kid, program, "is not there", "install it, or import the key with another command: --holder OPERATION -- COMMAND");
  if (!stat.isFile() || (stat.mode & EXECUTABLE) === 0) throw unusable(kid, program, "is no program", "give its file the right to be executed, or name another");
  refuseForeign(program, `the holder of key ${kid}, ${program},`, stat);
  return [program, ...args.map(fill)];
}

function unusable(kid: string, program: string, what: string, hint: string): KeystoreError {
  return unusableError(`the holder of key ${kid}, ${program}, ${what}`, hint);
}

/** Only root and the caller may say what runs as the caller. */
function refuseForeign(path: string, what: string, stat: Stats): void {
  const trusted = stat.uid === 0 || stat.uid === process.geteuid?.() || (stat.uid === UNMAPPED && inUserNamespace()); // rootless podman: the host's root is not mapped
  if (!trusted) throw unusableError(`${what} belongs to uid ${stat.uid}, who could make it anything`, `run chown root ${path}, or as its owner`);
  if ((stat.mode & 0o022) !== 0) throw unusableError(`${what} can be written by others (mode ${shownMode(stat)})`, `run chmod go-w ${path}`);
}
