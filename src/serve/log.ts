// What serve says of each request: a line on standard error, and a record in the audit file. Never contents.

import { constants } from "node:fs";
import { open, type FileHandle } from "node:fs/promises";
import { dirname } from "node:path";
import { errorCode, ioError, KeystoreError, printable, type ErrorCode } from "../errors.ts";
import { syncFolder } from "../fs/write.ts";

/** What there is to say of a request. */
export interface Entry {
  /** `keywrap` or `keyunwrap`. */
  readonly op: string;
  /** The provider's name, where the request or the command line tells it. */
  readonly provider?: string | undefined;
  /** Those it was wrapped for, or the one that opened it; where it failed, those that were looked at. */
  readonly kids: readonly string[];
  readonly result: "ok" | ErrorCode;
  /** From the request to its answer, in ms. */
  readonly ms: number;
  /** The common name in the client's certificate, cut and printable, else the certificate's whole SHA-256 fingerprint, where there is one. */
  readonly client?: string | undefined;
}

/** Characters of what a client or its certificate calls itself. */
export const MAX_NAME = 64;

const MAX_WAITING = 1024; // records in memory while the disk of the audit file hangs
const MAX_UNREAD = 64 * 1024; // bytes of the log that wait in memory for a reader who stalls

/** Writes the line to standard error, unless its reader is far behind: nobody is kept waiting for it, and the memory does not fill. */
export function logLine({ op, provider = "-", kids, result, ms, client }: Entry): void {
  if (process.stderr.writableLength > MAX_UNREAD) return;
  const name = printable(provider, MAX_NAME).replaceAll(" ", "\\u0020"); // the words after it are ours
  const words = [op, name, kids.join(",") || "-", result, `${ms.toFixed(1)} ms`, ...(client === undefined ? [] : [client])];
  process.stderr.write(`${words.join(" ")}\n`);
}

/**
 * A file that gets a JSON line for each request, on the disk before the request is answered. It is opened anew each time, so that it can
 * be moved away; those who wait at the same time share one fsync.
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
    if (this.#waiting.length >= MAX_WAITING) throw ioError(`${MAX_WAITING} records wait to be written to ${this.#path}`, "nothing is answered without it: check its disk");
    const provider = entry.provider && printable(entry.provider, MAX_NAME);
    this.#waiting.push(JSON.stringify({ time: new Date().toISOString(), ...entry, provider, ms: Number(entry.ms.toFixed(1)) }));
    this.#next ??= this.#last = this.#last.catch(() => undefined).then(async () => await this.write());
    await this.#next;
  }

  /** Writes what waits; with nothing waiting it tells whether it could. @throws KeystoreError `io` if it cannot */
  async write(): Promise<void> {
    const lines = this.#waiting;
    this.#waiting = [];
    this.#next = undefined;
    try {
      const { O_APPEND, O_CREAT, O_NONBLOCK, O_RDWR } = constants;
      const file = await open(this.#path, O_RDWR | O_APPEND | O_CREAT | O_NONBLOCK, 0o600);
      try {
        const before = await file.stat();
        if (!before.isFile()) throw ioError(`the audit file ${this.#path} is not a regular file`, "name a file with --audit");
        const torn = before.size > 0 && !(await endsLine(file, before.size)); // by a full disk, or a crash
        await file.appendFile(`${torn ? "\n" : ""}${lines.map((line) => `${line}\n`).join("")}`);
        await file.sync();
        if (before.size === 0) syncFolder(dirname(this.#path));
      } finally {
        await file.close();
      }
    } catch (error) {
      if (error instanceof KeystoreError) throw error;
      throw ioError(`cannot write the audit file ${this.#path}: ${errorCode(error) ?? "unknown error"}`, "nothing is answered without it: make room, or mend its path and mode");
    }
  }
}

async function endsLine(file: FileHandle, size: number): Promise<boolean> {
  const { buffer } = await file.read(Buffer.alloc(1), 0, 1, size - 1);
  return buffer[0] === 0x0a;
}
