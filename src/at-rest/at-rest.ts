// Private keys at rest: a locked file is a JWE whose plaintext is the private JWK (RFC 7517, section 7). Each kind of
// lock has its own module, and a row here.
//
//     secret.ts          with a passphrase or a master key
//     tang.ts            for a Tang server, as clevis does: advertisement.ts reads its keys, http.ts calls it
//     locked-file.ts     what all kinds have in common

import { keyError } from "../errors.ts";
import { parseLocked, type AtRest, type AtRestKind, type SecretSource, type AtRestType } from "./locked-file.ts";
import { byMasterKey, byPassphrase } from "./secret.ts";
import { byTang } from "./tang.ts";

const TYPES: readonly AtRestType[] = [byPassphrase, byMasterKey, byTang];

/**
 * How to open a locked file.
 *
 * @param secrets gives the secret, if it is needed
 * @throws KeystoreError `key` if the file is damaged, or locked in a way that we do not know
 */
export function atRestOf(file: Buffer, secrets: SecretSource): AtRest {
  return typeOf(file).atRestOf(file, secrets);
}

/** The kind of lock of a file. @throws KeystoreError `key` if it is damaged, or locked in a way that we do not know */
export function atRestKind(file: Buffer): AtRestKind {
  return typeOf(file).kind;
}

function typeOf(file: Buffer): AtRestType {
  const { header } = parseLocked(file);
  const type = TYPES.find(({ fits }) => fits(header));
  if (type !== undefined) return type;
  throw keyError("it is locked in a way this program does not know", "restore it from a backup");
}
