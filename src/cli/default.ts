// default [NAME]: shows or sets the default key, which is used if a client names none.

import { setDefault } from "../keystore/rotate.ts";
import { cliStore } from "./secrets.ts";
import { print, type Cli } from "./shared.ts";

/** Adds the command. Without a name it prints the default key's name. */
export function defaultKey(cli: Cli): void {
  cli.command(
    "default [NAME]",
    "Show or set the default key",
    (yargs) =>
      yargs
        .positional("NAME", { type: "string", describe: "The name of the key to use if a client names none" })
        .example("$0 default", "Print it")
        .example("$0 default alice", "Set it"),
    async ({ keystore, NAME, ...secrets }) => {
      const store = cliStore({ keystore, ...secrets });
      return NAME === undefined ? print(store.mustHaveDefault()) : await setDefault(store, NAME);
    },
  );
}
