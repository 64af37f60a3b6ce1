// config: the ocicrypt.conf that names this very binary.

import { KeystoreError } from "../errors.ts";
import { storeLocation } from "../keystore/location.ts";
import { printJson, type Cli } from "./print.ts";

/** Adds the command. It prints the file that $OCICRYPT_KEYPROVIDER_CONFIG is to name. */
export function config(cli: Cli): void {
  cli.command(
    "config",
    "Print the ocicrypt.conf that names this program",
    (yargs) =>
      yargs
        .option("provider", { type: "string", requiresArg: true, default: "keystore", describe: "The provider's name: clients say provider:NAME" })
        .example("$0 config > ocicrypt.conf", "Then: export OCICRYPT_KEYPROVIDER_CONFIG=$PWD/ocicrypt.conf"),
    ({ keystore, provider }) => printJson(ocicryptConf(process.execPath, provider, storeLocation(keystore))),
  );
}

/** The file's content (ocicrypt's docs/keyprovider.md): `path` stands below `cmd`. */
function ocicryptConf(path: string, provider: string, dir: string): object {
  if (/[:,\s]/.test(provider) || provider === "") {
    throw new KeystoreError("usage", `"${provider}" cannot be a provider's name`, "clients split provider:NAME:KEY at colons and flags at commas");
  }
  return { "key-providers": { [provider]: { cmd: { path, args: ["--keystore", dir, "--provider", provider] } } } };
}
