// rotate NAME: a new current key of the same kind; the old one still opens what was encrypted for it.

import { rotateKey } from "../keystore/rotate.ts";
import { cliStore } from "./secrets.ts";
import { printKid, type Cli } from "./shared.ts";

/** Adds the command. It prints the new key's kid. */
export function rotate(cli: Cli): void {
  cli.command(
    "rotate NAME",
    "Make a new key under a name; the old one still unwraps",
    (yargs) => yargs.positional("NAME", { type: "string", demandOption: true, describe: "The key's name" }).example("$0 rotate alice", "Encrypt for a new key from now on"),
    async ({ keystore, NAME, ...secrets }) => printKid(await rotateKey(cliStore({ keystore, ...secrets }), NAME)),
  );
}
