// All checks, in the order in which things depend on each other, and what can be mended.

import { existsSync } from "node:fs";
import { asKeystoreError } from "../errors.ts";
import { isLeftBehind, lockOwner } from "../fs/lock-owner.ts";
import { removeLock } from "../fs/lock.ts";
import { storeLocation } from "../keystore/location.ts";
import type { SecretFiles } from "../at-rest/secret-files.ts";
import { changeStore, storeLocks } from "../keystore/store-lock.ts";
import type { Check } from "./check.ts";
import { clientChecks } from "./clients.ts";
import { configChecks, readProviders, type Provider } from "./config-file.ts";
import { CONTAINERD_CONF, containerdChecks } from "./containerd.ts";
import { holderChecks } from "./holders.ts";
import { roundTrip } from "./round-trip.ts";
import { storeChecks } from "./store.ts";

/** Looks at everything and changes nothing. */
export async function examine(dir: string, given: SecretFiles): Promise<Check[]> {
  const file = configFile();
  const own = ownProvider(file);
  const store = await storeChecks(dir, secretsOf(given, own));
  const holders = await holderChecks(dir);
  const askHolders = holders.every(({ status }) => status !== "fail");
  return [
    ...store,
    ...holders,
    ...(await configChecks(file, dir)),
    ...(await clientChecks()),
    ...(await containerdChecks()),
    ...(await (own === undefined ? roundTrip(asConfigured(dir, given), dir, askHolders) : roundTrip(own, storeLocation(own.options?.keystore), askHolders))),
  ];
}

/**
 * Mends what can be mended without losing anything.
 *
 * @param force also the lock of a process that cannot be seen from here
 * @returns a line for each thing
 */
export async function mend(dir: string, given: SecretFiles, force: boolean): Promise<string[]> {
  const secrets = secretsOf(given, ownProvider(configFile()));
  const lines = new Map<string, string>();
  for (const path of storeLocks(dir)) await mendLock(path, force, lines);
  const fresh = async (): Promise<Check[]> => (await storeChecks(dir, secrets)).filter((check) => check.mend !== undefined && !lines.has(check.message));
  if ((await fresh()).length === 0) return [...lines.values()]; // nothing is written to a store that needs nothing
  await changeStore(dir, async () => {
    // One mended thing lets another be seen: a secret that can be used only now opens what is locked.
    for (let found = await fresh(); found.length > 0; found = await fresh()) {
      for (const { message, mend: mendIt } of found) {
        try {
          mendIt?.();
          lines.set(message, `mended: ${message}`);
        } catch (error) {
          lines.set(message, `not mended: ${message}: ${asKeystoreError(error).message}`);
        }
      }
    }
  });
  return [...lines.values()];
}

/** Removes a lock that is left behind. It is not taken for that: nobody could help where it is in the way. */
async function mendLock(path: string, force: boolean, lines: Map<string, string>): Promise<void> {
  try {
    const owner = lockOwner(path);
    if (owner.state === "none" || (!isLeftBehind(owner) && !(force && owner.state === "unknown"))) return;
    await removeLock(path, owner);
    lines.set(path, `mended: ${path} of ${owner.who} ${owner.where} is removed`);
  } catch (error) {
    lines.set(path, `not mended: ${asKeystoreError(error).message}`);
  }
}

function configFile(): string | undefined {
  return process.env["OCICRYPT_KEYPROVIDER_CONFIG"] || (existsSync(CONTAINERD_CONF) ? CONTAINERD_CONF : undefined);
}

/** The entry that starts this program, and not one of its commands. */
function ownProvider(file: string | undefined): Provider | undefined {
  return file === undefined ? undefined : readProviders(file).find(({ own, options }) => own && options !== undefined);
}

/** The secret is where the command line says, else where the client's provider gets it. */
function secretsOf(given: SecretFiles, own: Provider | undefined): SecretFiles {
  const { passphraseFile, masterKeyFile } = own?.options ?? {};
  return { passphraseFile: given.passphraseFile ?? passphraseFile, masterKeyFile: given.masterKeyFile ?? masterKeyFile };
}

/** This program as `config` would name it. */
function asConfigured(dir: string, { passphraseFile, masterKeyFile }: SecretFiles): Provider {
  const options = { keystore: dir, provider: "keystore", ...(passphraseFile && { "passphrase-file": passphraseFile }), ...(masterKeyFile && { "master-key-file": masterKeyFile }) };
  const args = Object.entries(options).flatMap(([name, value]) => [`--${name}`, value]);
  return { name: "keystore", path: process.execPath, args, options: undefined, own: true };
}
