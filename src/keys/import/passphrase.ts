// The passphrase of an encrypted key.

import type { KeystoreError } from "../../errors.ts";
import { refused } from "./refusal.ts";

/** Gives the passphrase of an encrypted key. */
export type Passphrase = () => Promise<Buffer>;

/** What may be meant by what was given: a file that was written on Windows ends in a carriage return. */
export function passphrasesIn(given: Buffer): readonly Buffer[] {
  return given.at(-1) === 0x0d ? [given, given.subarray(0, -1)] : [given];
}

/** The error for a passphrase that does not open the key. */
export function wrongPassphrase(): KeystoreError {
  const hint = "give the right one with --pem-passphrase-file FILE";
  return refused("is encrypted, and this passphrase does not open it", hint);
}
