// Private keys at rest: a locked file is a JWE whose plaintext is the private JWK (RFC 7517, section 7). Each kind of
// lock has its own module, and a row here.
//
//     secret.ts          with a passphrase or a master key
//     tang.ts            for a Tang server, as clevis does: advertisement.ts reads its keys, http.ts calls it
//     sss.ts             for several of clevis's pins, some of which must open: shares of a key
//     tpm2.ts            for a TPM, as clevis does
//     locked-file.ts     what all kinds have in common

import { keyError } from "../errors.ts";
import { member } from "../json.ts";
import {
  clevisPin,
  onlyClevisOpens,
  parseLocked,
  type AtRest,
  type AtRestKind,
  type SecretSource,
  type AtRestType,
} from "./locked-file.ts";
import { byMasterKey, byPassphrase } from "./secret.ts";
import { atRestByShares, shares } from "./sss.ts";
import { byTang } from "./tang.ts";
import { byTpm } from "./tpm2.ts";

const TYPES: readonly AtRestType[] = [byPassphrase, byMasterKey, byTang, byTpm, shares(atRestOf)];

/**
 * How to open a locked file.
 *
 * @param secrets gives the secret, if it is needed
 * @throws KeystoreError `key` if the file is damaged, or locked in a way that we do not know
 */
export function atRestOf(file: Buffer, secrets: SecretSource): AtRest {
  return typeOf(file).atRestOf(file, secrets);
}

/** A lock that `threshold` of these locks open together. @param locks such as those for several Tang servers */
export function atRestByParts(threshold: number, locks: readonly AtRest[]): AtRest {
  return atRestByShares(threshold, locks, atRestOf);
}

/** The kind of lock of a file. @throws KeystoreError `key` if it is damaged, or locked in a way that we do not know */
export function atRestKind(file: Buffer): AtRestKind {
  return atRestOf(file, async () => await Promise.reject(new Error("nothing is opened"))).kind;
}

function typeOf(file: Buffer): AtRestType {
  const { header } = parseLocked(file);
  const [alg, pin] = [member(header, "alg"), clevisPin(header)?.pin];
  const type = TYPES.find((one) => one.alg === alg && (one.pin === undefined || one.pin === pin));
  if (type !== undefined) return type;
  if (pin !== undefined && !TYPES.some((one) => one.pin === pin)) throw onlyClevisOpens(`with clevis's pin ${pin}`);
  const message = "it is locked in a way this program does not know";
  throw keyError(message, "open it with the program that locked it, then import the key");
}
