// list: shows every key of every name.

import { count } from "../errors.ts";
import { entries, type Entry } from "../keystore/listing.ts";
import type { Store } from "../keystore/store.ts";
import { cliStore } from "./secrets.ts";
import { print, printJson, printTable, type Cli } from "./shared.ts";

/** Adds the command. */
export function list(cli: Cli): void {
  cli.command(
    "list",
    "List the keys",
    (yargs) =>
      yargs
        .option("json", { type: "boolean", default: false, describe: "As JSON, for programs" })
        .example("$0 list", "One line for each key"),
    ({ keystore, json, ...secrets }) => {
      const store = cliStore({ keystore, ...secrets });
      const keys = entries(store);
      if (json) return printJson(keys.map(({ public: _, ...entry }) => entry));
      if (keys.length === 0) return print(empty(store));
      return printTable(["NAME", "TYPE", "STATE", "PRIVATE", "CREATED", "KID"], keys.map(row));
    },
  );
}

/** What to say if no key has a name: a store with private keys alone can decrypt. */
function empty(store: Store): string {
  const kids = store.allPrivateKids();
  if (kids.length === 0) return `no keys in ${store.dir}: make one with ocicrypt-keystore keygen NAME`;
  const keys = count(kids.length, "private key, which decrypts", "private keys, which decrypt");
  return `no names in ${store.dir}, but ${keys}: name one with ocicrypt-keystore import NAME FILE`;
}

function row(entry: Entry): string[] {
  const name = entry.default ? `${entry.name} (default)` : entry.name;
  return [name, entry.crv ?? entry.alg, entry.state, entry.private, entry.created, entry.kid];
}
