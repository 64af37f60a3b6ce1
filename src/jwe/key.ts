// What a JWE needs from keys, whoever holds them. Implemented by keystore/.

import type { Jwk } from "../jwk/jwk.ts";
import type { Ask } from "./alg/family.ts";

/** One private key. */
export interface PrivateKey {
  readonly kid: string;
  /** The checked JWK as far as the holder shows it: its type, size and usage members decide which recipients it can open. */
  readonly jwk: Jwk;
  /** Set where each operation starts a command. Its failures are KeystoreErrors (exit code 3), not faults of the annotation. */
  readonly holder?: true;
  /**
   * Does the private operation that a recipient asks for, which must fit the key: RSAES-OAEP gives the CEK, ECDH the
   * raw shared secret, AES Key Wrap the CEK.
   *
   * @throws whatever was wrong
   */
  perform(ask: Ask): Promise<Buffer>;
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
