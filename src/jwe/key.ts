// What a JWE needs from keys, whoever holds them. Implemented by keystore/.

import type { EcJwk, Jwk } from "../jwk/jwk.ts";

/** One private key. Each operation is one private operation of its key type; the others reject. */
export interface PrivateKey {
  readonly kid: string;
  /** The checked JWK as far as the holder shows it: its kty, size and usage members decide which recipients it can open. */
  readonly jwk: Jwk;
  /** Set where each operation starts a command. Its failures are KeystoreErrors (exit code 3), not faults of the annotation. */
  readonly holder?: true;
  /** RSAES-OAEP (RFC 8017, section 7.1): the CEK, or a rejection whatever was wrong. */
  rsaOaep(encryptedKey: Buffer, hash: "sha1" | "sha256"): Promise<Buffer>;
  /** ECDH: the raw shared secret Z, as long as the curve's field. `epk` is a checked public key on the key's curve. */
  ecdh(epk: EcJwk): Promise<Buffer>;
  /** AES Key Wrap (RFC 3394): the CEK, or a rejection whatever was wrong. */
  aesKeyUnwrap(encryptedKey: Buffer): Promise<Buffer>;
}

/** Where {@link open} finds private keys. */
export interface PrivateKeys {
  /**
   * The private key of a kid, undefined if there is none.
   *
   * @throws KeystoreError (exit code 3) if there is one that cannot be used: mode, damage, locked
   */
  privateKey(kid: string): Promise<PrivateKey | undefined>;
  /** Every kid with a private key: read only for a JWE whose kids are not known here. */
  privateKids(): Promise<string[]>;
}

/** Whom a JWE is sealed for: a public EC or RSA key, or a symmetric key with its `k`. */
export interface Recipient {
  readonly kid: string;
  readonly jwk: Jwk;
}
