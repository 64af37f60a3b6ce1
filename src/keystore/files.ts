// Reading and writing the small files of a key store, and an image's documents: bounded, never blocking, crash-safe.

import { closeSync, constants, fstatSync, fsyncSync, linkSync, mkdirSync, openSync, readdirSync, readSync, renameSync, rmSync, unlinkSync, writeSync, type Stats } from "node:fs";
import { randomBytes } from "node:crypto";
import { dirname, join } from "node:path";
import { errorCode, KeystoreError } from "../errors.ts";

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
    if (!stat.isFile()) throw new KeystoreError("store", `${path} is not a regular file`, "put a file there, or remove it");
    if (stat.size > max) throw new KeystoreError("store", `${path} is larger than ${max / 1024} KiB`, "it cannot be what it should be: replace or remove it");
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
  throw new KeystoreError("key", `${what} ${path} can be read by others (mode ${shownMode(stat)})`, `run chmod 600 ${path}`);
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
  return new KeystoreError("store", `cannot read ${path}: ${code}`, hint);
}

/** How a file is put in place: `create` fails with EEXIST where there is one. */
export type WriteMode = "create" | "replace";

/**
 * Writes a file so that a crash at any instant leaves the old one or the new one: temporary file beside it, fsync,
 * rename (or link), fsync of the folder.
 */
export function writeFileSafely(path: string, data: string | Buffer, permissions: number, mode: WriteMode, max = MAX_FILE): void {
  const bytes = Buffer.from(data);
  if (bytes.length > max) throw new KeystoreError("store", `${path} would be larger than ${max / 1024} KiB, too large to be read again`, "it was not written");
  const temporary = join(dirname(path), `.tmp-${process.pid}-${randomBytes(8).toString("hex")}`);
  try {
    const fd = openSync(temporary, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, permissions);
    try {
      for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    if (mode === "replace") {
      renameSync(temporary, path);
    } else {
      linkSync(temporary, path);
      unlinkSync(temporary);
    }
  } catch (error) {
    try {
      unlinkSync(temporary);
    } catch {
      // it was not made, or is in place
    }
    throw error;
  }
  syncFolder(dirname(path));
}

/** Removes a file and lets the disk know of it; none there is fine. */
export function removeFile(path: string): void {
  rmSync(path, { force: true });
  syncFolder(dirname(path));
}

/** Moves a file to another folder: in both for a moment, never in none. */
export function moveFile(from: string, to: string): void {
  renameSync(from, to);
  syncFolder(dirname(to));
  syncFolder(dirname(from));
}

/** Makes a folder, parents included, and lets the disk know of it. One that is there stays as it is. */
export function makeFolder(path: string, permissions: number): void {
  if (mkdirSync(path, { recursive: true, mode: permissions }) !== undefined) syncFolder(dirname(path));
}

/** Lets the disk know of what changed in a folder. */
export function syncFolder(path: string): void {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
