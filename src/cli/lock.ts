// lock and unlock: private keys encrypted at rest, and back.

import { keyError, printable, usageError } from "../errors.ts";
import { lockKeys, unlockKeys } from "../keystore/relock.ts";
import { meetServer, atRestByTang } from "../at-rest/tang.ts";
import { askYes } from "./prompt.ts";
import { cliStore, newAtRest } from "./secrets.ts";
import { tell, type Cli } from "./shared.ts";

/** Adds lock. */
export function lock(cli: Cli): void {
  cli.command(
    "lock",
    "Encrypt all private keys at rest",
    (yargs) =>
      yargs
        .option("tang", { type: "string", requiresArg: true, describe: "The URL of a Tang server: where it is not reached, nothing opens" })
        .option("thumbprint", { type: "string", requiresArg: true, describe: "A signing key of that server, as tang-show-keys prints it there" })
        .example("$0 lock", "With a passphrase, asked for twice")
        .example("$0 lock --master-key-file FILE", "With 32 random bytes: no slow derivation at each start")
        .example("$0 lock --tang http://tang.example --thumbprint THUMBPRINT", "So that a stolen disk opens nothing"),
    async ({ keystore, tang, thumbprint, ...given }) => {
      const store = cliStore({ keystore, ...given }).mustExist();
      if (tang !== undefined) {
        if (given.passphraseFile !== undefined || given.masterKeyFile !== undefined) throw usageError("both a secret and a Tang server", "name one of --tang, --passphrase-file and --master-key-file");
        const server = await meetServer(tang, async (thumbprints) => await trust(tang, thumbprints, thumbprint));
        return tell(`locked ${await lockKeys(store, atRestByTang(server))} private keys for the Tang server ${tang}`);
      }
      if (thumbprint !== undefined) throw usageError("--thumbprint is of a Tang server", "name it with --tang URL");
      const chosen = await newAtRest(given); // before the store's lock is taken: other writers do not wait for somebody who types
      return tell(`locked ${await lockKeys(store, chosen)} private keys with a ${chosen.kind}`);
    },
  );
}

/** Whether it is the server that is meant: the one with the signing key that the command line names, else a person says so. */
async function trust(url: string, thumbprints: readonly string[], expected: string | undefined): Promise<void> {
  const shown = printable(url, 256);
  if (expected !== undefined) {
    if (thumbprints.includes(expected)) return;
    throw keyError(`${printable(expected, 64)} is no signing key of the Tang server ${shown}`, "run tang-show-keys on that server; if its keys were not changed by you, another answers in its place");
  }
  const question = `The Tang server ${shown} signs with\n${thumbprints.map((one) => `  ${one}\n`).join("")}Is that what tang-show-keys prints there? Type yes to trust it: `;
  if (await askYes(question, `whether the Tang server ${shown} is trusted`, "give a signing key of it with --thumbprint THUMBPRINT: tang-show-keys prints it on that server")) return;
  throw usageError(`the Tang server ${shown} is not trusted`, "nothing was changed");
}

/** Adds unlock. */
export function unlock(cli: Cli): void {
  cli.command(
    "unlock",
    "Decrypt all private keys at rest",
    (yargs) => yargs.example("$0 unlock", "Asks for the passphrase, or the Tang server"),
    async ({ keystore, ...given }) => {
      const store = cliStore({ keystore, ...given });
      tell(`unlocked ${await unlockKeys(store)} private keys`);
    },
  );
}
