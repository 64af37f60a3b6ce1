// What a JWE needs of keys, whoever holds them. keystore/ and keys/ implement it.

import type { Jwk } from "../jwk/jwk.ts";
import type { WrappedCek } from "./alg/family.ts";

/** One private key. */
export interface PrivateKey {
  readonly kid: string;
  /** The checked JWK, or its public part: type, size and usage members decide which recipients the key can open. */
  readonly jwk: Jwk;
  /** Whether each operation starts a command. Its failures are KeystoreErrors (exit code 3), not faults of the JWE. */
  readonly holder?: true;
  /**
   * Does the private operation that unwraps a CEK, which must fit the key: RSAES-OAEP gives the CEK, ECDH the raw
   * shared secret, AES Key Wrap the CEK.
   *
   * @throws any error if it fails
   */
  perform(wrapped: WrappedCek): Promise<Buffer>;
}

/** Where {@link open} finds private keys. */
export interface PrivateKeys {
  /**
   * The private key of a kid, undefined if there is none.
   *
   * @throws KeystoreError (exit code 3) if the key cannot be used: its mode, damage, or it stays locked
   */
  privateKey(kid: string): Promise<PrivateKey | undefined>;
  /** Every kid that has a private key; only called for a JWE that none of the kids in it opened. */
  privateKids(): Promise<string[]>;
}

/** A key that a JWE is sealed for: a public EC or RSA key, or a symmetric key with its `k`. */
export interface Recipient {
  readonly kid: string;
  readonly jwk: Jwk;
}
