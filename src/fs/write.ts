// Writing small files so that a crash at any instant leaves the old one or the new one.

import { AsyncLocalStorage } from "node:async_hooks";
import { randomBytes } from "node:crypto";
import {
  closeSync, constants, existsSync, fchmodSync, fchownSync, fstatSync, fsyncSync, linkSync, lstatSync, mkdirSync,
  openSync, renameSync, rmdirSync, statSync, unlinkSync, writeSync, type Stats,
} from "node:fs";
import { dirname, join } from "node:path";
import { errorCode, storeError } from "../errors.ts";
import { MAX_FILE } from "./read.ts";

/** How a file is put in place: `create` fails with EEXIST where there is one. */
export type WriteMode = "create" | "replace";

/**
 * Who may read a file that is written. A number is the mode of a new file, less the umask. In a folder of the store
 * the folder says it, whatever the umask: `shared` is as readable as the folder, `secret` is for the owner alone, and
 * both belong to the folder's owner where the caller may give files away.
 */
export type Access = number | "shared" | "secret";

/** Called right before a file is put in place, moved or removed. It throws where that must not happen any longer. */
export const writeGuard = new AsyncLocalStorage<() => void>();

/**
 * Writes a file so that a crash at any instant leaves the old one or the new one: temporary file beside it, fsync,
 * rename (or link), fsync of the folder. A file that is replaced keeps its mode and owner, unless a number as `access`
 * is for the owner alone.
 */
export function writeFileSafely(path: string, data: string | Buffer, access: Access, mode: WriteMode, max = MAX_FILE): void {
  const bytes = Buffer.from(data);
  if (bytes.length > max) throw storeError(`${path} would be larger than ${max / 1024} KiB, too large to be read again`, "it was not written");
  const temporary = join(dirname(path), `.tmp-${process.pid}-${randomBytes(8).toString("hex")}`);
  const former = mode === "replace" ? lstatSync(path, { throwIfNoEntry: false }) : undefined;
  try {
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL;
    const fd = naming(path, () => openSync(temporary, flags, typeof access === "number" ? access : 0o600));
    try {
      naming(path, () => {
        for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
        setAccess(fd, path, access, former?.isFile() === true ? former : undefined);
        fsyncSync(fd);
      });
    } finally {
      closeSync(fd);
    }
    writeGuard.getStore()?.();
    naming(path, () => {
      if (mode === "replace") return renameSync(temporary, path);
      linkSync(temporary, path);
      return unlinkSync(temporary);
    });
  } catch (error) {
    quietly(() => unlinkSync(temporary)); // it was not made, or is in place
    throw error;
  }
  try {
    syncFolder(dirname(path));
  } catch (error) {
    if (former === undefined) quietly(() => unlinkSync(path)); // what is reported as failed can be done again
    throw error;
  }
}

/** Gives a new file the mode and owner that {@link writeFileSafely} promises, as far as the caller may. */
function setAccess(fd: number, path: string, access: Access, former: Stats | undefined): void {
  const secret = access === "secret" || (typeof access === "number" && (access & 0o077) === 0);
  const folder = typeof access === "string" ? statSync(dirname(path)) : undefined;
  const model = secret && typeof access === "number" ? undefined : (former ?? folder);
  if (model === undefined) return;
  const isModels = (made = fstatSync(fd)): boolean => made.uid === model.uid && made.gid === model.gid;
  if (!isModels() && !permitted(() => fchownSync(fd, model.uid, model.gid))) permitted(() => fchownSync(fd, -1, model.gid));
  const fresh = folder === undefined ? fstatSync(fd).mode & 0o777 : secret ? 0o600 : (folder.mode & 0o644) | 0o600;
  const wanted = former === undefined ? fresh : former.mode & 0o777;
  // The caller's own secret is refused where others can read it; another owner's is as an administrator left it.
  const given = isModels() && model.uid !== process.geteuid?.();
  const allowed = secret && !given ? wanted & 0o700 : wanted;
  if ((fstatSync(fd).mode & 0o777) !== allowed) permitted(() => fchmodSync(fd, allowed));
}

/** Whether a change of owner or mode was permitted, by the caller's rights and the file system. Another failure is thrown. */
function permitted(change: () => void): boolean {
  try {
    change();
    return true;
  } catch (error) {
    if (["EPERM", "EINVAL", "ENOTSUP", "EOPNOTSUPP"].includes(errorCode(error) ?? "")) return false;
    throw error;
  }
}

/** Removes a file and fsyncs its folder; none there is fine. */
export function removeFile(path: string): void {
  writeGuard.getStore()?.();
  try {
    unlinkSync(path);
  } catch (error) {
    if (errorCode(error) !== "ENOENT") throw error;
  }
  syncFolder(dirname(path));
}

/** Moves a file to another folder: in both for a moment, never in none. */
export function moveFile(from: string, to: string): void {
  writeGuard.getStore()?.();
  renameSync(from, to);
  syncFolder(dirname(to));
  syncFolder(dirname(from));
}

/** Makes a folder and the parents it lacks, and fsyncs the parent of each. One that is there stays as it is. */
export function makeFolder(path: string, permissions: number): void {
  if (existsSync(path)) return;
  makeFolder(dirname(path), permissions);
  try {
    mkdirSync(path, permissions);
  } catch (error) {
    if (errorCode(error) !== "EEXIST" || !existsSync(path)) throw error; // another writer made it just now
  }
  try {
    syncFolder(dirname(path));
  } catch (error) {
    quietly(() => rmdirSync(path)); // or the next attempt would take it for durable
    throw error;
  }
}

/** Makes what changed in a folder durable. */
export function syncFolder(path: string): void {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    naming(path, () => fsyncSync(fd));
  } finally {
    closeSync(fd);
  }
}

/** The error of a system call on a descriptor or on a temporary file does not say which file was to be written. */
function naming<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw error instanceof Error && errorCode(error) !== undefined ? Object.assign(error, { path }) : error;
  }
}

function quietly(cleanUp: () => void): void {
  try {
    cleanUp();
  } catch {
    // the error that led here is the one to tell
  }
}
