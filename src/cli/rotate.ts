// rotate NAME: makes a new current key of the same kind. The old key still opens what was encrypted for it.

import { rotateKey } from "../keystore/rotate.ts";
import { cliStore } from "./secrets.ts";
import { printKid, type Cli } from "./shared.ts";

/** Adds the command. It prints the new key's kid. */
export function rotate(cli: Cli): void {
  cli.command(
    "rotate NAME",
    "Make a new key under a name; the old key still decrypts",
    (yargs) =>
      yargs
        .positional("NAME", { type: "string", demandOption: true, describe: "The key's name" })
        .example("$0 rotate alice", "Encrypt for a new key from now on"),
    async ({ keystore, NAME, ...secrets }) => {
      const store = cliStore({ keystore, ...secrets });
      printKid(await rotateKey(store, NAME), store);
    },
  );
}
