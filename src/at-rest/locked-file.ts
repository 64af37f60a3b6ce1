// What locked private keys have in common: a JWE with one recipient. Only files of the store are opened this way; annotations never
// have PBES2, ECDH-ES or a key without a kid.

import { keyError, KeystoreError } from "../errors.ts";
import type { JsonObject } from "../json.ts";
import { parseJwe, type ParsedJwe, type ParsedRecipient } from "../jwe/gate.ts";

/** What a person or a file gives to unlock with. */
export type SecretKind = "passphrase" | "master key";

/** Gives the secret of a kind. @throws KeystoreError `unusable` if there is none or it cannot be used */
export type SecretSource = (kind: SecretKind) => Promise<Buffer>;

/** How a private key can be locked: with a secret of its owner, or so that a server must be asked. */
export type AtRestKind = SecretKind | "Tang server";

/** A lock, with the secret or the server that belongs to it. */
export interface AtRest {
  readonly kind: AtRestKind;
  /** Seals a private key's JSON: the content of its locked file. */
  readonly seal: (jwk: Buffer) => Promise<Buffer>;
  /**
   * Opens a file that is locked in this way.
   *
   * @returns the JWK's JSON, undefined if the secret is another one or the file was changed
   * @throws KeystoreError `key` if the file is damagedLockedKey, with exit code 3 if the secret or the server cannot be had
   */
  readonly open: (file: Buffer) => Promise<Buffer | undefined>;
  /** Whether a file of this kind is locked for the same server. Of secrets only opening it tells: true. */
  readonly sameAs: (file: Buffer) => boolean;
  /** Where it is asked, for a server. */
  readonly url?: string;
}

/** A kind of lock. */
export interface AtRestType {
  readonly kind: AtRestKind;
  /** Whether a locked file with this header is of this kind. */
  readonly fits: (header: JsonObject) => boolean;
  /** What a file of this kind is locked with. @throws KeystoreError `key` if it is damaged */
  readonly atRestOf: (file: Buffer, secrets: SecretSource) => AtRest;
}

/** A locked private key, which has one recipient. @throws KeystoreError `key`: what the gate says is about annotations */
export function parseLocked(file: Buffer): ParsedRecipient & { readonly jwe: ParsedJwe } {
  try {
    const jwe = parseJwe(file);
    const [recipient] = jwe.recipients;
    if (recipient !== undefined) return { jwe, ...recipient };
  } catch (error) {
    if (!(error instanceof KeystoreError)) throw error;
  }
  throw damagedLockedKey();
}

/** Says of a locked key that no secret opens it. */
export function damagedLockedKey(): KeystoreError {
  return keyError("it is damaged, or has parameters out of bounds", "restore it from a backup");
}
