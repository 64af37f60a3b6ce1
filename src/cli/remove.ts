// remove NAME|KID: removes a key from the store. Its files are moved to removed/, not deleted.

import { removeKey } from "../keystore/remove.ts";
import { cliStore } from "./secrets.ts";
import { tell, type Cli } from "./shared.ts";

/** Adds the command. */
export function remove(cli: Cli): void {
  cli.command(
    "remove KEY",
    "Remove a name with its keys, or one key",
    (yargs) =>
      yargs
        .positional("KEY", { type: "string", demandOption: true, describe: "A name or a kid" })
        .option("force", {
          type: "boolean",
          default: false,
          describe: "Also remove the last copy of a private key: it is moved to removed/",
        })
        .option("purge", {
          type: "boolean",
          default: false,
          describe: "Delete files instead of moving them to removed/",
        })
        .example("$0 remove alice", "Remove a recipient")
        .example("$0 remove alice --force", "Move its private keys to removed/"),
    async ({ keystore, KEY, force, purge, ...secrets }) => {
      const { removed, wasDefault } = await removeKey(cliStore({ keystore, ...secrets }), KEY, { force, purge });
      for (const { kid, movedTo, held } of removed) {
        const what = held ? "its holder file" : "its private key";
        tell(movedTo === undefined ? `removed ${kid}` : `removed ${kid}: ${what} is now ${movedTo}`);
      }
      if (wasDefault) tell("there is no longer a default key: set one with ocicrypt-keystore default NAME");
    },
  );
}
