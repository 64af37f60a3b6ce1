// Finds the file with the secret that unlocks private keys at rest.

import { join } from "node:path";
import { asUnusable, keyError, unusableError } from "../errors.ts";
import { MASTER_KEY_BYTES } from "./secret.ts";
import type { SecretKind, SecretSource } from "./locked-file.ts";
import { readSmallFile, refuseOpenMode } from "../fs/read.ts";

/** The files that the command line names. */
export interface SecretFiles {
  readonly passphraseFile?: string | undefined;
  readonly masterKeyFile?: string | undefined;
}

// systemd's LoadCredentialEncrypted= puts its files into $CREDENTIALS_DIRECTORY; containerd passes its environment on.
const PLACES = {
  passphrase: {
    option: "--passphrase-file",
    variable: "OCICRYPT_KEYSTORE_PASSPHRASE_FILE",
    credential: "ocicrypt-keystore.passphrase",
  },
  "master key": {
    option: "--master-key-file",
    variable: "OCICRYPT_KEYSTORE_MASTER_KEY_FILE",
    credential: "ocicrypt-keystore.master-key",
  },
} as const;

/**
 * Reads secrets from files: the one that the option names, else the environment variable, else the systemd credential.
 * Each is read once, when it is needed.
 */
export function secretFiles(given: SecretFiles): SecretSource {
  const known = new Map<SecretKind, Buffer>();
  return async (kind) => {
    const secret = known.get(kind) ?? readSecret(kind, given);
    known.set(kind, secret);
    return secret;
  };
}

/** The file that holds a secret of a kind, undefined if no file is named. */
export function secretFile(kind: SecretKind, { passphraseFile, masterKeyFile }: SecretFiles): string | undefined {
  const { variable, credential } = PLACES[kind];
  const named = (kind === "passphrase" ? passphraseFile : masterKeyFile) ?? process.env[variable];
  if (named !== undefined && named !== "") return named;
  const credentials = process.env["CREDENTIALS_DIRECTORY"];
  const path = credentials === undefined ? undefined : join(credentials, credential);
  return path !== undefined && readSmallFile(path) !== undefined ? path : undefined;
}

function readSecret(kind: SecretKind, given: SecretFiles): Buffer {
  const { option, variable } = PLACES[kind];
  const path = secretFile(kind, given);
  if (path === undefined) {
    throw unusableError(`the private key is locked with a ${kind}`, `give it with ${option} FILE or ${variable}`);
  }
  const hint = `name it with ${option} FILE or ${variable}`;
  return kind === "passphrase" ? readPassphrase(path, hint) : checkMasterKey(path, readSecretFile(kind, path, hint));
}

/**
 * The passphrase in a file, without one final newline.
 *
 * @throws KeystoreError `unusable` if it cannot be used
 */
export function readPassphrase(path: string, hint: string): Buffer {
  return checkPassphrase(withoutNewline(readSecretFile("passphrase", path, hint)));
}

function readSecretFile(kind: SecretKind, path: string, hint: string): Buffer {
  try {
    const file = readSmallFile(path);
    if (file === undefined) throw keyError(`the ${kind} file ${path} is missing`, hint);
    refuseOpenMode(path, kind, file);
    return file.bytes;
  } catch (error) {
    throw asUnusable(error);
  }
}

/** Checks a passphrase. @throws KeystoreError `unusable` if it is empty */
export function checkPassphrase(passphrase: Buffer): Buffer {
  if (passphrase.length > 0) return passphrase;
  throw unusableError("the passphrase is empty", "give a passphrase that is not empty");
}

function checkMasterKey(path: string, bytes: Buffer): Buffer {
  if (bytes.length === MASTER_KEY_BYTES) return bytes;
  const hint = `it must hold ${MASTER_KEY_BYTES} random bytes: head -c ${MASTER_KEY_BYTES} /dev/urandom`;
  throw unusableError(`the master key file ${path} has ${bytes.length} bytes`, hint);
}

/** Removes exactly one final newline, which an editor or echo adds. */
function withoutNewline(bytes: Buffer): Buffer {
  return bytes.at(-1) === 0x0a ? bytes.subarray(0, -1) : bytes;
}
