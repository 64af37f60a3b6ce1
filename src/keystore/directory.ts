// The key store that is a directory, as wrapping and unwrapping read it. One request costs one or two small reads.

import { statSync } from "node:fs";
import { KeystoreError, printable } from "../errors.ts";
import { parseJson } from "../json.ts";
import type { PrivateKey, Recipient } from "../jwe/key.ts";
import { checkJwk, isPrivate, publicJwk, thumbprint, type Jwk } from "../jwk/jwk.ts";
import { fileKey } from "./file-key.ts";
import { listFolder, readSmallFile, type SmallFile } from "./files.ts";
import type { KeyStore } from "./keystore.ts";
import { isKid, isName, layout } from "./layout.ts";

const JWK_DEPTH = 4; // nesting of a key file

/** The key store in the directory `dir`. Nothing is read before it is asked for. */
export function directoryKeyStore(dir: string): KeyStore {
  const byKid = async (kid: string): Promise<Recipient | undefined> => {
    const jwk = readPublicKey(dir, kid);
    if (jwk?.kty !== "oct") return jwk && { kid, jwk };
    const secret = readPrivateKey(dir, kid); // who wraps with a symmetric key needs it
    if (secret === undefined) throw new KeystoreError("key", `symmetric key ${kid} of ${dir} has no private file`, "wrap where the key is, or for another recipient");
    return { kid, jwk: secret };
  };

  const recipient = async (nameOrKid: string): Promise<Recipient> => {
    const kids = isName(nameOrKid) ? readName(dir, nameOrKid) : undefined;
    const [current] = kids ?? [];
    if (current !== undefined) {
      const found = await byKid(current);
      if (found !== undefined) return found;
      throw new KeystoreError("store", `key ${current} of ${nameOrKid} is missing in ${layout.publicDir(dir)}`, "restore that file from a backup");
    }
    const found = isKid(nameOrKid) ? await byKid(nameOrKid) : undefined;
    if (found === undefined) throw noRecipient(dir, nameOrKid);
    const successor = isKid(nameOrKid) ? retiredFor(dir, nameOrKid) : undefined;
    if (successor === undefined) return found;
    throw new KeystoreError("recipient", `key ${nameOrKid} is retired and wraps no more`, `use ${successor}, the name it was rotated under`);
  };

  return {
    recipient,
    defaultRecipient: async () => {
      const name = readDefault(dir);
      if (name !== undefined) return await recipient(name);
      mustExist(dir);
      throw new KeystoreError(
        "recipient",
        `no default key in ${dir}`,
        "set one with ocicrypt-keystore default NAME, or name a recipient: provider:PROVIDER:NAME",
      );
    },
    privateKey: async (kid): Promise<PrivateKey | undefined> => {
      if (!isKid(kid)) return undefined;
      try {
        const jwk = readPrivateKey(dir, kid);
        return jwk && fileKey(kid, jwk);
      } catch (error) {
        throw asUnusable(error);
      }
    },
    privateKids: async () => {
      try {
        mustExist(dir);
        return privateKids(dir);
      } catch (error) {
        throw asUnusable(error);
      }
    },
  };
}

/** A key that would open the annotation and cannot be used is exit code 3. */
function asUnusable(error: unknown): unknown {
  return error instanceof KeystoreError ? new KeystoreError(error.code, error.message, error.hint, 3) : error;
}

/** @throws KeystoreError `store` if the directory is not there */
export function mustExist(dir: string): void {
  if (statSync(dir, { throwIfNoEntry: false }) !== undefined) return;
  throw new KeystoreError("store", `no key store at ${dir}`, "make one with ocicrypt-keystore keygen NAME, or say where it is with --keystore DIR");
}

function noRecipient(dir: string, nameOrKid: string): unknown {
  mustExist(dir);
  const shown = printable(nameOrKid, 64);
  return new KeystoreError(
    "recipient",
    `unknown recipient "${shown}": no such name or kid in ${dir}`,
    "see ocicrypt-keystore list, or make a key with ocicrypt-keystore keygen NAME",
  );
}

/** The name under which a kid is retired and nowhere current. */
function retiredFor(dir: string, kid: string): string | undefined {
  let retired: string | undefined;
  for (const name of nameList(dir)) {
    const place = readName(dir, name)?.indexOf(kid) ?? -1;
    if (place === 0) return undefined;
    if (place > 0) retired ??= name;
  }
  return retired;
}

/** The names in the store, sorted. */
export function nameList(dir: string): string[] {
  return listFolder(layout.namesDir(dir)).filter(isName);
}

/** The kids of a name, the current one first; undefined if there is no such name. @throws KeystoreError `store` if damaged */
export function readName(dir: string, name: string): string[] | undefined {
  const file = readSmallFile(layout.name(dir, name));
  if (file === undefined) return undefined;
  const kids = file.bytes.toString("latin1").replace(/\n$/, "").split("\n");
  if (kids.every(isKid)) return kids;
  throw new KeystoreError("store", `${layout.name(dir, name)} is damaged: it must hold a kid a line`, "restore it from a backup");
}

/** The name of the default key, if one is set. @throws KeystoreError `store` if damaged */
export function readDefault(dir: string): string | undefined {
  const file = readSmallFile(layout.defaultName(dir));
  if (file === undefined) return undefined;
  const name = file.bytes.toString("latin1").trim();
  if (isName(name)) return name;
  throw new KeystoreError("store", `${layout.defaultName(dir)} is damaged: it must hold a name`, "set it anew with ocicrypt-keystore default NAME");
}

/** Every kid that has a private key. */
export function privateKids(dir: string): string[] {
  return listFolder(layout.privateDir(dir))
    .filter((file) => file.endsWith(".jwk"))
    .map((file) => file.slice(0, -".jwk".length))
    .filter(isKid);
}

/** A public key, checked; undefined if the store has none of that kid. @throws KeystoreError `key` if damaged */
export function readPublicKey(dir: string, kid: string): Jwk | undefined {
  const path = layout.publicKey(dir, kid);
  const file = readSmallFile(path);
  return file && publicJwk(parseKeyFile(path, kid, file)); // whatever somebody put there, no private part goes on
}

/**
 * A private key, checked; undefined if the store has none of that kid.
 *
 * @throws KeystoreError `key` if it is damaged, or if others can read a file that the caller owns (ssh's rule)
 */
export function readPrivateKey(dir: string, kid: string): Jwk | undefined {
  const path = layout.privateKey(dir, kid);
  const file = readSmallFile(path);
  if (file === undefined) return undefined;
  refuseOpenMode(path, file);
  const jwk = parseKeyFile(path, kid, file);
  if (!isPrivate(jwk)) throw new KeystoreError("key", `private key ${path} has no private part`, "restore it from a backup");
  return jwk;
}

function refuseOpenMode(path: string, { stat }: SmallFile): void {
  if (stat.uid !== process.geteuid?.() || (stat.mode & 0o077) === 0) return; // another owner's file is the administrator's choice
  const mode = (stat.mode & 0o7777).toString(8).padStart(4, "0");
  throw new KeystoreError("key", `private key ${path} can be read by others (mode ${mode})`, `run chmod 600 ${path}`);
}

function parseKeyFile(path: string, kid: string, { bytes }: SmallFile): Jwk {
  const damaged = (reason: string): KeystoreError =>
    new KeystoreError("key", `key file ${path} is damaged: it ${reason}`, "restore it from a backup, or move it away");
  const jwk = checkJwk(parseJson(bytes, JWK_DEPTH, damaged), damaged);
  if ((jwk.kty === "oct" ? (jwk.kid ?? kid) : thumbprint(jwk)) !== kid) throw damaged("holds another key than its name says");
  return jwk;
}
