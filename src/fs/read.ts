// Reading small files: bounded, never blocking. Exec mode loads this and nothing that writes.

import { closeSync, constants, fstatSync, openSync, readdirSync, readSync, type Stats } from "node:fs";
import { errorCode, keyError, KeystoreError, storeError } from "../errors.ts";

/** Bytes that a file of the store may have. */
export const MAX_FILE = 64 * 1024;

/** A file's bytes with what fstat said of the opened descriptor. */
export interface SmallFile {
  readonly bytes: Buffer;
  readonly stat: Stats;
}

/**
 * Reads a regular file of at most `max` bytes; a FIFO or a device never blocks it.
 *
 * @returns undefined if there is no such file
 * @throws KeystoreError `store` if it cannot be read or is no such file
 */
export function readSmallFile(path: string, max = MAX_FILE): SmallFile | undefined {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    if (errorCode(error) === "ENOENT") return undefined;
    throw unreadable(path, error);
  }
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) throw storeError(`${path} is not a regular file`, "put a file there, or remove it");
    if (stat.size > max) throw storeError(`${path} is larger than ${max / 1024} KiB`, "it cannot be what it should be: replace or remove it");
    const bytes = Buffer.alloc(stat.size);
    let length = 0;
    while (length < bytes.length) {
      const count = readSync(fd, bytes, length, bytes.length - length, null);
      if (count === 0) break;
      length += count;
    }
    return { bytes: bytes.subarray(0, length), stat };
  } catch (error) {
    throw error instanceof KeystoreError ? error : unreadable(path, error);
  } finally {
    closeSync(fd);
  }
}

/** ssh's rule: a secret that its owner lets others read is refused. Another owner's file is the administrator's choice. */
export function refuseOpenMode(path: string, what: string, { stat }: SmallFile): void {
  if (stat.uid !== process.geteuid?.() || (stat.mode & 0o077) === 0) return;
  throw keyError(`${what} ${path} can be read by others (mode ${shownMode(stat)})`, `run chmod 600 ${path}`);
}

/** A file's mode as chmod takes it. */
export function shownMode({ mode }: Stats): string {
  return (mode & 0o7777).toString(8).padStart(4, "0");
}

/** The names in a folder, sorted; none if it is not there. @throws KeystoreError `store` if it cannot be read */
export function listFolder(path: string): string[] {
  try {
    return readdirSync(path).toSorted();
  } catch (error) {
    if (errorCode(error) === "ENOENT") return [];
    throw unreadable(path, error);
  }
}

function unreadable(path: string, error: unknown): KeystoreError {
  const code = errorCode(error) ?? "unknown error";
  const hint = code === "EACCES" ? "let this user read it (see ls -l), or run as its owner" : "check the path and the disk";
  return storeError(`cannot read ${path}: ${code}`, hint);
}
