// keygen NAME: makes a key under a new name.

import { usageError } from "../errors.ts";
import { generateJwk, TYPES, type KeyKind, type TypeName } from "../jwk/jwk.ts";
import { addKey } from "../keystore/add.ts";
import { mustBeName } from "../keystore/paths.ts";
import { cliStore } from "./secrets.ts";
import { printKid, type Cli } from "./shared.ts";

/** Adds the command. It prints the new key's kid. */
export function keygen(cli: Cli): void {
  cli.command(
    "keygen NAME",
    "Make a key",
    (yargs) =>
      yargs
        .positional("NAME", { type: "string", demandOption: true, describe: "The new key's name" })
        .option("type", {
          choices: [...TYPES.keys()],
          requiresArg: true,
          default: "ec" as const,
          describe: "An EC or RSA key pair, or a symmetric key (oct)",
        })
        .option("curve", {
          choices: [...TYPES.values()].flatMap(({ curves = [] }) => curves),
          requiresArg: true,
          describe: "The curve of an EC key (default: P-256)",
        })
        .option("bits", {
          type: "string",
          requiresArg: true,
          describe: "The size of a key (default: RSA 3072, symmetric 256)",
        })
        .example("$0 keygen alice", "An EC key, to encrypt for provider:keystore:alice")
        .example("$0 keygen build --type rsa --bits 4096", "An RSA key"),
    async ({ keystore, NAME, type, curve, bits, ...secrets }) => {
      mustBeName(NAME); // before making a key, which may take seconds
      const store = cliStore({ keystore, ...secrets });
      printKid(await addKey(store, NAME, generateJwk(keyKind(type, curve, bits))), store);
    },
  );
}

function keyKind(type: TypeName, curve: string | undefined, bits: string | undefined): KeyKind {
  const { curves, sizes } = TYPES.get(type) ?? {};
  if (bits !== undefined && sizes === undefined)
    throw usageError(`--bits is not for --type ${type}`, "choose a curve with --curve");
  if (curve !== undefined && curves === undefined)
    throw usageError(`--curve is not for --type ${type}`, "choose a size with --bits");
  return { type, curve, bits: bits === undefined ? undefined : Number(bits) };
}
