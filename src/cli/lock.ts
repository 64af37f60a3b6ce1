// lock and unlock: encrypt private keys at rest, and decrypt them again.

import { count, keyError, printable, usageError } from "../errors.ts";
import { lockKeys, unlockKeys } from "../keystore/relock.ts";
import { meetServer, atRestByTang } from "../at-rest/tang.ts";
import { askYes } from "./prompt.ts";
import { cliStore, newAtRest } from "./secrets.ts";
import { tell, tellReaders, type Cli } from "./shared.ts";

/** Adds lock. */
export function lock(cli: Cli): void {
  cli.command(
    "lock",
    "Encrypt all private keys at rest",
    (yargs) =>
      yargs
        .option("tang", {
          type: "string",
          requiresArg: true,
          describe: "The URL of a Tang server: keys open only if it can be reached",
        })
        .option("thumbprint", {
          type: "string",
          requiresArg: true,
          describe: "The thumbprint of its signing key: run tang-show-keys on the server",
        })
        .example("$0 lock", "With a passphrase, which is asked for twice")
        .example("$0 lock --master-key-file FILE", "With 32 random bytes, which makes each start faster")
        .example("$0 lock --tang http://tang.example --thumbprint THUMBPRINT", "A stolen disk does not open the keys"),
    async ({ keystore, tang, thumbprint, ...given }) => {
      const store = cliStore({ keystore, ...given }).mustExist();
      if (tang !== undefined) {
        if (given.passphraseFile !== undefined || given.masterKeyFile !== undefined) {
          const message = "--tang cannot be combined with --passphrase-file or --master-key-file";
          throw usageError(message, "give one of the three");
        }
        const server = await meetServer(tang, async (thumbprints) => await trust(tang, thumbprints, thumbprint));
        return tell(`locked ${privateKeys(await lockKeys(store, atRestByTang(server)))} for the Tang server ${tang}`);
      }
      if (thumbprint !== undefined)
        throw usageError("--thumbprint is only for --tang", "name the server with --tang URL");
      // Before taking the writers' lock: other writers need not wait for a person.
      const chosen = await newAtRest(given);
      return tell(`locked ${privateKeys(await lockKeys(store, chosen))} with a ${chosen.kind}`);
    },
  );
}

/** Checks that a server is trusted: it has the signing key that the command line names, else the user confirms it. */
async function trust(url: string, thumbprints: readonly string[], expected: string | undefined): Promise<void> {
  const shown = printable(url, 256);
  if (expected !== undefined) {
    if (thumbprints.includes(expected)) return;
    const otherwise = "if you did not change its keys, another server answers in its place";
    const message = `${printable(expected, 64)} is not a signing key of the Tang server ${shown}`;
    throw keyError(message, `run tang-show-keys on that server; ${otherwise}`);
  }
  const list = thumbprints.map((one) => `  ${one}\n`).join("");
  const question =
    `The signing keys of the Tang server ${shown} are\n${list}` +
    "Does tang-show-keys print the same on the server? Type yes to trust it: ";
  const hint = "give its signing key with --thumbprint THUMBPRINT: run tang-show-keys on that server";
  if (await askYes(question, `whether the Tang server ${shown} is trusted`, hint)) return;
  throw usageError(`the Tang server ${shown} is not trusted`, "nothing was changed");
}

/** Adds unlock. */
export function unlock(cli: Cli): void {
  cli.command(
    "unlock",
    "Decrypt all private keys at rest",
    (yargs) => yargs.example("$0 unlock", "The passphrase is asked for if no option gives it"),
    async ({ keystore, ...given }) => {
      const store = cliStore({ keystore, ...given });
      tell(`unlocked ${privateKeys(await unlockKeys(store))}`);
      tellReaders(store);
    },
  );
}

function privateKeys(number: number): string {
  return count(number, "private key", "private keys");
}
