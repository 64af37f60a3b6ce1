// Locks and unlocks all private keys of a store, the removed ones too.

import { existsSync } from "node:fs";
import { basename } from "node:path";
import type { AtRest } from "../at-rest/locked-file.ts";
import { storeError } from "../errors.ts";
import { MAX_FILE, refuseOpenMode } from "../fs/read.ts";
import { removeFile, writeFileSafely } from "../fs/write.ts";
import { isPrivate, isSameKey, type Jwk } from "../jwk/jwk.ts";
import { changeStore } from "./change.ts";
import {
  atRestKindOfFile,
  atRestOfFile,
  mustRead,
  mustReadFile,
  openKeyFile,
  parseKeyFile,
  unlockKeyFile,
} from "./key-file.ts";
import { inForm } from "./paths.ts";
import type { KeyFile, Store } from "./store.ts";

/** A new private key, sealed as the store's other keys are; undefined if none of them is locked. */
export async function sealLikeTheOthers(store: Store, jwk: Buffer): Promise<Buffer | undefined> {
  const [sample] = store.keyFiles("jwe");
  if (sample === undefined) return undefined;
  const bytes = mustRead(sample.path);
  const lock = atRestOfFile(sample.path, bytes, store.secrets);
  await openKeyFile(sample.path, sample.kid, bytes, lock); // this fails if the secret is another one
  return await lock.seal(jwk);
}

/**
 * Locks every private key that is not locked: writes the locked file beside the open one, then removes the open one.
 *
 * @returns how many were locked now
 * @throws KeystoreError `key` if a key is damaged, or if keys are locked with another secret or server: then nothing is
 * changed
 */
export async function lockKeys(store: Store, lock: AtRest): Promise<number> {
  store.mustExist();
  return await changeStore(store, async () => {
    const [sample] = store.keyFiles("jwe");
    if (sample !== undefined) await refuseOtherKind(store, sample, lock);
    const open = store.keyFiles("jwk").map((file) => ({ ...file, bytes: mustCheck(file) }));
    for (const { path, kid, bytes } of open) {
      const locked = inForm(path, "jwe");
      const read = async (): Promise<Jwk> => await openKeyFile(locked, kid, mustRead(locked), lock);
      await refuseOtherKey(parseKeyFile(path, kid, bytes), path, locked, read);
    }
    for (const { path, bytes } of open) {
      writeFileSafely(inForm(path, "jwe"), await lock.seal(bytes), "secret", "replace");
      removeFile(path);
    }
    return open.length;
  });
}

async function refuseOtherKind({ dir }: Store, { path, kid }: KeyFile, lock: AtRest): Promise<void> {
  const bytes = mustRead(path);
  const kind = atRestKindOfFile(path, bytes);
  const hint = "run ocicrypt-keystore unlock first";
  if (kind !== lock.kind) throw storeError(`keys of ${dir} are locked with a ${kind}`, hint);
  if (!lock.sameAs(bytes)) {
    const message = `keys of ${dir} are locked for another Tang server, or the server has other signing keys now`;
    throw storeError(message, hint);
  }
  await openKeyFile(path, kid, bytes, lock);
}

/**
 * Unlocks every private key: writes the open file beside the locked one, then removes the locked one.
 *
 * @returns how many were unlocked
 * @throws KeystoreError `key` if the secret is wrong, or a file is damaged: then nothing is changed
 */
export async function unlockKeys(store: Store): Promise<number> {
  store.mustExist();
  return await changeStore(store, async () => {
    const opened = [];
    for (const { path, kid } of store.keyFiles("jwe")) {
      const jwk = await unlockKeyFile(path, kid, mustRead(path), store.secrets);
      const open = inForm(path, "jwk");
      await refuseOtherKey(jwk, path, open, () => parseKeyFile(open, kid, mustRead(open)));
      opened.push({ path, jwk });
    }
    for (const { path, jwk } of opened) {
      writeFileSafely(inForm(path, "jwk"), `${JSON.stringify(jwk)}\n`, "secret", "replace");
      removeFile(path);
    }
    return opened.length;
  });
}

/**
 * Refuses to write a key over another one: two symmetric keys can have the same kid.
 *
 * @param read reads the key at `target`
 */
async function refuseOtherKey(jwk: Jwk, path: string, target: string, read: () => Jwk | Promise<Jwk>): Promise<void> {
  if (!isPrivate(jwk) || !existsSync(target)) return;
  const existing = await read();
  if (isPrivate(existing) && isSameKey(jwk, existing)) return;
  const [open, locked] = [inForm(path, "jwk"), inForm(path, "jwe")];
  throw storeError(`${open} and ${basename(locked)} are different keys`, "move one of the two away, then try again");
}

function mustCheck({ path, kid }: KeyFile): Buffer {
  const file = mustReadFile(path);
  refuseOpenMode(path, "private key", file);
  parseKeyFile(path, kid, file.bytes);
  if (file.bytes.length <= MAX_FILE / 2) return file.bytes;
  const hint = "remove the members that a key does not need";
  throw storeError(`${path} would be too large to be read again once it is locked`, hint);
}
