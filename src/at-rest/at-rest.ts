// Private keys at rest: their JWK as the plaintext of a JWE (RFC 7517, section 7). Each way to lock has a module and a row here.
//
//     secret.ts          with a passphrase or a master key
//     tang.ts            for a Tang server, as clevis does: advertisement.ts reads its keys, http.ts asks it
//     locked-file.ts     the JWE that they have in common

import { keyError } from "../errors.ts";
import { parseLocked, type AtRest, type AtRestKind, type SecretSource, type AtRestType } from "./locked-file.ts";
import { masterKey, passphrase } from "./secret.ts";
import { byTang } from "./tang.ts";

const TYPES: readonly AtRestType[] = [passphrase, masterKey, byTang];

/**
 * What a locked file is locked with.
 *
 * @param secrets gives the secret, should it be asked for
 * @throws KeystoreError `key` if the file is damaged, or locked in no way of ours
 */
export function atRestOf(file: Buffer, secrets: SecretSource): AtRest {
  return typeOf(file).atRestOf(file, secrets);
}

/** How a file is locked. @throws KeystoreError `key` if it is damaged, or locked in no way of ours */
export function atRestKind(file: Buffer): AtRestKind {
  return typeOf(file).kind;
}

function typeOf(file: Buffer): AtRestType {
  const { header } = parseLocked(file);
  const way = TYPES.find(({ fits }) => fits(header));
  if (way !== undefined) return way;
  throw keyError("it is locked in a way this program does not know", "restore it from a backup");
}
