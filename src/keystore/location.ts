// Where the key store is, when nobody says.

import { join, resolve } from "node:path";
import { KeystoreError, storeError } from "../errors.ts";
import { inUserNamespace } from "../fs/user-namespace.ts";

/**
 * The key store directory, absolute: what was given, $OCICRYPT_KEYSTORE, /etc/ocicrypt-keystore for root, else
 * ocicrypt-keystore in $XDG_CONFIG_HOME or ~/.config, the home directory being the passwd entry's when HOME is unset.
 *
 * @throws KeystoreError `store` if there is no home directory to look in
 */
export function storeLocation(given: string | undefined): string {
  const chosen = given ?? process.env["OCICRYPT_KEYSTORE"];
  if (chosen !== undefined && chosen !== "") return absolute(chosen);
  if (process.geteuid?.() === 0 && !inUserNamespace()) return "/etc/ocicrypt-keystore";
  const config = process.env["XDG_CONFIG_HOME"];
  if (config?.startsWith("/") === true) return join(config, "ocicrypt-keystore"); // the XDG specification ignores relative ones
  return join(home(), ".config", "ocicrypt-keystore");
}

function absolute(path: string): string {
  try {
    const resolved = resolve(path);
    if (resolved.includes("\ufffd")) throw storeError("the working directory's name is not UTF-8", "name the key store with an absolute path");
    return resolved;
  } catch (error) {
    if (error instanceof KeystoreError) throw error;
    throw storeError("the working directory is gone", "name the key store with an absolute path");
  }
}

function home(): string {
  try {
    return process.getBuiltinModule("node:os").homedir(); // loaded when it is needed
  } catch {
    throw storeError("no home directory for this user, so no default key store", "set OCICRYPT_KEYSTORE or --keystore DIR");
  }
}
