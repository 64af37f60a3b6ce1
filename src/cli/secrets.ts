// The secret that unlocks private keys, for the commands: it is read from a file, else asked for on the terminal.

import { usageError } from "../errors.ts";
import type { AtRest, SecretSource } from "../at-rest/locked-file.ts";
import { atRestBySecret } from "../at-rest/secret.ts";
import { checkPassphrase, secretFile, secretFiles, type SecretFiles } from "../at-rest/secret-files.ts";
import { storeLocation } from "../keystore/location.ts";
import { openStore, type Store } from "../keystore/store.ts";
import { askSecret } from "./prompt.ts";

const HINT = "give the passphrase with --passphrase-file FILE";

/** Takes a secret from where exec mode finds it, and asks for a passphrase where there is none. Once. */
function cliSecrets(given: SecretFiles): SecretSource {
  const files = secretFiles(given);
  let asked: Buffer | undefined;
  return async (kind) => {
    if (kind === "master key" || secretFile(kind, given) !== undefined) return await files(kind);
    asked ??= checkPassphrase(await askSecret("Passphrase of the key store: ", HINT));
    return asked;
  };
}

/**
 * A lock with the secret that the command line names, else the environment, else a passphrase that is asked for
 * twice. The secret is read or asked for now.
 */
export async function newAtRest(given: SecretFiles): Promise<AtRest> {
  if (given.passphraseFile !== undefined && given.masterKeyFile !== undefined) {
    throw usageError("--passphrase-file cannot be combined with --master-key-file", "give one of the two");
  }
  const kinds = ["passphrase", "master key"] as const;
  const order = given.masterKeyFile === undefined ? kinds : kinds.toReversed();
  const kind = order.find((candidate) => secretFile(candidate, given) !== undefined);
  const secret = kind === undefined ? await askTwice() : await secretFiles(given)(kind);
  return atRestBySecret(kind ?? "passphrase", async () => secret);
}

async function askTwice(): Promise<Buffer> {
  const passphrase = checkPassphrase(await askSecret("New passphrase for the key store: ", HINT));
  if (passphrase.equals(await askSecret("The same again: ", HINT))) return passphrase;
  throw usageError("the two passphrases differ", "try again: nothing was changed");
}

/** The store that the command line names. */
export function cliStore({ keystore, ...given }: SecretFiles & { readonly keystore: string | undefined }): Store {
  return openStore(storeLocation(keystore), cliSecrets(given));
}
