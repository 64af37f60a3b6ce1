// Locking and unlocking all private keys of a store, the removed ones too.

import { existsSync } from "node:fs";
import { basename } from "node:path";
import { KeystoreError } from "../errors.ts";
import { lockKind, lockOf } from "../at-rest/at-rest.ts";
import type { AtRest } from "../at-rest/locked-file.ts";
import type { SecretSource } from "../at-rest/secret.ts";
import { listFolder, MAX_FILE, readSmallFile, refuseOpenMode, removeFile, writeFileSafely, type SmallFile } from "../fs/files.ts";
import { isPrivate, isSameKey, type Jwk } from "../jwk/jwk.ts";
import { mustExist, naming, openKeyFile, parseKeyFile, unlockKeyFile } from "./directory.ts";
import { isKid, layout } from "./layout.ts";
import { changeStore } from "./store-lock.ts";

interface KeyFile {
  readonly path: string;
  readonly kid: string;
  readonly locked: boolean;
}

/** Every private key's file, current, retired and removed. */
function keyFiles(dir: string): KeyFile[] {
  return [layout.privateDir(dir), layout.removedDir(dir)].flatMap((folder) =>
    listFolder(folder).flatMap((file) => {
      const [, kid, kind] = /^([^.]+)(?:\.\d+)?\.(jwk|jwe)$/.exec(file) ?? [];
      return kid !== undefined && isKid(kid) ? [{ path: `${folder}/${file}`, kid, locked: kind === "jwe" }] : [];
    }),
  );
}

function mustReadFile(path: string): SmallFile {
  const file = readSmallFile(path);
  if (file === undefined) throw new KeystoreError("store", `${path} is gone`, "somebody else changes the store by hand: try again");
  return file;
}

function mustRead(path: string): Buffer {
  return mustReadFile(path).bytes;
}

/** A new private key sealed as the store's other keys are; undefined if none is locked. */
export async function sealLikeTheOthers(dir: string, jwk: Buffer, secrets: SecretSource): Promise<Buffer | undefined> {
  const locked = keyFiles(dir).find((file) => file.locked);
  if (locked === undefined) return undefined;
  const sample = mustRead(locked.path);
  await unlockKeyFile(locked.path, locked.kid, sample, secrets); // the same secret, or nothing is written
  return await naming(locked.path, () => lockOf(sample, secrets)).seal(jwk);
}

/**
 * Locks every private key that is not locked. Each is sealed beside the open file, which goes then.
 *
 * @returns how many were locked now
 * @throws KeystoreError `key` if one is damaged, or those locked already have another secret or server: then nothing is changed
 */
export async function lockKeys(dir: string, lock: AtRest): Promise<number> {
  mustExist(dir);
  return await changeStore(dir, async () => {
    const files = keyFiles(dir);
    const sample = files.find((file) => file.locked);
    if (sample !== undefined) {
      const bytes = mustRead(sample.path);
      const former = naming(sample.path, () => lockKind(bytes));
      if (former !== lock.kind) throw new KeystoreError("store", `keys of ${dir} are locked with a ${former}`, "unlock them first");
      if (!lock.sameAs(bytes)) {
        throw new KeystoreError("store", `keys of ${dir} are locked for another Tang server, or it has other signing keys now`, "unlock them first");
      }
      await openKeyFile(sample.path, sample.kid, bytes, lock);
    }
    const open = files.filter((file) => !file.locked).map((file) => ({ ...file, bytes: mustCheck(file) }));
    for (const { path, kid, bytes } of open) await refuseOther(path, parseKeyFile(path, kid, bytes), async (there) => await openKeyFile(there, kid, mustRead(there), lock));
    for (const { path, bytes } of open) {
      writeFileSafely(path.replace(/jwk$/, "jwe"), await lock.seal(bytes), "secret", "replace");
      removeFile(path);
    }
    return open.length;
  });
}

/**
 * Unlocks every private key. Each is written open beside the locked file, which goes then.
 *
 * @returns how many were unlocked
 * @throws KeystoreError `key` if the secret is another one, or a file is damaged: then nothing is changed
 */
export async function unlockKeys(dir: string, secrets: SecretSource): Promise<number> {
  mustExist(dir);
  return await changeStore(dir, async () => {
    const opened = [];
    for (const { path, kid, locked } of keyFiles(dir)) {
      if (!locked) continue;
      const jwk = await unlockKeyFile(path, kid, mustRead(path), secrets);
      await refuseOther(path, jwk, (there) => parseKeyFile(there, kid, mustRead(there)));
      opened.push({ path, jwk });
    }
    for (const { path, jwk } of opened) {
      writeFileSafely(path.replace(/jwe$/, "jwk"), `${JSON.stringify(jwk)}\n`, "secret", "replace");
      removeFile(path);
    }
    return opened.length;
  });
}

/** Two symmetric keys can have one kid, in removed/ too: neither is written over the other. @param read reads the file that would be written over */
async function refuseOther(path: string, jwk: Jwk, read: (path: string) => Jwk | Promise<Jwk>): Promise<void> {
  const there = path.replace(/jw[ke]$/, path.endsWith("k") ? "jwe" : "jwk");
  if (!isPrivate(jwk) || !existsSync(there)) return;
  const other = await read(there);
  if (isPrivate(other) && isSameKey(jwk, other)) return;
  throw new KeystoreError("store", `${path.replace(/e$/, "k")} and ${basename(path).replace(/k$/, "e")} are different keys`, "move one of the two away, then try again");
}

function mustCheck({ path, kid }: KeyFile): Buffer {
  const file = mustReadFile(path);
  refuseOpenMode(path, "private key", file);
  parseKeyFile(path, kid, file.bytes);
  if (file.bytes.length > MAX_FILE / 2) throw new KeystoreError("store", `${path} would be too large to be read again when it is locked`, "take the members out of it that a key does not need");
  return file.bytes;
}
