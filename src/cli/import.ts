// import NAME FILE: adds a key that was made elsewhere.

import { basename } from "node:path";
import { isPrivate } from "../jwk/jwk.ts";
import { parseKey } from "../keys/import.ts";
import { addKey } from "../keystore/add.ts";
import { HOLDER_OPERATION_NAMES } from "../keys/holder.ts";
import { addHolder } from "../keystore/add-holder.ts";
import { mustBeName, parseKeyFileName } from "../keystore/paths.ts";
import { readPassphrase } from "../at-rest/secret-files.ts";
import { readStandardInput } from "../exec/stdio.ts";
import { askSecret } from "./prompt.ts";
import { cliStore } from "./secrets.ts";
import { mustReadFile, printKid, tell, type Cli } from "./shared.ts";

/** Adds the command. It prints the key's kid. */
export function importKey(cli: Cli, command: readonly string[]): void {
  cli.command(
    "import NAME FILE",
    "Import a key from a JWK, PEM, DER, OpenSSH or certificate file; a public key makes a recipient",
    (yargs) =>
      yargs
        .positional("NAME", { type: "string", demandOption: true, describe: "The key's name here" })
        .positional("FILE", { type: "string", demandOption: true, describe: "The file, or - for standard input" })
        .option("pem-passphrase-file", {
          type: "string",
          requiresArg: true,
          describe: "A file with the passphrase of an encrypted key",
        })
        .option("kid", {
          type: "string",
          requiresArg: true,
          describe: "The key to take of several: its kid or thumbprint",
        })
        .option("force", {
          type: "boolean",
          default: false,
          describe: "If the name is taken, retire its key, which still decrypts",
        })
        .option("holder", {
          choices: HOLDER_OPERATION_NAMES,
          requiresArg: true,
          describe: "FILE is a public key; the command after -- does this operation with its private key",
        })
        .example("$0 import bob bob.pem", "A public key: to encrypt for bob")
        .example("curl -s https://keycloak/certs | $0 import app - --kid KID", "One key of a JWK set")
        .example("$0 import dan ~/.ssh/id_rsa.pub", "An OpenSSH key, RSA or ECDSA")
        .example('jose jwk gen -i \'{"alg":"ECDH-ES+A256KW"}\' | $0 import carol -', "A key pair")
        .example(
          "$0 import hsm hsm.pem --holder rsa-oaep-256 -- /usr/local/bin/ask-hsm {kid}",
          "A key that an HSM holds",
        ),
    async ({ keystore, NAME, FILE, pemPassphraseFile, kid: chosen, force, holder, ...secrets }) => {
      mustBeName(NAME);
      const passphrase = async (): Promise<Buffer> =>
        pemPassphraseFile === undefined
          ? await askSecret(
              `Passphrase of ${FILE === "" ? "standard input" : FILE}: `,
              "give it with --pem-passphrase-file FILE",
            )
          : readPassphrase(pemPassphraseFile, "name it with --pem-passphrase-file FILE");
      const fromStore = parseKeyFileName(basename(FILE)) !== undefined;
      const notes: string[] = [];
      const note = (line: string): void => void notes.push(line);
      const jwk = await parseKey(readKeyFile(FILE), passphrase, { kid: chosen, fromStore, note });
      const store = cliStore({ keystore, ...secrets });
      const there = (): void => note(`already there: ${NAME} names this key, and nothing was changed`);
      const kid =
        holder === undefined
          ? await addKey(store, NAME, jwk, force, there)
          : await addHolder(store, NAME, jwk, holder, command, force, there);
      if (holder !== undefined && isPrivate(jwk))
        note(`the private key in ${FILE === "" ? "standard input" : FILE} was not stored: its holder has it`);
      for (const line of notes) tell(line);
      return printKid(kid, store);
    },
  );
}

/** The bytes of a key file; `-` is standard input. @throws KeystoreError `io` if there is no file */
export function readKeyFile(path: string): Buffer {
  if (path === "-" || path === "") return readStandardInput(); // yargs makes "" of a positional "-"
  return mustReadFile(path, "name a file with a key, or - for standard input").bytes;
}
