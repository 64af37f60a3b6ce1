// The key files of the store: whole, of the kid they are named after, named, and locked all or none.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { KeystoreError } from "../errors.ts";
import { lockOf } from "../at-rest/at-rest.ts";
import type { AtRest } from "../at-rest/locked-file.ts";
import type { SecretSource } from "../at-rest/secret.ts";
import { listFolder, readSmallFile, removeFile } from "../fs/files.ts";
import { isPrivate, type Jwk } from "../jwk/jwk.ts";
import { locatePrivate, nameList, parseKeyFile, privateKids, readName, readPublicKey, unlockKeyFile } from "../keystore/store.ts";
import { isKid, layout } from "../keystore/paths.ts";
import { secretFile, secretFiles, type SecretFiles } from "../at-rest/secret-files.ts";
import { attempt, type check, type Check, type Note } from "./check.ts";

/** Checks of the keys in `dir`, each run by `look`. */
export async function keyChecks(dir: string, given: SecretFiles, look: typeof check): Promise<Check[]> {
  const secrets = secretFiles(given);
  return [
    ...(await look("store.keys", async (warn, fail) => {
      const shared = listFolder(layout.publicDir(dir)).flatMap((file) => /^([\w-]{1,128})\.jwk$/.exec(file)?.[1] ?? []);
      const kids = privateKids(dir);
      for (const kid of shared) await attempt(fail, () => readPublicKey(dir, kid));
      for (const kid of kids) {
        if (existsSync(layout.privateKey(dir, kid))) await attempt(fail, () => openKey(layout.privateKey(dir, kid), kid));
        if (!existsSync(layout.publicKey(dir, kid)) && locatePrivate(dir, kid)?.kind !== "holder") warn(`private key ${kid} has no public file: it unwraps only`, `restore ${layout.publicKey(dir, kid)} from a backup, or import the key under a name`);
      }
      return `${shared.length} keys, ${kids.length} of them with the private key`;
    })),
    ...(await look("store.unnamed", (warn) => {
      const named = new Set(nameList(dir).flatMap((name) => quietly(() => readName(dir, name)) ?? []));
      for (const kid of privateKids(dir).filter((one) => !named.has(one))) {
        warn(`no name points to private key ${kid}: a keygen was interrupted, or its name was removed`, "it still unwraps; import it under a name, or move its files away");
      }
      return "every private key has a name";
    })),
    ...(await look("store.twice", async (warn) => {
      for (const folder of [layout.privateDir(dir), layout.removedDir(dir)]) {
        for (const kid of lockedKids(folder)) {
          const path = join(folder, `${kid}.jwk`);
          if (!existsSync(path)) continue;
          const proven = await isSameKey(folder, kid, async (kind) => await secrets(kind));
          const hint = proven ? "finish it with ocicrypt-keystore doctor --fix" : "give the secret that opens the locked one to the same key, with --passphrase-file FILE or --master-key-file FILE, and --fix";
          warn(`${path} is there unlocked and locked: a lock or unlock was interrupted`, hint, proven ? () => removeFile(path) : undefined);
        }
      }
      return "no key is there unlocked and locked";
    })),
    ...(await look("store.locked", async (warn, fail) => {
      const locked = lockedKeys(layout.privateDir(dir), secrets, fail);
      const kinds = [...new Set(locked.map(({ lock }) => lock.kind))].toSorted();
      const open = privateKids(dir).filter((kid) => locatePrivate(dir, kid)?.kind === "file");
      if (locked.length > 0 && open.length > 0) warn(`${open.length} private keys are not locked, others are`, "lock them with ocicrypt-keystore lock");
      if (kinds.length > 1) warn(`some keys are locked with a ${kinds.join(", others with a ")}`, "run ocicrypt-keystore unlock, then lock");
      const tryOut = async (keys: typeof locked): Promise<void> => {
        await Promise.all(keys.map(async ({ kid, path, bytes }) => await attempt(fail, async () => await unlockKeyFile(path, kid, bytes, secrets))));
      };
      for (const kind of kinds) {
        const keys = locked.filter((key) => key.lock.kind === kind);
        if (kind === "Tang server") {
          await tryOut(keys);
          continue;
        }
        const option = kind === "passphrase" ? "--passphrase-file" : "--master-key-file";
        if (secretFile(kind, given) === undefined) warn(`${keys.length} keys are locked with a ${kind}, and none is named here`, `name it with ${option} FILE; a client needs it in its environment or args: ocicrypt-keystore config ${option} FILE`);
        else if ((await attempt(fail, async () => await secrets(kind))) !== undefined) await tryOut(keys);
      }
      if (kinds[0] === "Tang server") return `${locked.length} private keys are locked for the Tang server ${[...new Set(locked.map(({ lock }) => lock.url))].join(", ")}, which is asked each time and opened them`;
      return locked.length === 0 ? "no private key is locked" : `${locked.length} private keys are locked with a ${kinds.join()}, which is found and opens them`;
    })),
  ];
}

function lockedKids(folder: string): string[] {
  return listFolder(folder).flatMap((file) => /^([\w-]{1,128})\.jwe$/.exec(file)?.[1] ?? []).filter(isKid);
}

function lockedKeys(folder: string, secrets: SecretSource, fail: Note): { kid: string; path: string; bytes: Buffer; lock: AtRest }[] {
  const found = [];
  for (const kid of lockedKids(folder)) {
    const path = join(folder, `${kid}.jwe`);
    const bytes = readSmallFile(path)?.bytes ?? Buffer.alloc(0);
    const lock = quietly(() => lockOf(bytes, secrets));
    if (lock === undefined) fail(`locked key ${path} is damaged: it is no JWE that this program wrote`, "restore it from a backup, or move it away");
    else found.push({ kid, path, bytes, lock });
  }
  return found;
}

/** A private key that is not locked. @throws KeystoreError `key` if it is damaged */
function openKey(path: string, kid: string): Jwk {
  const jwk = parseKeyFile(path, kid, readSmallFile(path)?.bytes ?? Buffer.alloc(0));
  if (isPrivate(jwk)) return jwk;
  throw new KeystoreError("key", `private key ${path} has no private part`, "restore it from a backup");
}

async function isSameKey(folder: string, kid: string, secrets: ReturnType<typeof secretFiles>): Promise<boolean> {
  const path = join(folder, `${kid}.jwe`);
  try {
    const [locked, open] = [await unlockKeyFile(path, kid, readSmallFile(path)?.bytes ?? Buffer.alloc(0), secrets), openKey(join(folder, `${kid}.jwk`), kid)];
    return isDeepStrictEqual(locked, open);
  } catch {
    return false; // the other checks say why
  }
}

function quietly<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined; // another check says it
  }
}
