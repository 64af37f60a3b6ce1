// Changes to the key store directory. Each takes the lock and writes one file after another, the one that makes it
// visible last, so that a crash in between leaves the store as it was, or with a key that no name points to yet.

import { KeystoreError } from "../errors.ts";
import { isPrivate, publicJwk, thumbprint, type Jwk } from "../jwk/jwk.ts";
import { readDefault, readName, readPublicKey } from "./directory.ts";
import { makeFolder, writeFileSafely } from "./files.ts";
import { layout, mustBeName } from "./layout.ts";
import { withLock } from "./lock.ts";

const SECRET = 0o600;
const PUBLIC = 0o644;

/**
 * Adds a new key under a new name, and makes it the default if there is none. Returns its kid.
 *
 * @param jwk a checked key; an oct key carries its kid
 * @throws KeystoreError `usage` if it cannot be a name, `store` if the name is taken
 */
export async function addKey(dir: string, name: string, jwk: Jwk): Promise<string> {
  mustBeName(name);
  const kid = jwk.kty === "oct" ? (jwk.kid ?? "") : thumbprint(jwk);
  return await change(dir, () => {
    if (readName(dir, name) !== undefined) {
      throw new KeystoreError("store", `the name ${name} is taken in ${dir}`, "choose another name");
    }
    if (readPublicKey(dir, name) !== undefined) {
      throw new KeystoreError("store", `${name} is the kid of another key in ${dir}`, "choose another name");
    }
    if (isPrivate(jwk)) writeFileSafely(layout.privateKey(dir, kid), json({ ...jwk, kid }), SECRET, "create");
    const created = new Date().toISOString().replace(/\.\d+/, "");
    writeFileSafely(layout.publicKey(dir, kid), json({ ...publicJwk(jwk), kid, created }), PUBLIC, "create");
    writeFileSafely(layout.name(dir, name), `${kid}\n`, PUBLIC, "create");
    if (readDefault(dir) === undefined) writeFileSafely(layout.defaultName(dir), `${name}\n`, PUBLIC, "replace");
    return kid;
  });
}

/** Makes a name the default key. @throws KeystoreError `recipient` if there is no such name */
export async function setDefault(dir: string, name: string): Promise<void> {
  mustBeName(name);
  await change(dir, () => {
    if (readName(dir, name) === undefined) {
      throw new KeystoreError("recipient", `no key named ${name} in ${dir}`, "see ocicrypt-keystore list");
    }
    writeFileSafely(layout.defaultName(dir), `${name}\n`, PUBLIC, "replace");
  });
}

async function change<T>(dir: string, work: () => T): Promise<T> {
  makeFolder(dir, 0o755);
  return await withLock(layout.lock(dir), () => {
    makeFolder(layout.publicDir(dir), 0o755);
    makeFolder(layout.privateDir(dir), 0o700);
    makeFolder(layout.namesDir(dir), 0o755);
    return work();
  });
}

function json(value: object): string {
  return `${JSON.stringify(value)}\n`;
}
