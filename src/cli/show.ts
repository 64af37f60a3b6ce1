// show NAME|KID: what there is to know of a key, its public part included.

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
        .example("$0 show alice", "Its kids, and who has the private key"),
    ({ keystore, KEY, json, ...secrets }) => {
      const store = cliStore({ keystore, ...secrets });
      const found = entriesOf(store, KEY).map((entry) => ({ ...entry, ...held(store, entry) }));
      return json ? printJson(found) : print(found.map(paragraph).join("\n\n"));
    },
  );
}

/** What a holder is asked, and of which program. The arguments stay unseen: somebody may have put a PIN there. */
interface Held {
  readonly holder?: Readonly<Record<string, string>>;
}

function held(store: Store, { kid, private: where }: Entry): Held {
  const holder = where === "holder" ? store.held(kid)?.holder : undefined;
  return holder === undefined ? {} : { holder: Object.fromEntries([...holder.ops].map(([op, [program]]) => [op, program])) };
}

function paragraph(entry: Entry & Held): string {
  return Object.entries({
    name: entry.default ? `${entry.name} (default)` : entry.name,
    kid: entry.kid,
    type: entry.crv === undefined ? entry.type : `${entry.type} ${entry.crv}`,
    alg: entry.alg,
    state: entry.state,
    private: entry.private,
    ...(entry.holder === undefined ? {} : { holder: Object.entries(entry.holder).map(([op, program]) => `${op} by ${program}`).join(", ") }),
    created: entry.created,
    public: JSON.stringify(entry.public),
  })
    .map(([label, value]) => `${`${label}:`.padEnd(9)}${value}`)
    .join("\n");
}
