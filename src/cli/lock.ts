// lock and unlock: private keys encrypted at rest, and back.

import { mustExist } from "../keystore/directory.ts";
import { lockKeys, unlockKeys } from "../keystore/locked.ts";
import { storeLocation } from "../keystore/location.ts";
import { cliSecrets, newSecret } from "./secrets.ts";
import { tell, type Cli } from "./shared.ts";

/** Adds lock. */
export function lock(cli: Cli): void {
  cli.command(
    "lock",
    "Encrypt all private keys at rest",
    (yargs) =>
      yargs
        .example("$0 lock", "With a passphrase, asked for twice")
        .example("$0 lock --master-key-file FILE", "With 32 random bytes: no slow derivation at each start"),
    async ({ keystore, ...given }) => {
      const dir = storeLocation(keystore);
      mustExist(dir);
      const { kind, secrets } = newSecret(given);
      await secrets(kind); // asked for before the store's lock is taken: other writers do not wait for somebody who types
      tell(`locked ${await lockKeys(dir, kind, secrets)} private keys with a ${kind}`);
    },
  );
}

/** Adds unlock. */
export function unlock(cli: Cli): void {
  cli.command(
    "unlock",
    "Decrypt all private keys at rest",
    (yargs) => yargs.example("$0 unlock", "Asks for the passphrase"),
    async ({ keystore, ...given }) => tell(`unlocked ${await unlockKeys(storeLocation(keystore), cliSecrets(given))} private keys`),
  );
}
