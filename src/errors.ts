// The one error type that reaches a person, and the one line it is shown as.

/**
 * What went wrong, for programs:
 * `usage` wrong command line · `io` reading or writing failed · `request` not a key provider request ·
 * `annotation` malformed or forbidden · `foreign` no key of the store opens it · `key` a key cannot be used ·
 * `recipient` nobody of that name · `store` the store is missing, damaged or refuses the change · `image` an image is damaged or refuses the change ·
 * `denied` a server does not do this · `busy` it has too much to do · `late` it took too long.
 */
export type ErrorCode = "usage" | "io" | "request" | "annotation" | "foreign" | "key" | "recipient" | "store" | "image" | "denied" | "busy" | "late";

/** 1 any failure, 2 wrong usage, 3 a well-formed annotation that no usable key of the store opens. */
export type ExitCode = 1 | 2 | 3;

/** An error a person can act on. Its message and hint hold no secret and may be shown as they are. */
export class KeystoreError extends Error {
  readonly code: ErrorCode;
  readonly hint: string;
  readonly exitCode: ExitCode;

  /**
   * @param message what happened, lower case, no full stop
   * @param hint the way out: a command or setting that mends it
   */
  constructor(code: ErrorCode, message: string, hint: string, exitCode: ExitCode = code === "usage" ? 2 : 1) {
    super(message);
    this.name = "KeystoreError";
    this.code = code;
    this.hint = hint;
    this.exitCode = exitCode;
  }
}

const MAX_LINE = 2048; // characters on stderr: a client shows the whole line to its user

/** The single line shown for any error: `ocicrypt-keystore: WHAT; HINT`, at most 2,048 characters. */
export function errorLine(error: unknown): string {
  const { message, hint } = asKeystoreError(error);
  return printable(`ocicrypt-keystore: ${message}; ${hint}`, MAX_LINE);
}

/** Any thrown value as our error. A defect of ours names its place, never its message, which could quote a secret. */
export function asKeystoreError(error: unknown): KeystoreError {
  if (error instanceof KeystoreError) return error;
  const code = errorCode(error);
  if (code !== undefined && error instanceof Error && "syscall" in error) {
    const path = "path" in error && typeof error.path === "string" ? ` ${error.path}` : "";
    return new KeystoreError("io", `${String(error.syscall)}${path} failed: ${code}`, "check that path, its permissions and free space");
  }
  const name = error instanceof Error ? error.name : typeof error;
  const frames = error instanceof Error ? (error.stack ?? "").replace(error.message, "") : ""; // the stack repeats the message
  const place = /\n\s+at (.{1,200})/.exec(frames)?.[1] ?? "?";
  return new KeystoreError("io", `internal error: ${name} at ${place}`, "please report it");
}

/** The error as exit code 3: a key that would open the annotation cannot be used. */
export function asUnusable(error: unknown): unknown {
  return error instanceof KeystoreError ? new KeystoreError(error.code, error.message, error.hint, 3) : error;
}

/** The `code` of a system error (`ENOENT`, …), if it has one. */
export function errorCode(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}

/** Text that cannot move a terminal's cursor, reorder or break a line: C0, C1, bidi and separators as \\u escapes, cut to `max`. */
export function printable(text: string, max: number): string {
  const safe = text.replace(
    // oxlint-disable-next-line no-control-regex -- these are what must not pass
    /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
  return safe.length <= max ? safe : `${safe.slice(0, max - 1).replace(/[\ud800-\udbff]$/, "")}…`; // never half of a pair
}
