// show NAME|KID: shows all about a key, its public JWK included.

import { entriesOf, type Entry } from "../keystore/listing.ts";
import type { Store } from "../keystore/store.ts";
import { cliStore } from "./secrets.ts";
import { print, printJson, type Cli } from "./shared.ts";

/** Adds the command. */
export function show(cli: Cli): void {
  cli.command(
    "show KEY",
    "Show a key",
    (yargs) =>
      yargs
        .positional("KEY", { type: "string", demandOption: true, describe: "A name or a kid" })
        .option("json", { type: "boolean", default: false, describe: "As JSON, for programs" })
        .example("$0 show alice", "Its kids, and where the private keys are"),
    ({ keystore, KEY, json, ...secrets }) => {
      const store = cliStore({ keystore, ...secrets });
      const keys = entriesOf(store, KEY).map((entry) => ({ ...entry, ...held(store, entry) }));
      return json ? printJson(keys) : print(keys.map(paragraph).join("\n\n"));
    },
  );
}

/** The operations of a holder, and the program of each. Arguments are not shown: one of them may be a PIN. */
interface Held {
  readonly holder?: Readonly<Record<string, string>>;
}

function held(store: Store, { kid, private: where }: Entry): Held {
  const holder = where === "holder" ? store.held(kid)?.holder : undefined;
  return holder === undefined
    ? {}
    : { holder: Object.fromEntries([...holder.ops].map(([op, [program]]) => [op, program])) };
}

function paragraph(entry: Entry & Held): string {
  return Object.entries({
    name: entry.default ? `${entry.name} (default)` : entry.name,
    kid: entry.kid,
    type: entry.crv === undefined ? entry.type : `${entry.type} ${entry.crv}`,
    alg: entry.alg,
    state: entry.state,
    private: entry.private,
    ...(entry.holder === undefined ? {} : { holder: operations(entry.holder) }),
    created: entry.created,
    public: JSON.stringify(entry.public),
  })
    .map(([label, value]) => `${`${label}:`.padEnd(9)}${value}`)
    .join("\n");
}

function operations(holder: Readonly<Record<string, string>>): string {
  return Object.entries(holder)
    .map(([op, program]) => `${op} by ${program}`)
    .join(", ");
}
