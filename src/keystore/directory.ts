// The key store that is a directory, as wrapping and unwrapping read it. One request costs one or two small reads.

import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { asUnusable, KeystoreError, printable } from "../errors.ts";
import { listFolder, readSmallFile, refuseOpenMode } from "../fs/files.ts";
import { parseJson } from "../json.ts";
import { lockOf } from "../at-rest/at-rest.ts";
import type { AtRest } from "../at-rest/locked-file.ts";
import type { SecretSource } from "../at-rest/secret.ts";
import type { PrivateKey, Recipient } from "../jwe/key.ts";
import { checkJwk, isPrivate, isSymmetric, kidOf, publicJwk, type Jwk, type PrivateJwk, type PublicJwk } from "../jwk/jwk.ts";
import { fileKey } from "./file-key.ts";
import { holderKey, readHolder, type Holder } from "./holder.ts";
import type { KeyStore } from "./keystore.ts";
import { isKid, isName, layout } from "./layout.ts";

const JWK_DEPTH = 4; // nesting of a key file

/**
 * The key store in the directory `dir`. Nothing is read before it is asked for, and `secrets` only for a locked key.
 *
 * @param read reads a private key, for who keeps what was unlocked
 */
export function directoryKeyStore(dir: string, secrets: SecretSource, read = async (kid: string): Promise<PrivateJwk | undefined> => await readPrivateKey(dir, kid, secrets)): KeyStore {
  const byKid = async (kid: string): Promise<Recipient | undefined> => {
    const jwk = readPublicKey(dir, kid);
    if (jwk === undefined || !isSymmetric(jwk)) return jwk && { kid, jwk };
    const secret = await read(kid); // who wraps with a symmetric key needs it
    if (secret === undefined && locatePrivate(dir, kid) !== undefined) throw new KeystoreError("key", `symmetric key ${kid} is held by a command, which only unwraps`, "wrap where the key itself is, or for another recipient");
    if (secret === undefined) throw new KeystoreError("key", `symmetric key ${kid} of ${dir} has no private file`, "wrap where the key is, or for another recipient");
    return { kid, jwk: secret };
  };

  const recipient = async (nameOrKid: string): Promise<Recipient> => {
    const kids = isName(nameOrKid) ? readName(dir, nameOrKid) : undefined;
    const [current] = kids ?? [];
    if (current !== undefined) {
      const found = await byKid(current);
      if (found !== undefined) return found;
      if (readName(dir, nameOrKid)?.[0] !== current) return await recipient(nameOrKid); // removed or replaced while we read
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
        const jwk = await read(kid);
        if (jwk !== undefined) return fileKey(kid, jwk);
        const held = readHeld(dir, kid);
        return held && holderKey(held.holder, held.jwk);
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

/** Where a kid's private key lies and how: the first counts where several are there. */
export function locatePrivate(dir: string, kid: string): { path: string; file: string; kind: "locked" | "file" | "holder" } | undefined {
  const kinds = [["locked", "jwe"], ["file", "jwk"], ["holder", "holder"]] as const;
  const found = lookAgain(() => kinds.find(([, ending]) => existsSync(join(layout.privateDir(dir), `${kid}.${ending}`))));
  if (found === undefined) return undefined;
  const file = `${kid}.${found[1]}`;
  return { path: join(layout.privateDir(dir), file), file, kind: found[0] };
}

const PRIVATE_FILE = /^(.*)\.(?:jwk|jwe|holder)$/;

/** Every kid that has a private key, those that only a command holds last. */
export function privateKids(dir: string): string[] {
  const files = listFolder(layout.privateDir(dir));
  const held = files.filter((file) => file.endsWith(".holder"));
  const kids = [...files.filter((file) => !file.endsWith(".holder")), ...held].map((file) => PRIVATE_FILE.exec(file)?.[1] ?? "");
  return [...new Set(kids)].filter(isKid);
}

/** A public key, checked; undefined if the store has none of that kid. @throws KeystoreError `key` if damaged */
export function readPublicKey(dir: string, kid: string): PublicJwk | undefined {
  const path = layout.publicKey(dir, kid);
  const file = readSmallFile(path);
  return file && publicJwk(parseKeyFile(path, kid, file.bytes)); // whatever somebody put there, no private part goes on
}

/**
 * A private key, checked; undefined if the store has none of that kid itself, but perhaps a holder of it. Where a key is there twice, locked and not, the
 * locked one counts.
 *
 * @throws KeystoreError `key` if it is damaged, if others can read a file that the caller owns, or if it stays locked
 */
export async function readPrivateKey(dir: string, kid: string, secrets: SecretSource): Promise<PrivateJwk | undefined> {
  const found = lookAgain(() => {
    const locked = readSmallFile(layout.lockedKey(dir, kid));
    const file = locked ?? readSmallFile(layout.privateKey(dir, kid));
    return file && { file, locked: locked !== undefined };
  });
  if (found === undefined) return undefined;
  if (found.locked) return await unlockKeyFile(layout.lockedKey(dir, kid), kid, found.file.bytes, secrets);
  const path = layout.privateKey(dir, kid);
  refuseOpenMode(path, "private key", found.file);
  return privatePart(path, parseKeyFile(path, kid, found.file.bytes));
}

/** The holder of a private key, with its public key; undefined if there is none. @throws KeystoreError `key` if it cannot be asked */
export function readHeld(dir: string, kid: string): { holder: Holder; jwk: PublicJwk } | undefined {
  const holder = readHolder(layout.holder(dir, kid), kid);
  if (holder === undefined) return undefined;
  const jwk = readPublicKey(dir, kid);
  if (jwk !== undefined) return { holder, jwk };
  throw new KeystoreError("key", `key ${kid} is held by a command, and its public file is missing`, `restore ${layout.publicKey(dir, kid)} from a backup, or import the key with its holder again`);
}

/** Looks again where nothing was found: between the looks for a locked file and an open one, either may turn into the other. */
function lookAgain<T>(look: () => T | undefined): T | undefined {
  for (let tries = 0; tries < 4; tries++) {
    const found = look();
    if (found !== undefined) return found;
  }
  return undefined;
}

/** The private key in the bytes of a locked file. @throws KeystoreError `key` if the secret is another one, or it is damaged */
export async function unlockKeyFile(path: string, kid: string, bytes: Buffer, secrets: SecretSource): Promise<PrivateJwk> {
  return await openKeyFile(path, kid, bytes, naming(path, () => lockOf(bytes, secrets)));
}

/** {@link unlockKeyFile} with the lock that it is known to have. */
export async function openKeyFile(path: string, kid: string, bytes: Buffer, { kind, open }: AtRest): Promise<PrivateJwk> {
  const jwk = await open(bytes).catch((error: unknown) => {
    throw withPath(path, error);
  });
  if (jwk === undefined) {
    throw new KeystoreError("key", `locked key ${path} does not open: wrong ${kind}, or the file is damaged`, `give the ${kind} it was locked with`, 3);
  }
  return privatePart(path, parseKeyFile(path, kid, jwk));
}

/** Looks at a locked file: what is thrown names it. */
export function naming<T>(path: string, look: () => T): T {
  try {
    return look();
  } catch (error) {
    throw withPath(path, error);
  }
}

function withPath(path: string, error: unknown): unknown {
  return error instanceof KeystoreError ? new KeystoreError("key", `locked key ${path}: ${error.message}`, error.hint, error.exitCode) : error;
}

function privatePart(path: string, jwk: Jwk): PrivateJwk {
  if (isPrivate(jwk)) return jwk;
  throw new KeystoreError("key", `private key ${path} has no private part`, "restore it from a backup");
}

/** A key file's bytes as the checked key its name promises. @throws KeystoreError `key` if it is damaged or another one */
export function parseKeyFile(path: string, kid: string, bytes: Buffer): Jwk {
  const damaged = (reason: string): KeystoreError =>
    new KeystoreError("key", `key file ${path} is damaged: it ${reason}`, "restore it from a backup, or move it away");
  const jwk = checkJwk(parseJson(bytes, JWK_DEPTH, damaged), damaged);
  if ((kidOf(jwk) || kid) !== kid) throw damaged("holds another key than its name says");
  return jwk;
}
