// Writing small files so that a crash at any instant leaves the old one or the new one.

import { AsyncLocalStorage } from "node:async_hooks";
import { randomBytes } from "node:crypto";
import {
  closeSync,
  constants,
  existsSync,
  fchmodSync,
  fchownSync,
  fstatSync,
  fsyncSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  renameSync,
  rmdirSync,
  statSync,
  unlinkSync,
  writeSync,
  type Stats,
} from "node:fs";
import { dirname, join } from "node:path";
import { errorCode, storeError } from "../errors.ts";
import { MAX_FILE } from "./read.ts";

/** How a file is put in place: `create` fails with EEXIST if there is a file. */
export type WriteMode = "create" | "replace";

/**
 * Who may read a file that is written. A number is the mode of a new file, less the umask. In the store, the folder
 * decides and the umask does not: a `shared` file is as readable as its folder, a `secret` file is for its owner alone,
 * and both are given to the folder's owner if the caller may do that.
 */
export type Access = number | "shared" | "secret";

// What file systems say that cannot do something: FUSE, NFS, exFAT, 9p.
const NOT_SUPPORTED = new Set(["EINVAL", "ENOTSUP", "EOPNOTSUPP", "ENOSYS"]);
const NO_LINKS = new Set([...NOT_SUPPORTED, "EPERM", "EMLINK"]); // link(2)

/** Called right before a file is put in place, moved or removed. It throws if that is no longer allowed. */
export const writeGuard = new AsyncLocalStorage<() => void>();

/**
 * Writes a file so that a crash at any instant leaves the old file or the new one: temporary file in the same folder,
 * fsync, rename (or link), fsync of the folder. A replaced file keeps its mode and owner, unless `access` is a number
 * that is for the owner alone.
 */
export function writeFileSafely(
  path: string,
  data: string | Buffer,
  access: Access,
  mode: WriteMode,
  max = MAX_FILE,
): void {
  const bytes = Buffer.from(data);
  if (bytes.length > max) {
    const message = `${path} would be larger than ${max / 1024} KiB, too large to be read again`;
    throw storeError(message, "it was not written");
  }
  const temporary = join(dirname(path), `.tmp-${process.pid}-${randomBytes(8).toString("hex")}`);
  const former = mode === "replace" ? lstatSync(path, { throwIfNoEntry: false }) : undefined;
  try {
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL;
    const fd = naming(path, () => openSync(temporary, flags, typeof access === "number" ? access : 0o600));
    try {
      naming(path, () => {
        for (let at = 0; at < bytes.length;) at += writeSync(fd, bytes, at);
        setAccess(fd, path, access, former?.isFile() === true ? former : undefined);
        fsyncSync(fd);
      });
    } finally {
      closeSync(fd);
    }
    writeGuard.getStore()?.();
    naming(path, () => (mode === "replace" ? renameSync(temporary, path) : create(temporary, path)));
  } catch (error) {
    quietly(() => unlinkSync(temporary)); // this fails if it was not made, or was renamed
    throw error;
  }
  try {
    syncFolder(dirname(path));
  } catch (error) {
    if (former === undefined) quietly(() => unlinkSync(path)); // so that the user can repeat the command
    throw error;
  }
}

/**
 * Gives a temporary file its name, which must be free. Without hard links the name is taken first, so after a crash in
 * between an empty file can have it.
 */
function create(temporary: string, path: string): void {
  try {
    linkSync(temporary, path);
  } catch (error) {
    if (NO_LINKS.has(errorCode(error) ?? "")) return createWithoutLink(temporary, path);
    // NFS: the answer to a link that was made was lost, and the repeated call finds the name taken.
    if (errorCode(error) !== "EEXIST" || !isSameFile(temporary, path)) throw error;
  }
  unlinkSync(temporary);
}

function createWithoutLink(temporary: string, path: string): void {
  closeSync(openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600));
  try {
    renameSync(temporary, path);
  } catch (error) {
    quietly(() => unlinkSync(path));
    throw error;
  }
}

function isSameFile(temporary: string, path: string): boolean {
  const [one, other] = [temporary, path].map((file) => lstatSync(file, { throwIfNoEntry: false }));
  return one !== undefined && one.nlink === 2 && one.ino === other?.ino && one.dev === other.dev;
}

/** Gives a new file the mode and owner that {@link writeFileSafely} promises, as far as the caller is allowed to. */
function setAccess(fd: number, path: string, access: Access, former: Stats | undefined): void {
  const secret = access === "secret" || (typeof access === "number" && (access & 0o077) === 0);
  const folder = typeof access === "string" ? statSync(dirname(path)) : undefined;
  const model = secret && typeof access === "number" ? undefined : (former ?? folder);
  if (model === undefined) return;
  const hasOwnerOfModel = (stat = fstatSync(fd)): boolean => stat.uid === model.uid && stat.gid === model.gid;
  if (!hasOwnerOfModel() && !permitted(() => fchownSync(fd, model.uid, model.gid))) {
    permitted(() => fchownSync(fd, -1, model.gid));
  }
  const fresh = folder === undefined ? fstatSync(fd).mode & 0o777 : secret ? 0o600 : (folder.mode & 0o644) | 0o600;
  const wanted = former === undefined ? fresh : former.mode & 0o777;
  // A secret that the caller owns would be refused if others could read it. The mode of another owner's file stays.
  const givenAway = hasOwnerOfModel() && model.uid !== process.geteuid?.();
  const allowed = secret && !givenAway ? wanted & 0o700 : wanted;
  if ((fstatSync(fd).mode & 0o777) !== allowed) permitted(() => fchmodSync(fd, allowed));
}

/** Whether the caller's rights and the file system permitted a change of owner or mode. @throws any other failure */
function permitted(change: () => void): boolean {
  try {
    change();
    return true;
  } catch (error) {
    if (errorCode(error) === "EPERM" || NOT_SUPPORTED.has(errorCode(error) ?? "")) return false;
    throw error;
  }
}

/** Removes a file, if it exists, and fsyncs its folder. */
export function removeFile(path: string): void {
  writeGuard.getStore()?.();
  try {
    unlinkSync(path);
  } catch (error) {
    if (errorCode(error) !== "ENOENT") throw error;
  }
  syncFolder(dirname(path));
}

/** Moves a file to another folder. After a crash it can be in both folders, but it is never in none of them. */
export function moveFile(from: string, to: string): void {
  writeGuard.getStore()?.();
  renameSync(from, to);
  syncFolder(dirname(to));
  syncFolder(dirname(from));
}

/** Makes a folder and its missing parents, and fsyncs the parent of each. A folder that exists stays as it is. */
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
    quietly(() => rmdirSync(path)); // or the next attempt would assume that it is durable
    throw error;
  }
}

/** Makes the changes in a folder durable, if its file system can do that. */
export function syncFolder(path: string): void {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    naming(path, () => fsyncSync(fd));
  } catch (error) {
    if (!NOT_SUPPORTED.has(errorCode(error) ?? "")) throw error; // fsync(2): EINVAL on some file systems
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
    // the error that led here is reported instead
  }
}
