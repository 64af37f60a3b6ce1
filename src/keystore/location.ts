// Finds the directory of the key store.

import { join, resolve } from "node:path";
import { KeystoreError, storeError } from "../errors.ts";
import { inUserNamespace } from "../fs/user-namespace.ts";

/**
 * The key store directory, absolute: `given`, else $OCICRYPT_KEYSTORE, else ocicrypt-keystore in
 * {@link configFolder}. If HOME is not an absolute path, the home directory is that of the passwd entry.
 *
 * @throws KeystoreError `store` if there is no home directory
 */
export function storeLocation(given: string | undefined): string {
  const chosen = given ?? process.env["OCICRYPT_KEYSTORE"];
  if (chosen !== undefined && chosen !== "") return absolute(chosen);
  return join(configFolder(), "ocicrypt-keystore");
}

/**
 * The folder of this user's configuration: /etc for root, else $XDG_CONFIG_HOME or ~/.config.
 *
 * @throws KeystoreError `store` if there is no home directory
 */
export function configFolder(): string {
  if (process.geteuid?.() === 0 && !inUserNamespace()) return "/etc";
  const config = process.env["XDG_CONFIG_HOME"];
  // The XDG specification says to ignore a relative path.
  return config?.startsWith("/") === true ? config : join(home(), ".config");
}

function absolute(path: string): string {
  try {
    const resolved = resolve(path);
    if (resolved.includes("\ufffd"))
      throw storeError("the working directory's name is not UTF-8", "name the key store with an absolute path");
    return resolved;
  } catch (error) {
    if (error instanceof KeystoreError) throw error;
    throw storeError("the working directory is gone", "name the key store with an absolute path");
  }
}

/** A HOME that is empty or relative would leave the choice of recipients to whoever owns the working directory. */
function home(): string {
  const { HOME = "" } = process.env;
  if (HOME.startsWith("/")) return HOME;
  try {
    return process.getBuiltinModule("node:os").userInfo().homedir; // loaded only if it is needed
  } catch {
    const message = "this user has no home directory, so there is no default key store";
    throw storeError(message, "set OCICRYPT_KEYSTORE or --keystore DIR");
  }
}
