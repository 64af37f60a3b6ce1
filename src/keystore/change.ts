// Changes to the key store directory. Each takes the lock and changes one file after another, in an order in which a
// crash in between leaves every key that opened an annotation where it opens it still.

import { existsSync } from "node:fs";
import { basename } from "node:path";
import { asKeystoreError, KeystoreError } from "../errors.ts";
import type { SecretSource } from "../at-rest/secret.ts";
import { makeFolder, moveFile, readSmallFile, removeFile, writeFileSafely } from "../fs/files.ts";
import { generateJwk, isPrivate, isSameKey, kidOf, kindOf, publicHalf, type Jwk, type PrivateJwk } from "../jwk/jwk.ts";
import { locatePrivate, mustExist, nameList, parseKeyFile, readDefault, readName, readPrivateKey, readPublicKey, unlockKeyFile } from "./directory.ts";
import { isKid, isName, layout, mustBeName } from "./layout.ts";
import { changeStore } from "./store-lock.ts";
import { sealLikeTheOthers } from "./locked.ts";

/**
 * Adds a key under a name, and makes it the default if there is none. A key that is there already only gets the name,
 * or the private half that was missing.
 *
 * @param jwk a checked key; an oct key carries its kid
 * @param force where the name is taken: the key becomes its current one, the former ones are retired
 * @returns the key's kid
 * @throws KeystoreError `usage` if it cannot be a name, `store` if the name is taken
 */
export async function addKey(dir: string, name: string, jwk: Jwk, secrets: SecretSource, force = false): Promise<string> {
  const kid = kidOf(jwk);
  await addNamed(dir, name, kid, force, async () => await writeKey(dir, kid, jwk, secrets));
  return kid;
}

/** {@link addKey} for a key whose files `write` writes, while the store's lock is held. */
export async function addNamed(dir: string, name: string, kid: string, force: boolean, write: () => void | Promise<void>): Promise<void> {
  mustBeName(name);
  await changeStore(dir, async () => {
    if (name === kid || (isKid(name) && readPublicKey(dir, name) !== undefined)) {
      throw new KeystoreError("store", `${name} is the kid of another key in ${dir}, or its own`, "choose another name");
    }
    const formerDefault = readDefault(dir);
    const former = readName(dir, name);
    if (former?.[0] === kid && !force) {
      throw new KeystoreError("store", `the name ${name} is taken in ${dir}, by this very key`, "add --force to give it what it lacks here: its private key, or an operation of its holder");
    }
    if (former !== undefined && !force) {
      throw new KeystoreError("store", `the name ${name} is taken in ${dir}`, `choose another name, use ocicrypt-keystore rotate ${name}, or import with --force to retire its key`);
    }
    if (isName(kid) && readName(dir, kid) !== undefined) {
      throw new KeystoreError("store", `the key's kid ${kid} is the name of another key in ${dir}`, "remove that name first");
    }
    await write();
    // The default first: a crash before the name is there leaves what the same command completes when it is repeated.
    if (!isUsable(dir, formerDefault)) writeFileSafely(layout.defaultName(dir), `${name}\n`, "shared", "replace");
    writeName(dir, name, [kid, ...(former ?? []).filter((one) => one !== kid)]);
  });
}

/** Whether the default is set, and leads to a name. A crash may leave one that leads to none. */
function isUsable(dir: string, name: string | undefined): boolean {
  return name !== undefined && readName(dir, name) !== undefined;
}

/**
 * Makes a new key of the same kind the current one of a name; the former one is retired: it unwraps, and wraps no more.
 *
 * @returns the new key's kid
 * @throws KeystoreError `recipient` if there is no such name, only a recipient, or a key that a command holds
 */
export async function rotateKey(dir: string, name: string, secrets: SecretSource): Promise<string> {
  mustExist(dir);
  return await changeStore(dir, async () => {
    const kids = mustHaveName(dir, name);
    const [current = ""] = kids;
    const jwk = await readPrivateKey(dir, current, secrets);
    if (jwk === undefined && locatePrivate(dir, current) !== undefined) {
      throw new KeystoreError("recipient", `the key of ${name} is held by a command, and only its holder can make a new one`, `make it there, then ocicrypt-keystore import ${name} PUBLIC --force --holder OPERATION -- COMMAND`);
    }
    if (jwk === undefined) {
      throw new KeystoreError("recipient", `${name} is a recipient only: its private key is elsewhere`, `rotate it there, then ocicrypt-keystore import ${name} FILE --force`);
    }
    const fresh = generateJwk(kindOf(jwk));
    const kid = fresh.kid ?? "";
    await writeKey(dir, kid, fresh, secrets);
    writeName(dir, name, [kid, ...kids]);
    return kid;
  });
}

/** Makes a name the default key. @throws KeystoreError `recipient` if there is no such name */
export async function setDefault(dir: string, name: string): Promise<void> {
  mustBeName(name);
  mustExist(dir);
  await changeStore(dir, () => {
    mustHaveName(dir, name);
    writeFileSafely(layout.defaultName(dir), `${name}\n`, "shared", "replace");
  });
}

/** What {@link removeKey} did. */
export interface Removal {
  /** The kids whose keys are gone from the store, with where the private key was moved to. */
  readonly removed: readonly { readonly kid: string; readonly movedTo: string | undefined }[];
  /** Whether the default key went with it. */
  readonly wasDefault: boolean;
}

/**
 * Removes a name with its keys, or one key. A key that another name has too stays. Files are moved to removed/.
 *
 * @param options `force`: also the last copy of a private key; `purge`: delete instead of moving
 * @throws KeystoreError `recipient` if there is none, `store` if it would take the last copy of a private key
 */
export async function removeKey(dir: string, nameOrKid: string, options: { readonly force: boolean; readonly purge: boolean }): Promise<Removal> {
  mustExist(dir);
  return await changeStore(dir, () => {
    const byName = isName(nameOrKid) ? readName(dir, nameOrKid) : undefined;
    if (byName === undefined && (!isKid(nameOrKid) || readPublicKey(dir, nameOrKid) === undefined)) throw noKey(dir, nameOrKid);
    const names = byName === undefined ? namesOf(dir, nameOrKid) : [nameOrKid];
    const remaining = new Map(names.map((name) => [name, byName === undefined ? (readName(dir, name) ?? []).filter((kid) => kid !== nameOrKid) : []]));
    if (byName === undefined) refuseCurrent(dir, nameOrKid, remaining);

    const elsewhere = new Set(nameList(dir).filter((name) => !names.includes(name)).flatMap((name) => readName(dir, name) ?? []));
    const kids = (byName ?? [nameOrKid]).filter((kid) => !elsewhere.has(kid));
    const lost = kids.filter((kid) => locatePrivate(dir, kid) !== undefined);
    if (lost.length > 0 && !options.force) throw lastCopy(nameOrKid, lost, lost.every((kid) => locatePrivate(dir, kid)?.kind === "holder"), options.purge);

    const defaultName = readDefault(dir) ?? "";
    const wasDefault = remaining.get(defaultName)?.length === 0;
    const moved = allOrNothing(nameOrKid, (undo) => {
      if (wasDefault) {
        undo(() => {
          if (readDefault(dir) !== defaultName) writeFileSafely(layout.defaultName(dir), `${defaultName}\n`, "shared", "replace");
        });
        removeFile(layout.defaultName(dir));
      }
      for (const [name, rest] of remaining) {
        const former = readName(dir, name) ?? [];
        undo(() => {
          if (readName(dir, name)?.join() !== former.join()) writeName(dir, name, former);
        });
        if (rest.length === 0) removeFile(layout.name(dir, name));
        else writeName(dir, name, rest);
      }
      makeFolder(layout.removedDir(dir), 0o700);
      return kids.map((kid) => ({ kid, ...takeAway(dir, kid, options.purge, undo) }));
    });
    if (options.purge) for (const path of moved.flatMap(({ files }) => files)) deleteForGood(nameOrKid, path);
    return { removed: moved.map(({ kid, movedTo }) => ({ kid, movedTo: options.purge ? undefined : movedTo })), wasDefault };
  });
}

/** The last step of a purge, which nothing undoes. */
function deleteForGood(what: string, path: string): void {
  try {
    removeFile(path);
  } catch (error) {
    const { code, message } = asKeystoreError(error);
    throw new KeystoreError(code, `${what} is removed, and a file of it is not deleted yet: ${message}`, "delete it with ocicrypt-keystore doctor --fix");
  }
}

/**
 * Runs changes, each of which tells first how to undo it. Where one fails, those before it are undone: a crash cannot be,
 * so their order must leave a store that works at every step.
 */
function allOrNothing<T>(what: string, change: (undo: (step: () => void) => void) => T): T {
  const steps: (() => void)[] = [];
  try {
    return change((step) => void steps.push(step));
  } catch (error) {
    const left = steps.toReversed().filter((step) => {
      try {
        step();
        return false;
      } catch {
        return true;
      }
    });
    const { code, message, hint } = asKeystoreError(error);
    throw new KeystoreError(code, `cannot remove ${what}: ${message}`, left.length === 0 ? `nothing was removed; ${hint}` : `it is removed in part; ${hint}, then try again`);
  }
}

/** Where a file goes in removed/: beside another symmetric key's of the same kid, not over it. */
function removedTarget(dir: string, { path, file }: { path: string; file: string }): string {
  const bytes = readSmallFile(path)?.bytes ?? Buffer.alloc(0);
  for (let count = 1; ; count++) {
    const target = layout.removedFile(dir, count === 1 ? file : file.replace(".", `.${count}.`));
    const other = readSmallFile(target)?.bytes;
    if (other === undefined || other.equals(bytes)) return target;
  }
}

/**
 * Moves a key's files to removed/, the private ones first: a public one without it is a recipient still. What is to be
 * deleted gets the name of a leftover there.
 */
function takeAway(dir: string, kid: string, purge: boolean, undo: (step: () => void) => void): { movedTo: string | undefined; files: readonly string[] } {
  const files: string[] = [];
  const move = (from: string, to: string): void => {
    const target = purge ? layout.removedFile(dir, `.tmp-${process.pid}-${basename(from)}.${files.length}`) : to;
    undo(() => {
      if (!existsSync(from)) moveFile(target, from);
    });
    moveFile(from, target);
    files.push(target);
  };
  let movedTo: string | undefined;
  for (let found = locatePrivate(dir, kid); found !== undefined; found = locatePrivate(dir, kid)) move(found.path, (movedTo = removedTarget(dir, found)));
  if (existsSync(layout.publicKey(dir, kid))) move(layout.publicKey(dir, kid), layout.removedFile(dir, `${kid}.public.jwk`));
  return { movedTo, files };
}

function refuseCurrent(dir: string, kid: string, remaining: ReadonlyMap<string, readonly string[]>): void {
  for (const [name, rest] of remaining) {
    if (rest.length === 0 || readName(dir, name)?.[0] !== kid) continue;
    throw new KeystoreError("store", `${kid} is the current key of ${name}, which has retired ones`, `rotate ${name} first, or remove ${name} with all its keys`);
  }
}

function lastCopy(what: string, kids: readonly string[], held: boolean, purge: boolean): KeystoreError {
  const [copy, copies] = held ? ["the holder", "the holders"] : ["the last copy", "the last copies"];
  const keys = kids.length === 1 ? `${copy} of private key ${kids[0] ?? ""}` : `${copies} of ${kids.length} private keys (${kids.slice(0, 3).join(", ")}${kids.length > 3 ? ", …" : ""})`;
  return new KeystoreError(
    "store",
    `removing ${what} would take ${keys}: images encrypted for it alone could no longer be opened`,
    purge ? "add --force to delete it for good" : held ? "add --force to move it to removed/; import with --holder brings it back" : "add --force to move it to removed/, from where it can be imported again",
  );
}

/** The names that a kid has, current or retired. */
export function namesOf(dir: string, kid: string): string[] {
  return nameList(dir).filter((name) => readName(dir, name)?.includes(kid));
}

function mustHaveName(dir: string, name: string): string[] {
  const kids = isName(name) ? readName(dir, name) : undefined;
  if (kids === undefined) throw noKey(dir, name);
  return kids;
}

function noKey(dir: string, name: string): KeystoreError {
  return new KeystoreError("recipient", `no key named ${name} in ${dir}`, "see ocicrypt-keystore list");
}

/** Writes what is missing of a key's two files. What is there stays: they are immutable. */
async function writeKey(dir: string, kid: string, jwk: Jwk, secrets: SecretSource): Promise<void> {
  makeFolder(layout.publicDir(dir), 0o755);
  makeFolder(layout.privateDir(dir), 0o700);
  if (isPrivate(jwk) && !(await isThere(dir, kid, jwk, secrets))) {
    const plain = Buffer.from(json({ ...jwk, kid }));
    const sealed = await sealLikeTheOthers(dir, plain, secrets);
    if (sealed === undefined) writeFileSafely(layout.privateKey(dir, kid), plain, "secret", "replace");
    else writeFileSafely(layout.lockedKey(dir, kid), sealed, "secret", "replace");
  }
  if (readPublicKey(dir, kid) === undefined) {
    const created = new Date().toISOString().replace(/\.\d+/, "");
    writeFileSafely(layout.publicKey(dir, kid), json({ ...publicHalf(jwk), kid, created }), "shared", "create");
  }
}

/** Whether the store has this private key. A damaged file of it is replaced; another symmetric key of its kid never is. */
async function isThere(dir: string, kid: string, jwk: PrivateJwk, secrets: SecretSource): Promise<boolean> {
  const found = locatePrivate(dir, kid);
  if (found === undefined) return false;
  if (found.kind === "holder") {
    throw new KeystoreError("store", `the private key ${kid} is held by a command, which would not be asked any more`, "ocicrypt-keystore remove it with --force, which moves the holder file to removed/, then import the key");
  }
  let known: Jwk | undefined;
  try {
    const bytes = readSmallFile(found.path)?.bytes ?? Buffer.alloc(0);
    known = found.kind === "locked" ? await unlockKeyFile(found.path, kid, bytes, secrets) : parseKeyFile(found.path, kid, bytes);
  } catch (error) {
    if (found.kind === "file" && error instanceof KeystoreError && error.code === "key") return false; // damaged
    throw error;
  }
  if (!isPrivate(known)) return false;
  if (isSameKey(jwk, known)) return true;
  throw new KeystoreError("store", `another symmetric key has the kid ${kid}`, "nothing was imported; take the kid out of the file, and it gets a new one");
}

function writeName(dir: string, name: string, kids: readonly string[]): void {
  makeFolder(layout.namesDir(dir), 0o755);
  writeFileSafely(layout.name(dir, name), `${kids.join("\n")}\n`, "shared", "replace");
}

function json(value: object): string {
  return `${JSON.stringify(value)}\n`;
}
