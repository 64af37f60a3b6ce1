// The lock of a key store: one change at a time.

import { makeFolder } from "../fs/files.ts";
import { takeoverLock, withLock } from "../fs/lock.ts";
import { layout } from "./layout.ts";

/** Runs a change of a store while holding its lock. */
export async function changeStore<T>(dir: string, work: () => T | Promise<T>): Promise<T> {
  makeFolder(dir, 0o755);
  return await withLock(layout.lock(dir), work);
}

/** The locks that can be in a store, in the order in which they are removed. */
export function storeLocks(dir: string): readonly string[] {
  return [takeoverLock(layout.lock(dir)), layout.lock(dir)];
}
