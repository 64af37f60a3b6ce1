// Checks the bytes of key files.

import { atRestKind, atRestOf } from "../at-rest/at-rest.ts";
import type { AtRest, AtRestKind, SecretSource } from "../at-rest/locked-file.ts";
import { keyError, KeystoreError, storeError, unusableError } from "../errors.ts";
import { readSmallFile, type SmallFile } from "../fs/read.ts";
import { parseJson, type Fail } from "../json.ts";
import { checkJwk, isPrivate, kidOf, type Jwk, type PrivateJwk } from "../jwk/jwk.ts";

const JWK_DEPTH = 4; // nesting of a key file

/** The checked key in a key file. @throws KeystoreError `key` if it is damaged, or not the key that its name says */
export function parseKeyFile(path: string, kid: string, bytes: Buffer): Jwk {
  const fail: Fail = (reason) =>
    keyError(`key file ${path} is damaged: it ${reason}`, "restore it from a backup, or move it away");
  const jwk = checkJwk(parseJson(bytes, JWK_DEPTH, fail), fail);
  if ((kidOf(jwk) || kid) !== kid) throw fail("holds another key than its file name says");
  return jwk;
}

/** {@link parseKeyFile} for a file that must hold a private key. */
export function parsePrivateFile(path: string, kid: string, bytes: Buffer): PrivateJwk {
  const jwk = parseKeyFile(path, kid, bytes);
  if (isPrivate(jwk)) return jwk;
  throw keyError(`private key ${path} has no private part`, "restore it from a backup");
}

/**
 * The private key in a locked file.
 *
 * @throws KeystoreError `key` if it is damaged, `unusable` if the secret is wrong or the server does not help
 */
export async function unlockKeyFile(
  path: string,
  kid: string,
  bytes: Buffer,
  secrets: SecretSource,
): Promise<PrivateJwk> {
  return await openKeyFile(path, kid, bytes, atRestOfFile(path, bytes, secrets));
}

/** {@link unlockKeyFile} if it is known how the file is locked. */
export async function openKeyFile(
  path: string,
  kid: string,
  bytes: Buffer,
  { kind, open }: AtRest,
): Promise<PrivateJwk> {
  const jwk = await open(bytes).catch((error: unknown) => {
    throw naming(path, error);
  });
  if (jwk !== undefined) return parsePrivateFile(path, kid, jwk);
  const message = `locked key ${path} does not open: wrong ${kind}, or the file is damaged`;
  throw unusableError(message, `give the ${kind} it was locked with`);
}

/** How to open a locked file. @throws KeystoreError `key` if it is damaged; the message names it */
export function atRestOfFile(path: string, bytes: Buffer, secrets: SecretSource): AtRest {
  return look(path, () => atRestOf(bytes, secrets));
}

/** The kind of lock of a file. @throws KeystoreError `key` if it is damaged; the message names it */
export function atRestKindOfFile(path: string, bytes: Buffer): AtRestKind {
  return look(path, () => atRestKind(bytes));
}

function look<T>(path: string, at: () => T): T {
  try {
    return at();
  } catch (error) {
    throw naming(path, error);
  }
}

function naming(path: string, error: unknown): unknown {
  if (!(error instanceof KeystoreError)) return error;
  return new KeystoreError(error.code, `locked key ${path}: ${error.message}`, error.hint);
}

/** The bytes of a file that existed a moment ago. @throws KeystoreError `store` if it is gone */
export function mustRead(path: string): Buffer {
  return mustReadFile(path).bytes;
}

/** A file that existed a moment ago. @throws KeystoreError `store` if it is gone */
export function mustReadFile(path: string): SmallFile {
  const file = readSmallFile(path);
  if (file !== undefined) return file;
  throw storeError(`${path} is gone`, "somebody changed the store by hand: try again");
}
