// Removes keys. Their files are moved to removed/, not deleted.

import { existsSync } from "node:fs";
import { basename } from "node:path";
import { asKeystoreError, KeystoreError, storeError } from "../errors.ts";
import { readSmallFile } from "../fs/read.ts";
import { makeFolder, moveFile, removeFile } from "../fs/write.ts";
import { changeStore, writeDefault, writeName } from "./change.ts";
import { isKid, keyFileName, temporaryName } from "./paths.ts";
import type { Located, Store } from "./store.ts";

/** A removed key. */
export interface Removed {
  readonly kid: string;
  readonly movedTo: string | undefined;
  /** Whether a holder file was moved, not a private key. */
  readonly held: boolean;
}

/** How to remove keys. */
export interface RemoveOptions {
  /** Also remove the last copy of a private key. */
  readonly force: boolean;
  /** Delete files instead of moving them to removed/. */
  readonly purge: boolean;
}

/** The result of {@link removeKey}. */
export interface Removal {
  /** The removed keys, and where their files were moved to. */
  readonly removed: readonly Removed[];
  /** Whether the default key was removed. */
  readonly wasDefault: boolean;
}

/**
 * Removes a name with its keys, or one key. A key that also has another name stays. Files are moved to removed/.
 *
 * @throws KeystoreError `recipient` if there is no such name or kid, `store` if it would remove the last copy of a
 * private key
 */
export async function removeKey(store: Store, nameOrKid: string, options: RemoveOptions): Promise<Removal> {
  const { paths } = store.mustExist();
  return await changeStore(store, () => {
    const byName = store.kidsOf(nameOrKid);
    if (byName === undefined && (!isKid(nameOrKid) || store.publicKey(nameOrKid) === undefined))
      throw store.noKey(nameOrKid);
    const names = byName === undefined ? store.namesOf(nameOrKid) : [nameOrKid];
    const rest = (name: string): string[] => (store.kidsOf(name) ?? []).filter((kid) => kid !== nameOrKid);
    const remaining = new Map(names.map((name) => [name, byName === undefined ? rest(name) : []]));
    if (byName === undefined) refuseCurrent(store, nameOrKid, remaining);

    const others = store.names().filter((name) => !names.includes(name));
    const elsewhere = new Set(others.flatMap((name) => store.kidsOf(name) ?? []));
    const kids = (byName ?? [nameOrKid]).filter((kid) => !elsewhere.has(kid));
    const lost = kids.filter((kid) => store.locate(kid) !== undefined);
    const allHeld = lost.every((kid) => store.locate(kid)?.form === "holder");
    if (lost.length > 0 && !options.force) throw lastCopy(nameOrKid, lost, allHeld, options.purge);

    const defaultName = store.defaultName() ?? "";
    const wasDefault = remaining.get(defaultName)?.length === 0;
    const moved = allOrNothing(nameOrKid, (undo) => {
      if (wasDefault) {
        undo(() => {
          if (store.defaultName() !== defaultName) writeDefault(store, defaultName);
        });
        removeFile(paths.default);
      }
      for (const [name, left] of remaining) {
        const former = store.kidsOf(name) ?? [];
        undo(() => {
          if (store.kidsOf(name)?.join() !== former.join()) writeName(store, name, former);
        });
        if (left.length === 0) removeFile(paths.name(name));
        else writeName(store, name, left);
      }
      makeFolder(paths.removed, 0o700);
      return kids.map((kid) => ({ kid, ...takeAway(store, kid, options.purge, undo) }));
    });
    if (options.purge) for (const path of moved.flatMap(({ files }) => files)) deleteForGood(nameOrKid, path);
    const removed = moved.map(({ kid, movedTo, held }) => ({
      kid,
      held,
      movedTo: options.purge ? undefined : movedTo,
    }));
    return { removed, wasDefault };
  });
}

/** Deletes a file: the last step of a purge, which cannot be undone. */
function deleteForGood(what: string, path: string): void {
  try {
    removeFile(path);
  } catch (error) {
    const { code, message } = asKeystoreError(error);
    const hint = "delete it with ocicrypt-keystore doctor --fix";
    throw new KeystoreError(code, `${what} was removed, but one of its files is not deleted yet: ${message}`, hint);
  }
}

/**
 * Runs changes, each of which first registers how to undo it. If one fails, those before it are undone. A crash undoes
 * nothing, so the order of the changes must leave a working store after every step.
 */
function allOrNothing<T>(what: string, change: (undo: (step: () => void) => void) => T): T {
  const steps: (() => void)[] = [];
  try {
    return change((step) => void steps.push(step));
  } catch (error) {
    const notUndone = steps.toReversed().filter((step) => {
      try {
        step();
        return false;
      } catch {
        return true;
      }
    });
    const { code, message, hint } = asKeystoreError(error);
    const partly = `it was removed in part; ${hint}, then try again`;
    const outcome = notUndone.length === 0 ? `nothing was removed; ${hint}` : partly;
    throw new KeystoreError(code, `cannot remove ${what}: ${message}`, outcome);
  }
}

/** The path of a file in removed/. It never replaces another symmetric key with the same kid. */
function removedTarget({ paths }: Store, kid: string, { path, form }: Located): string {
  const bytes = readSmallFile(path)?.bytes ?? Buffer.alloc(0);
  for (let copy = 1; ; copy++) {
    const target = paths.removedFile(keyFileName({ kid, copy, form, public: false }));
    const other = readSmallFile(target)?.bytes;
    if (other === undefined || other.equals(bytes)) return target;
  }
}

/**
 * Moves a key's files to removed/. The private file goes first: a public file without it is still a recipient. A file
 * that will be deleted gets the name of a temporary file there, so that `doctor --fix` deletes it after a crash.
 */
function takeAway(
  store: Store,
  kid: string,
  purge: boolean,
  undo: (step: () => void) => void,
): { readonly movedTo: string | undefined; readonly held: boolean; readonly files: readonly string[] } {
  const { paths } = store;
  const files: string[] = [];
  const move = (from: string, to: string): void => {
    const target = purge ? paths.removedFile(`${temporaryName(basename(from))}.${files.length}`) : to;
    undo(() => {
      if (!existsSync(from)) moveFile(target, from);
    });
    moveFile(from, target);
    files.push(target);
  };
  let movedTo: string | undefined;
  let held = false;
  for (let located = store.locate(kid); located !== undefined; located = store.locate(kid)) {
    movedTo = removedTarget(store, kid, located);
    held = located.form === "holder";
    move(located.path, movedTo);
  }
  const shared = paths.publicKey(kid);
  if (existsSync(shared)) move(shared, paths.removedFile(keyFileName({ kid, copy: 1, form: "jwk", public: true })));
  return { movedTo, held, files };
}

function refuseCurrent(store: Store, kid: string, remaining: ReadonlyMap<string, readonly string[]>): void {
  for (const [name, rest] of remaining) {
    if (rest.length === 0 || store.kidsOf(name)?.[0] !== kid) continue;
    const hint = `run ocicrypt-keystore rotate ${name} first, or ocicrypt-keystore remove ${name} for all its keys`;
    throw storeError(`${kid} is the current key of ${name}, which also has retired keys`, hint);
  }
}

function lastCopy(what: string, kids: readonly string[], held: boolean, purge: boolean): KeystoreError {
  const [copy, copies] = held ? ["the holder", "the holders"] : ["the last copy", "the last copies"];
  const shown = `${kids.slice(0, 3).join(", ")}${kids.length > 3 ? ", …" : ""}`;
  const keys =
    kids.length === 1 ? `${copy} of private key ${shown}` : `${copies} of ${kids.length} private keys (${shown})`;
  const back = held ? "; import with --holder adds it again" : ", from where it can be imported again";
  const message = `removing ${what} would remove ${keys}: images encrypted for it alone could no longer be opened`;
  return storeError(message, purge ? "add --force to delete it for good" : `add --force to move it to removed/${back}`);
}
