// The folders and names of a key store directory, and the grammar of names and kids.

import { join } from "node:path";
import { KeystoreError, printable } from "../errors.ts";

/** The paths inside a key store directory. */
export const layout = {
  publicDir: (dir: string): string => join(dir, "public"),
  publicKey: (dir: string, kid: string): string => join(dir, "public", `${kid}.jwk`),
  privateDir: (dir: string): string => join(dir, "private"),
  privateKey: (dir: string, kid: string): string => join(dir, "private", `${kid}.jwk`),
  lockedKey: (dir: string, kid: string): string => join(dir, "private", `${kid}.jwe`),
  holder: (dir: string, kid: string): string => join(dir, "private", `${kid}.holder`),
  namesDir: (dir: string): string => join(dir, "names"),
  name: (dir: string, name: string): string => join(dir, "names", name),
  defaultName: (dir: string): string => join(dir, "default"),
  removedDir: (dir: string): string => join(dir, "removed"),
  removedFile: (dir: string, file: string): string => join(dir, "removed", file),
  lock: (dir: string): string => join(dir, ".lock"),
} as const;

/** Whether text may be a key's name: 1 to 64 of a-z A-Z 0-9 . _ - and no dot first. `Enabled` is what clients send for no value. */
export function isName(text: string): boolean {
  return /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$/.test(text) && text !== "Enabled";
}

/** Whether text may be a kid and so part of a file name: base64url, 1 to 128 characters. */
export function isKid(text: string): boolean {
  return /^[A-Za-z0-9_-]{1,128}$/.test(text);
}

/** A name that a user chose, checked. @throws KeystoreError `usage` */
export function mustBeName(text: string): string {
  if (isName(text)) return text;
  throw new KeystoreError(
    "usage",
    `"${printable(text, 64)}" cannot be a key's name`,
    "use 1 to 64 of the characters a-z A-Z 0-9 . _ - with no dot first; Enabled is reserved",
  );
}
