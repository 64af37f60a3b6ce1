// What wrapping and unwrapping need of a key store, whatever it is made of.

import type { PrivateKeys, Recipient } from "../jwe/key.ts";

/** A key store: recipients to wrap for, private keys to unwrap with. */
export interface KeyStore extends PrivateKeys {
  /**
   * Whom a name or a kid stands for. Names are looked up first.
   *
   * @throws KeystoreError `recipient` if there is nobody of that name, or only a retired key; `store`, `key` if it cannot be read
   */
  recipient(nameOrKid: string): Promise<Recipient>;
  /** Whom the default key stands for. @throws KeystoreError `recipient` if there is none */
  defaultRecipient(): Promise<Recipient>;
}
