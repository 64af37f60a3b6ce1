// show NAME|KID: what there is to know of a key, its public part included.

import { entriesOf, type Entry } from "../keystore/entries.ts";
import { storeLocation } from "../keystore/location.ts";
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
    ({ keystore, KEY, json }) => {
      const found = entriesOf(storeLocation(keystore), KEY);
      return json ? printJson(found) : print(found.map(paragraph).join("\n\n"));
    },
  );
}

function paragraph(entry: Entry): string {
  return Object.entries({
    name: entry.default ? `${entry.name} (default)` : entry.name,
    kid: entry.kid,
    type: entry.crv === undefined ? entry.type : `${entry.type} ${entry.crv}`,
    alg: entry.alg,
    state: entry.state,
    private: entry.private,
    created: entry.created,
    public: JSON.stringify(entry.public),
  })
    .map(([label, value]) => `${`${label}:`.padEnd(9)}${value}`)
    .join("\n");
}
