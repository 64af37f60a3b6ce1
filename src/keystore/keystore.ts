// What wrapping and unwrapping need of a key store.

import type { PrivateKeys, Recipient } from "../jwe/key.ts";

/** A key store: recipients to wrap for, private keys to unwrap with. */
export interface KeyStore extends PrivateKeys {
  /**
   * The recipient of a name or a kid. Names are looked up first.
   *
   * @throws KeystoreError `recipient` if there is no such name or kid, or only a retired key; `store` or `key` if it
   * cannot be read
   */
  recipient(nameOrKid: string): Promise<Recipient>;
  /** The default key as a recipient. @throws KeystoreError `recipient` if there is no default key */
  defaultRecipient(): Promise<Recipient>;
}
