// What all changes of a store share: the writers' lock, and the files of names.

import { takeoverLock, withLock } from "../fs/lock.ts";
import { makeFolder, writeFileSafely } from "../fs/write.ts";
import type { Store } from "./store.ts";

/** Runs a change while holding the writers' lock. @throws KeystoreError `store` if another writer keeps it for 30 s */
export async function changeStore<T>({ dir, paths }: Store, work: () => T | Promise<T>): Promise<T> {
  makeFolder(dir, 0o755);
  return await withLock(paths.lock, work);
}

/** The locks that can be in a store, in the order in which they are removed. */
export function storeLocks({ paths }: Store): readonly string[] {
  return [takeoverLock(paths.lock), paths.lock];
}

/** Sets the kids of a name. */
export function writeName({ paths }: Store, name: string, kids: readonly string[]): void {
  makeFolder(paths.names, 0o755);
  writeFileSafely(paths.name(name), `${kids.join("\n")}\n`, "shared", "replace");
}

/** Makes a name the default key's. */
export function writeDefault({ paths }: Store, name: string): void {
  writeFileSafely(paths.default, `${name}\n`, "shared", "replace");
}
