// The error type that is shown to users, and the one line that it is shown as.

/** 1 any failure, 2 wrong usage, 3 a well-formed annotation that no usable key of the store opens. */
export type ExitCode = 1 | 2 | 3;

/** What went wrong, for programs, with the exit code that it means. */
const KINDS = {
  /** Wrong command line. */
  usage: 2,
  /** Reading or writing failed. */
  io: 1,
  /** Not a key provider request. */
  request: 1,
  /** An annotation that is malformed or forbidden. */
  annotation: 1,
  /** No key of the store opens the annotation. */
  foreign: 3,
  /** A key that would open it cannot be used: its mode, damage, its lock, its holder. */
  unusable: 3,
  /** A key that is refused. */
  key: 1,
  /** No key has that name or kid, or it cannot be a recipient. */
  recipient: 1,
  /** The store is missing, damaged or refuses the change. */
  store: 1,
  /** An image is damaged or refuses the change. */
  image: 1,
  /** A server does not do this. */
  denied: 1,
  /** A server has too much to do. */
  busy: 1,
  /** The request took too long. */
  late: 1,
} as const satisfies Record<string, ExitCode>;

/** The kind of an error. */
export type ErrorCode = keyof typeof KINDS;

/** An error that a user can act on. Its message and hint hold no secret and may be shown as they are. */
export class KeystoreError extends Error {
  readonly code: ErrorCode;
  readonly hint: string;

  /**
   * @param message what happened, lower case, no full stop
   * @param hint a command or setting that fixes it
   */
  constructor(code: ErrorCode, message: string, hint: string) {
    super(message);
    this.name = "KeystoreError";
    this.code = code;
    this.hint = hint;
  }

  get exitCode(): ExitCode {
    return KINDS[this.code];
  }
}

type Make = (message: string, hint: string) => KeystoreError;

function ofKind(code: ErrorCode): Make {
  return (message, hint) => new KeystoreError(code, message, hint);
}

export const usageError = ofKind("usage");
export const ioError = ofKind("io");
export const requestError = ofKind("request");
export const annotationError = ofKind("annotation");
export const foreignError = ofKind("foreign");
export const unusableError = ofKind("unusable");
export const keyError = ofKind("key");
export const recipientError = ofKind("recipient");
export const storeError = ofKind("store");
export const imageError = ofKind("image");
export const deniedError = ofKind("denied");
export const busyError = ofKind("busy");
export const lateError = ofKind("late");

const MAX_LINE = 2048; // characters on stderr: a client shows the whole line to its user

/** The single line shown for any error: `ocicrypt-keystore: WHAT; HINT`, at most 2,048 characters. */
export function errorLine(error: unknown): string {
  const { message, hint } = asKeystoreError(error);
  return printable(`ocicrypt-keystore: ${message}; ${hint}`, MAX_LINE);
}

const SYSTEM_HINTS: ReadonlyMap<string, string> = new Map([
  ["ENOSPC", "free some space there"],
  ["EDQUOT", "free some space: this user's quota is used up"],
  ["EROFS", "that file system is mounted read-only: mount it to write, or name another path"],
  ["EPERM", "the file system or an attribute of the file (see lsattr) forbids it, or only its owner may do it"],
  ["EACCES", "let this user change it (see ls -l), or run this as its owner"],
  ["EISDIR", "that is a folder: name a file"],
]);

/**
 * Any thrown value as a KeystoreError. An unexpected error is shown with its place in the code and without its message,
 * which could quote a secret.
 */
export function asKeystoreError(error: unknown): KeystoreError {
  if (error instanceof KeystoreError) return error;
  const code = errorCode(error);
  if (code !== undefined && error instanceof Error && "syscall" in error) {
    const path = "path" in error && typeof error.path === "string" ? ` ${error.path}` : "";
    const message = `${String(error.syscall)}${path} failed: ${code}`;
    return ioError(message, SYSTEM_HINTS.get(code) ?? "check that path, its permissions and the free space");
  }
  const name = error instanceof Error ? error.name : typeof error;
  // The stack repeats the message.
  const frames = error instanceof Error ? (error.stack ?? "").replace(error.message, "") : "";
  const place = /\n\s+at (.{1,200})/.exec(frames)?.[1] ?? "?";
  return ioError(`internal error: ${name} at ${place}`, "please report it");
}

/** The error as exit code 3: a key that would open the annotation cannot be used. */
export function asUnusable(error: unknown): unknown {
  return error instanceof KeystoreError && error.exitCode !== 3 ? unusableError(error.message, error.hint) : error;
}

/** The `code` of a system error (`ENOENT`, …), if it has one. */
export function errorCode(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}

const LONE_SURROGATE = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/;
// oxlint-disable-next-line no-control-regex -- control characters are what is replaced
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/;
const UNSAFE = new RegExp(`${CONTROL.source}|${LONE_SURROGATE.source}`, "g");

/**
 * Text that cannot move a terminal's cursor and cannot reorder or break a line: C0, C1, bidirectional controls and
 * separators become \\u escapes. It is cut to `max` characters.
 */
export function printable(text: string, max: number): string {
  const safe = text.replace(UNSAFE, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
  if (safe.length <= max) return safe;
  return `${safe.slice(0, max - 1).replace(/[\ud800-\udbff]$/, "")}…`; // never half of a surrogate pair
}

/** A number with its noun: `1 name`, `2 names`; the words may hold a verb. */
export function count(number: number, one: string, several: string): string {
  return `${number} ${number === 1 ? one : several}`;
}
