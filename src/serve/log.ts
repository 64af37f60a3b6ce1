// Logs each request: a line on standard error, and a record in the audit file. Contents are never logged.

import { constants } from "node:fs";
import { open, type FileHandle } from "node:fs/promises";
import { dirname } from "node:path";
import { errorCode, ioError, KeystoreError, printable, type ErrorCode } from "../errors.ts";
import { syncFolder } from "../fs/write.ts";

/** A log entry of a request. */
export interface Entry {
  /** `keywrap` or `keyunwrap`. */
  readonly op: string;
  /** The provider's name, if the request or the command line tells it. */
  readonly provider?: string | undefined;
  /** The kids that it was wrapped for, or the kid that opened it; if it failed, the kids that were tried. */
  readonly kids: readonly string[];
  readonly result: "ok" | ErrorCode;
  /** From the request to its answer, in ms. */
  readonly ms: number;
  /** The common name in the client's certificate, cut and printable, else the certificate's SHA-256 fingerprint. */
  readonly client?: string | undefined;
}

/** The most characters of a provider's or a client's name. */
export const MAX_NAME = 64;

const MAX_WAITING = 1024; // records in memory while the disk of the audit file hangs
const MAX_UNREAD = 64 * 1024; // bytes of the log that wait in memory for a reader who stalls

/**
 * Writes a line to standard error, unless its reader is far behind: requests do not wait for it, and memory stays
 * bounded.
 */
export function logLine({ op, provider = "-", kids, result, ms, client }: Entry): void {
  if (process.stderr.writableLength > MAX_UNREAD) return;
  const name = printable(provider, MAX_NAME).replaceAll(" ", "\\u0020"); // spaces separate the fields
  const words = [
    op,
    name,
    kids.join(",") || "-",
    result,
    `${ms.toFixed(1)} ms`,
    ...(client === undefined ? [] : [client]),
  ];
  process.stderr.write(`${words.join(" ")}\n`);
}

/**
 * A file that gets a JSON line for each request, which is on the disk before the request is answered. It is opened for
 * each write, so that it can be moved away. Requests that wait at the same time share one fsync.
 */
export class AuditFile {
  readonly #path: string;
  #waiting: string[] = [];
  #next: Promise<void> | undefined;
  #last: Promise<void> = Promise.resolve();

  constructor(path: string) {
    this.#path = path;
  }

  /** Appends a record. @throws KeystoreError `io` if it is not on the disk */
  async append(entry: Entry): Promise<void> {
    if (this.#waiting.length >= MAX_WAITING) {
      const message = `${MAX_WAITING} records wait to be written to ${this.#path}`;
      throw ioError(message, "no request is answered without its record: check the disk of the audit file");
    }
    const provider = entry.provider && printable(entry.provider, MAX_NAME);
    const record = { time: new Date().toISOString(), ...entry, provider, ms: Number(entry.ms.toFixed(1)) };
    this.#waiting.push(JSON.stringify(record));
    this.#next ??= this.#last = this.#last.catch(() => undefined).then(async () => await this.write());
    await this.#next;
  }

  /**
   * Writes the waiting records. Without any it checks that the file can be written.
   *
   * @throws KeystoreError `io` if it cannot
   */
  async write(): Promise<void> {
    const lines = this.#waiting;
    this.#waiting = [];
    this.#next = undefined;
    try {
      const { O_APPEND, O_CREAT, O_NONBLOCK, O_RDWR } = constants;
      const file = await open(this.#path, O_RDWR | O_APPEND | O_CREAT | O_NONBLOCK, 0o600);
      try {
        const before = await file.stat();
        if (!before.isFile())
          throw ioError(`the audit file ${this.#path} is not a regular file`, "name a file with --audit");
        const torn = before.size > 0 && !(await endsLine(file, before.size)); // after a full disk or a crash
        await file.appendFile(`${torn ? "\n" : ""}${lines.map((line) => `${line}\n`).join("")}`);
        await file.sync();
        if (before.size === 0) syncFolder(dirname(this.#path));
      } finally {
        await file.close();
      }
    } catch (error) {
      if (error instanceof KeystoreError) throw error;
      const message = `cannot write the audit file ${this.#path}: ${errorCode(error) ?? "unknown error"}`;
      const hint = "no request is answered without its record: free disk space, or fix the file's path and mode";
      throw ioError(message, hint);
    }
  }
}

async function endsLine(file: FileHandle, size: number): Promise<boolean> {
  const { buffer } = await file.read(Buffer.alloc(1), 0, 1, size - 1);
  return buffer[0] === 0x0a;
}
