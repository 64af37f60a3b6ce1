// The files of keys: what their bytes must be.

import { atRestKind, atRestOf } from "../at-rest/at-rest.ts";
import type { AtRest, AtRestKind, SecretSource } from "../at-rest/locked-file.ts";
import { keyError, KeystoreError, storeError, unusableError } from "../errors.ts";
import { readSmallFile, type SmallFile } from "../fs/read.ts";
import { parseJson, type Fail } from "../json.ts";
import { checkJwk, isPrivate, kidOf, type Jwk, type PrivateJwk } from "../jwk/jwk.ts";

const JWK_DEPTH = 4; // nesting of a key file

/** A key file's bytes as the checked key its name promises. @throws KeystoreError `key` if it is damaged or another one */
export function parseKeyFile(path: string, kid: string, bytes: Buffer): Jwk {
  const fail: Fail = (reason) =>
    keyError(`key file ${path} is damaged: it ${reason}`, "restore it from a backup, or move it away");
  const jwk = checkJwk(parseJson(bytes, JWK_DEPTH, fail), fail);
  if ((kidOf(jwk) || kid) !== kid) throw fail("holds another key than its name says");
  return jwk;
}

/** {@link parseKeyFile} for a file that must have a private part. */
export function parsePrivateFile(path: string, kid: string, bytes: Buffer): PrivateJwk {
  const jwk = parseKeyFile(path, kid, bytes);
  if (isPrivate(jwk)) return jwk;
  throw keyError(`private key ${path} has no private part`, "restore it from a backup");
}

/**
 * The private key in the bytes of a locked file.
 *
 * @throws KeystoreError `key` if it is damaged, with exit code 3 if the secret is another one or the server does not help
 */
export async function unlockKeyFile(path: string, kid: string, bytes: Buffer, secrets: SecretSource): Promise<PrivateJwk> {
  return await openKeyFile(path, kid, bytes, atRestOfFile(path, bytes, secrets));
}

/** {@link unlockKeyFile} with the lock that the file is known to have. */
export async function openKeyFile(path: string, kid: string, bytes: Buffer, { kind, open }: AtRest): Promise<PrivateJwk> {
  const jwk = await open(bytes).catch((error: unknown) => {
    throw naming(path, error);
  });
  if (jwk !== undefined) return parsePrivateFile(path, kid, jwk);
  const message = `locked key ${path} does not open: wrong ${kind}, or the file is damaged`;
  throw unusableError(message, `give the ${kind} it was locked with`);
}

/** What a locked file is locked with. @throws KeystoreError `key` if it is damaged; the message names it */
export function atRestOfFile(path: string, bytes: Buffer, secrets: SecretSource): AtRest {
  return look(path, () => atRestOf(bytes, secrets));
}

/** How a file is locked. @throws KeystoreError `key` if it is damaged; the message names it */
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

/** The bytes of a file that was there a moment ago. @throws KeystoreError `store` if it is gone */
export function mustRead(path: string): Buffer {
  return mustReadFile(path).bytes;
}

/** A file that was there a moment ago. @throws KeystoreError `store` if it is gone */
export function mustReadFile(path: string): SmallFile {
  const file = readSmallFile(path);
  if (file !== undefined) return file;
  throw storeError(`${path} is gone`, "somebody else changes the store by hand: try again");
}
