// The writers' lock: one writer at a time. Readers never look at it. A writer that stood still for so long that it lost
// the lock notices that before its next write, and stops.

import { randomUUID } from "node:crypto";
import { utimesSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { errorCode, KeystoreError, storeError } from "../errors.ts";
import { readSmallFile } from "./read.ts";
import { removeFile, writeFileSafely, writeGuard } from "./write.ts";
import { isLeftBehind, lockOwner, thisProcess, type HeldLock, type LockOwner } from "./lock-owner.ts";

const PATIENCE = 30_000; // ms to wait for another writer
const PAUSE = 20; // ms between two attempts
const HEARTBEAT = 60_000; // ms between two touches of a lock that is held long

/**
 * Runs `work` while holding the lock file at `path`. Node has no flock, so the lock is a file. Another writer takes it
 * over if its owner is dead, or has not touched it for 10 minutes. So write.ts checks the lock before it writes, moves
 * or removes a file for `work`. One gap remains: a process that is stopped for 10 minutes between that check and the
 * system call after it still makes that one change when it wakes.
 *
 * @throws KeystoreError `store` if another writer keeps the lock for 30 s, or if this process lost it
 */
export async function withLock<T>(path: string, work: () => T | Promise<T>): Promise<T> {
  const mine = JSON.stringify({ ...thisProcess(), since: new Date().toISOString(), id: randomUUID() });
  await acquire(path, mine);
  const outer = writeGuard.getStore();
  const mustHold = (): void => {
    outer?.();
    if (!isMine(path, mine)) throw takenOver(path);
  };
  const heartbeat = setInterval(() => touch(path, mine), HEARTBEAT).unref(); // it does not keep the process alive
  try {
    const result = await writeGuard.run(mustHold, work);
    if (isLost(path, mine)) throw takenOver(path); // it may have been lost right before the last change
    return result;
  } finally {
    clearInterval(heartbeat);
    release(path, mine);
  }
}

/** The second lock of the lock at `path`: it serializes the removal of a stale lock. */
export function takeoverLock(path: string): string {
  return `${path}-takeover`;
}

/**
 * Removes a stale lock, unless it was touched or replaced in the meantime.
 *
 * @throws KeystoreError `store` if other writers hold its second lock for 30 s
 */
export async function removeLock(path: string, stale: HeldLock): Promise<void> {
  // A second lock serializes the removal: without it, a writer could remove the lock that another has just taken.
  await withLock(takeoverLock(path), () => {
    const now = lockOwner(path);
    if (now.state !== "none" && now.identity === stale.identity) removeFile(path);
  });
}

async function acquire(path: string, mine: string): Promise<void> {
  for (const deadline = Date.now() + PATIENCE; ; await sleep(PAUSE)) {
    const owner = lockOwner(path);
    if (owner.state === "none" && create(path, mine)) return;
    if (owner.state !== "none" && isLeftBehind(owner)) await removeLock(path, owner);
    if (Date.now() > deadline) throw busy(path, owner);
  }
}

function create(path: string, mine: string): boolean {
  try {
    writeFileSafely(path, mine, "shared", "create");
    return true;
  } catch (error) {
    if (errorCode(error) === "EEXIST") return false; // another writer was faster
    throw error;
  }
}

function busy(path: string, owner: LockOwner): KeystoreError {
  if (owner.state === "none") return storeError(`other writers took ${path} one after another`, "try again later");
  const gone = "if that process is gone, run ocicrypt-keystore doctor --fix --force, or remove that file";
  const hint = owner.state === "alive" ? "try again when it is done" : `try again when it is done; ${gone}`;
  return storeError(`another process is changing the store: ${path} is held by ${owner.who} ${owner.where}`, hint);
}

function takenOver(path: string): KeystoreError {
  const message = `the lock ${path} was lost while this process stood still: another process may be writing`;
  return storeError(message, "nothing more was written; see ocicrypt-keystore list, then try again");
}

function isMine(path: string, mine: string): boolean {
  return readSmallFile(path)?.bytes.toString() === mine;
}

/**
 * Whether the lock file is missing, or another writer's. If it cannot be read, that is not an error: the work is
 * done.
 */
function isLost(path: string, mine: string): boolean {
  try {
    return !isMine(path, mine);
  } catch {
    return false;
  }
}

function touch(path: string, mine: string): void {
  try {
    if (isMine(path, mine)) utimesSync(path, new Date(), new Date());
  } catch {
    // lost or unreadable: the next write says so
  }
}

/**
 * Removes the lock. The work is done and durable, so a failure is ignored: this process ends soon, and the next
 * writer takes over.
 */
function release(path: string, mine: string): void {
  try {
    if (isMine(path, mine)) removeFile(path);
  } catch {
    // the next writer takes it over
  }
}
