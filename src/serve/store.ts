// The key store as a server reads it: from the disk for each request, so that a change counts at once; what was unlocked stays so.

import { setImmediate as giveWay } from "node:timers/promises";
import { asKeystoreError, errorLine } from "../errors.ts";
import type { SecretSource } from "../jwe/at-rest.ts";
import type { PrivateKey } from "../jwe/key.ts";
import { directoryKeyStore, locatePrivate, privateKids } from "../keystore/directory.ts";
import { readSmallFile } from "../keystore/files.ts";
import type { KeyStore } from "../keystore/keystore.ts";
import { isKid, layout } from "../keystore/layout.ts";

/**
 * The store in `dir`, with its locked keys unlocked now and kept in memory. One that is locked or made later is unlocked when it is first asked for.
 *
 * @param warn gets a line for each key that does not open
 * @throws KeystoreError (exit code 3) if none of the locked keys opens
 */
export async function unlockedStore(dir: string, secrets: SecretSource, warn: (line: string) => void): Promise<KeyStore> {
  const store = directoryKeyStore(dir, secrets);
  const kept = new Map<string, { readonly file: Buffer; readonly key: PrivateKey }>();
  const privateKey = async (kid: string): Promise<PrivateKey | undefined> => {
    const file = isKid(kid) ? readSmallFile(layout.lockedKey(dir, kid))?.bytes : undefined;
    const known = kept.get(kid);
    if (file !== undefined && known?.file.equals(file) === true) return known.key;
    kept.delete(kid);
    const key = await store.privateKey(kid);
    if (file !== undefined && key !== undefined) kept.set(kid, { file, key });
    return key;
  };

  const closed: unknown[] = [];
  for (const kid of privateKids(dir).filter((one) => locatePrivate(dir, one)?.kind === "locked")) {
    await privateKey(kid).catch((error: unknown) => closed.push(error));
  }
  if (closed.length > 0 && kept.size === 0) throw asKeystoreError(closed[0]);
  for (const error of closed) warn(errorLine(error));
  return { ...store, privateKey };
}

/** A store that notes in `kids` which keys a request came to, and lets other requests go on before each key and each private operation. */
export function watched(store: KeyStore, kids: string[]): KeyStore {
  return {
    recipient: async (nameOrKid) => noted(await store.recipient(nameOrKid), kids),
    defaultRecipient: async () => noted(await store.defaultRecipient(), kids),
    privateKids: async () => await store.privateKids(),
    privateKey: async (kid) => {
      await giveWay();
      const key = await store.privateKey(kid);
      return key && politeKey(noted(key, kids));
    },
  };
}

function noted<T extends { readonly kid: string }>(key: T, kids: string[]): T {
  kids.push(key.kid);
  return key;
}

async function politely<T>(operation: () => Promise<T>): Promise<T> {
  await giveWay();
  return await operation();
}

function politeKey(key: PrivateKey): PrivateKey {
  return {
    ...key,
    rsaOaep: async (encryptedKey, hash) => await politely(async () => await key.rsaOaep(encryptedKey, hash)),
    ecdh: async (epk) => await politely(async () => await key.ecdh(epk)),
    aesKeyUnwrap: async (encryptedKey) => await politely(async () => await key.aesKeyUnwrap(encryptedKey)),
  };
}
