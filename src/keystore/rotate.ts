// Makes a new current key for a name, and sets the default key.

import { recipientError } from "../errors.ts";
import { generateJwk, kidOf, kindOf } from "../jwk/jwk.ts";
import { changeStore, writeDefault, writeName } from "./change.ts";
import { writeKey } from "./add.ts";
import { mustBeName } from "./paths.ts";
import type { Store } from "./store.ts";

/**
 * Makes a key of the same kind, as the current key of a name. The former key is retired: it still unwraps, and no
 * longer wraps.
 *
 * @returns the new key's kid
 * @throws KeystoreError `recipient` if there is no such name, the store does not have its private key, or a command
 * holds it
 */
export async function rotateKey(store: Store, name: string): Promise<string> {
  store.mustExist();
  return await changeStore(store, async () => {
    const kids = store.mustHaveName(name);
    const [current = ""] = kids;
    const jwk = await store.privateJwk(current);
    if (jwk === undefined && store.locate(current) !== undefined) {
      const add = `ocicrypt-keystore import ${name} PUBLIC --force --holder OPERATION -- COMMAND`;
      const message = `the key of ${name} is held by a command, and only its holder can make a new one`;
      throw recipientError(message, `make it there, then run ${add}`);
    }
    if (jwk === undefined) {
      const hint = `rotate it where it is, then run ocicrypt-keystore import ${name} FILE --force`;
      throw recipientError(`this store has no private key for ${name}`, hint);
    }
    const fresh = generateJwk(kindOf(jwk));
    const kid = kidOf(fresh);
    await writeKey(store, kid, fresh);
    writeName(store, name, [kid, ...kids]);
    return kid;
  });
}

/** Makes a name the default key. @throws KeystoreError `recipient` if there is no such name */
export async function setDefault(store: Store, name: string): Promise<void> {
  mustBeName(name);
  store.mustExist();
  await changeStore(store, () => {
    store.mustHaveName(name);
    writeDefault(store, name);
  });
}
