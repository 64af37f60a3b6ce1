// keygen NAME: a new key under a new name.

import { KeystoreError } from "../errors.ts";
import type { Curve } from "../jwk/jwk.ts";
import { addKey } from "../keystore/change.ts";
import { generateJwk, type KeyKind } from "../keystore/generate.ts";
import { mustBeName } from "../keystore/layout.ts";
import { storeLocation } from "../keystore/location.ts";
import { cliSecrets } from "./secrets.ts";
import { printKid, type Cli } from "./shared.ts";

/** Adds the command. It prints the new key's kid. */
export function keygen(cli: Cli): void {
  cli.command(
    "keygen NAME",
    "Make a new key",
    (yargs) =>
      yargs
        .positional("NAME", { type: "string", demandOption: true, describe: "The new key's name" })
        .option("type", { choices: ["ec", "rsa", "oct"] as const, requiresArg: true, default: "ec" as const, describe: "EC or RSA key pair, or a symmetric key" })
        .option("curve", { choices: ["P-256", "P-384", "P-521"] as const, requiresArg: true, describe: "The curve of an EC key (P-256)" })
        .option("bits", { type: "string", requiresArg: true, describe: "The size of an RSA or a symmetric key (3072, 256)" })
        .example("$0 keygen alice", "P-256, to encrypt for provider:keystore:alice")
        .example("$0 keygen build --type rsa --bits 4096", "RSA"),
    async ({ keystore, NAME, type, curve, bits, ...secrets }) => {
      mustBeName(NAME); // before a large key is made for nothing
      printKid(await addKey(storeLocation(keystore), NAME, generateJwk(keyKind(type, curve, bits)), cliSecrets(secrets)));
    },
  );
}

function keyKind(type: KeyKind["type"], curve: Curve | undefined, bits: string | undefined): KeyKind {
  if (type === "ec") {
    if (bits !== undefined) throw new KeystoreError("usage", "--bits is not for EC keys", "choose one with --curve");
    return { type, curve };
  }
  if (curve !== undefined) throw new KeystoreError("usage", `--curve is not for ${type} keys`, "choose a size with --bits");
  return { type, bits: bits === undefined ? undefined : Number(bits) };
}
