// keygen NAME: a new key under a new name.

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
    "Make a new key",
    (yargs) =>
      yargs
        .positional("NAME", { type: "string", demandOption: true, describe: "The new key's name" })
        .option("type", { choices: [...TYPES.keys()], requiresArg: true, default: "ec" as const, describe: "EC or RSA key pair, or a symmetric key" })
        .option("curve", { choices: [...TYPES.values()].flatMap(({ curves = [] }) => curves), requiresArg: true, describe: "The curve of an EC key (P-256)" })
        .option("bits", { type: "string", requiresArg: true, describe: "The size of an RSA or a symmetric key (3072, 256)" })
        .example("$0 keygen alice", "P-256, to encrypt for provider:keystore:alice")
        .example("$0 keygen build --type rsa --bits 4096", "RSA"),
    async ({ keystore, NAME, type, curve, bits, ...secrets }) => {
      mustBeName(NAME); // before a large key is made for nothing
      printKid(await addKey(cliStore({ keystore, ...secrets }), NAME, generateJwk(keyKind(type, curve, bits))));
    },
  );
}

function keyKind(type: TypeName, curve: string | undefined, bits: string | undefined): KeyKind {
  const { curves, sizes } = TYPES.get(type) ?? {};
  if (bits !== undefined && sizes === undefined) throw usageError(`--bits is not for ${type} keys`, "choose one with --curve");
  if (curve !== undefined && curves === undefined) throw usageError(`--curve is not for ${type} keys`, "choose a size with --bits");
  return { type, curve, bits: bits === undefined ? undefined : Number(bits) };
}
