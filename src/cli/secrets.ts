// The secret that unlocks private keys, for the commands: from a file, else asked for on the terminal.

import { KeystoreError } from "../errors.ts";
import type { SecretKind, SecretSource } from "../jwe/at-rest.ts";
import { checkPassphrase, secretFile, secretFiles, type SecretFiles } from "../keystore/secrets.ts";
import { askSecret } from "./prompt.ts";

const HINT = "give the passphrase with --passphrase-file FILE";

/** Takes a secret from where exec mode finds it, and asks for a passphrase where there is none. Once. */
export function cliSecrets(given: SecretFiles): SecretSource {
  const files = secretFiles(given);
  let asked: Buffer | undefined;
  return async (kind) => {
    if (kind === "master key" || secretFile(kind, given) !== undefined) return await files(kind);
    asked ??= checkPassphrase(await askSecret("Passphrase of the key store: ", HINT));
    return asked;
  };
}

/** The secret to lock with, and its kind: what the command line names, else what the environment names, else a passphrase asked for twice. */
export function newSecret(given: SecretFiles): { kind: SecretKind; secrets: SecretSource } {
  if (given.passphraseFile !== undefined && given.masterKeyFile !== undefined) {
    throw new KeystoreError("usage", "both a passphrase and a master key", "name one of --passphrase-file and --master-key-file");
  }
  const [first, second] = given.masterKeyFile === undefined ? (["passphrase", "master key"] as const) : (["master key", "passphrase"] as const);
  const kind = [first, second].find((one) => secretFile(one, given) !== undefined);
  if (kind !== undefined) return { kind, secrets: secretFiles(given) };
  let chosen: Buffer | undefined;
  return { kind: "passphrase", secrets: async () => (chosen ??= await askTwice()) };
}

async function askTwice(): Promise<Buffer> {
  const passphrase = checkPassphrase(await askSecret("New passphrase for the key store: ", HINT));
  if (passphrase.equals(await askSecret("The same again: ", HINT))) return passphrase;
  throw new KeystoreError("usage", "the two passphrases differ", "try again: nothing was changed");
}
