// Reading small files: bounded, never blocking. Exec mode loads this and nothing that writes.

import { closeSync, constants, fstatSync, openSync, readdirSync, readSync, statSync, type Stats } from "node:fs";
import { errorCode, keyError, KeystoreError, storeError } from "../errors.ts";
import { isReadOnly, systemWithoutModes } from "./mount.ts";

/** The most bytes that a file of the store may have. */
export const MAX_FILE = 64 * 1024;

/** A file's bytes, with the fstat of the descriptor that they were read from. */
export interface SmallFile {
  readonly bytes: Buffer;
  readonly stat: Stats;
}

/**
 * Reads a regular file of at most `max` bytes. A FIFO or a device does not block it.
 *
 * @returns undefined if there is no file at `path`
 * @throws KeystoreError `store` if it cannot be read, is not a regular file or is too large
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
    if (stat.size > max)
      throw storeError(`${path} is larger than ${max / 1024} KiB`, "too large for such a file: replace or remove it");
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

/**
 * Refuses a secret file that the caller owns and others can read, as ssh does. The mode of a file that somebody else
 * owns is the administrator's choice, and so is one that the caller cannot change: on a read-only mount, or on a file
 * system without modes.
 */
export function refuseOpenMode(path: string, what: string, { stat }: SmallFile): void {
  if (stat.uid !== process.geteuid?.() || (stat.mode & 0o077) === 0) return;
  if (isReadOnly(path) || systemWithoutModes(path) !== undefined) return;
  throw keyError(`${what} ${path} can be read by others (mode ${shownMode(stat)})`, `run chmod 600 ${path}`);
}

/** A file's mode, written as for chmod. */
export function shownMode({ mode }: Stats): string {
  return (mode & 0o7777).toString(8).padStart(4, "0");
}

/** The names in a folder, sorted; none if there is no folder. @throws KeystoreError `store` if it cannot be read */
export function listFolder(path: string): string[] {
  try {
    return readdirSync(path).toSorted();
  } catch (error) {
    if (errorCode(error) === "ENOENT") return [];
    throw unreadable(path, error);
  }
}

/** The stat of what is at `path`, undefined if there is nothing. @throws KeystoreError `store` if that is not known */
export function statOf(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch (error) {
    if (errorCode(error) === "ENOENT") return undefined;
    throw unreadable(path, error);
  }
}

const REASONS: Readonly<Record<string, string>> = {
  EACCES: "let this user read it (see ls -l), or run this as its owner",
  ENOTDIR: "a file is in the place of a folder: move it away",
};

function unreadable(path: string, error: unknown): KeystoreError {
  const code = errorCode(error) ?? "unknown error";
  return storeError(`cannot read ${path}: ${code}`, REASONS[code] ?? "check the path and the disk");
}
