// Adds a key under a name. After a crash at any instant, the same command can be repeated and completes the work.

import { KeystoreError, storeError } from "../errors.ts";
import { makeFolder, removeFile, writeFileSafely } from "../fs/write.ts";
import { isPrivate, isSameKey, isSymmetric, kidOf, publicHalf, type Jwk, type PrivateJwk } from "../jwk/jwk.ts";
import { changeStore, writeDefault, writeName } from "./change.ts";
import { mustRead, parseKeyFile, unlockKeyFile } from "./key-file.ts";
import { isKid, isName, mustBeName } from "./paths.ts";
import { sealLikeTheOthers } from "./relock.ts";
import type { Located, Store } from "./store.ts";

/**
 * Adds a key under a name. A private key becomes the default key if there is none; a public key never does, since it
 * may be somebody else's. A key that is in the store already gets the name, and its private part if that was missing.
 *
 * @param jwk a checked key; a symmetric key has its kid
 * @param force if the name is taken, the key becomes its current key and the former ones are retired
 * @param there is called if all of it is there already: then nothing is changed
 * @returns the key's kid
 * @throws KeystoreError `usage` if `name` cannot be a name, `store` if it is taken
 */
export async function addKey(store: Store, name: string, jwk: Jwk, force = false, there?: () => void): Promise<string> {
  const kid = kidOf(jwk);
  const known = await addNamed(store, name, kid, force, {
    ours: isPrivate(jwk),
    there: async (former) => await whichIsThere(store, former, kid, jwk),
    write: async () => await writeKey(store, kid, jwk),
  });
  if (known !== undefined) there?.();
  return known ?? kid;
}

/** The files of a key that is added. */
export interface KeyFiles {
  /** Whether its private part is among them, or a holder for it: then it can become the default key. */
  readonly ours: boolean;
  /**
   * The kid of this key in the store, if all that would be written is there.
   *
   * @param former the current kid of the name
   */
  readonly there: (former: string) => string | undefined | Promise<string | undefined>;
  readonly write: () => void | Promise<void>;
}

/**
 * {@link addKey} for a key with its own files, while the store's lock is held.
 *
 * @returns the kid that the key has in the store, if the name had this key with all its files: then nothing was changed
 */
export async function addNamed(
  store: Store,
  name: string,
  kid: string,
  force: boolean,
  { ours, there, write }: KeyFiles,
): Promise<string | undefined> {
  mustBeName(name);
  const { dir } = store;
  return await changeStore(store, async () => {
    if (name === kid || (isKid(name) && store.publicKey(name) !== undefined)) {
      throw storeError(`${name} is the kid of this key, or of another key in ${dir}`, "choose another name");
    }
    const formerDefault = store.defaultName();
    const former = store.kidsOf(name);
    const known = former?.[0] === undefined || force ? undefined : await there(former[0]);
    if (known !== undefined) return known;
    if (former?.[0] === kid && !force) {
      throw storeError(`${name} already names this key`, "add --force to add its private key or holder operation");
    }
    if (former !== undefined && !force) {
      const ways = `use ocicrypt-keystore rotate ${name}, or import with --force to retire its key`;
      const hint = `choose another name, ${ways}`;
      throw storeError(`the name ${name} is taken in ${dir}`, hint);
    }
    if (isName(kid) && store.kidsOf(kid) !== undefined) {
      throw storeError(`the key's kid ${kid} is the name of another key in ${dir}`, "remove that name first");
    }
    await write();
    // The default first, if it is not set or a crash left one that leads nowhere.
    const noDefault = formerDefault === undefined || store.kidsOf(formerDefault) === undefined;
    const first = ours && noDefault;
    if (first) writeDefault(store, name);
    else if (noDefault && formerDefault === name) removeFile(store.paths.default);
    try {
      writeName(store, name, [kid, ...(former ?? []).filter((one) => one !== kid)]);
    } catch (error) {
      if (first) removeFile(store.paths.default); // it would lead to no name
      throw error;
    }
    return undefined;
  });
}

/** The kid that a key has in the store, if the store has all of it under a name whose current kid is `former`. */
async function whichIsThere(store: Store, former: string, kid: string, jwk: Jwk): Promise<string | undefined> {
  const half = store.publicKey(former);
  if (half === undefined) return undefined;
  const located = store.locate(former);
  if (isSymmetric(jwk) && isPrivate(jwk)) {
    if (!isSymmetric(half)) return undefined; // a key of another type need not be unlocked
    // Each import gives it a new kid, if it has none of its own: its secret tells which key it is.
    const known = located === undefined || located.form === "holder" ? undefined : await read(store, former, located);
    return known !== undefined && isPrivate(known) && isSymmetric(known) && isSameKey(jwk, known) ? former : undefined;
  }
  if (former !== kid) return undefined;
  // A locked private key need not be opened: its kid tells which it is.
  const isThere = !isPrivate(jwk) || located?.form === "jwe" || (await hasPrivateKey(store, kid, jwk));
  return isThere ? kid : undefined;
}

/** Writes those of a key's two files that are missing. Existing files stay: they are immutable. */
export async function writeKey(store: Store, kid: string, jwk: Jwk): Promise<void> {
  const { paths } = store;
  makeFolder(paths.public, 0o755);
  makeFolder(paths.private, 0o700);
  if (isPrivate(jwk) && !(await hasPrivateKey(store, kid, jwk))) {
    const plain = Buffer.from(json({ ...jwk, kid }));
    const sealed = await sealLikeTheOthers(store, plain);
    const path = paths.privateKey(kid, sealed === undefined ? "jwk" : "jwe");
    writeFileSafely(path, sealed ?? plain, "secret", "replace");
  }
  if (store.publicKey(kid) === undefined) {
    writeFileSafely(paths.publicKey(kid), json({ ...publicHalf(jwk), kid, created: now() }), "shared", "replace");
  }
}

/**
 * Whether the store has this private key. Its file is replaced if it is damaged, never if it is another symmetric
 * key.
 */
async function hasPrivateKey(store: Store, kid: string, jwk: PrivateJwk): Promise<boolean> {
  const located = store.locate(kid);
  if (located === undefined) return false;
  if (located.form === "holder") {
    const remove = `run ocicrypt-keystore remove ${kid} --force, which moves the holder file to removed/`;
    throw storeError(`importing ${kid} would bypass its holder`, `${remove}, then import the key`);
  }
  const known = await read(store, kid, located);
  if (known === undefined || !isPrivate(known)) return false;
  if (isSameKey(jwk, known)) return true;
  const hint = "nothing was imported; remove the kid from the file, and the key gets a new one";
  throw storeError(`another symmetric key has the kid ${kid}`, hint);
}

async function read({ secrets }: Store, kid: string, { path, form }: Located): Promise<Jwk | undefined> {
  const bytes = mustRead(path);
  if (form === "jwe") return await unlockKeyFile(path, kid, bytes, secrets);
  try {
    return parseKeyFile(path, kid, bytes);
  } catch (error) {
    if (error instanceof KeystoreError && error.code === "key") return undefined; // damaged
    throw error;
  }
}

/** Makes the public file of a key again, from its private key. @param created when it was made, as far as is known */
export function rebuildPublic({ paths }: Store, kid: string, jwk: PrivateJwk, created: Date): void {
  makeFolder(paths.public, 0o755);
  const file = { ...publicHalf(jwk), kid, created: rfc3339(created) };
  writeFileSafely(paths.publicKey(kid), json(file), "shared", "replace");
}

/** The time now, for `created`: RFC 3339, to the second. */
export function now(): string {
  return rfc3339(new Date());
}

function rfc3339(date: Date): string {
  return date.toISOString().replace(/\.\d+/, "");
}

function json(value: object): string {
  return `${JSON.stringify(value)}\n`;
}
