// default [NAME]: the key that is meant where a client names none.

import { KeystoreError } from "../errors.ts";
import { setDefault } from "../keystore/change.ts";
import { mustExist, readDefault } from "../keystore/directory.ts";
import { storeLocation } from "../keystore/location.ts";
import { print, type Cli } from "./shared.ts";

/** Adds the command. Without a name it prints the default key's name. */
export function defaultKey(cli: Cli): void {
  cli.command(
    "default [NAME]",
    "Show or set the default key",
    (yargs) =>
      yargs
        .positional("NAME", { type: "string", describe: "The name of the key to use where a client names none" })
        .example("$0 default", "Print it")
        .example("$0 default alice", "Set it"),
    async ({ keystore, NAME }) => {
      const dir = storeLocation(keystore);
      if (NAME !== undefined) return await setDefault(dir, NAME);
      mustExist(dir);
      const name = readDefault(dir);
      if (name === undefined) throw new KeystoreError("recipient", `no default key in ${dir}`, "set one with ocicrypt-keystore default NAME");
      return print(name);
    },
  );
}
