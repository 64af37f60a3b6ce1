// export NAME: prints a key as JWK, or as the PEM that ocicrypt's built-in jwe takes.

import { lstatSync } from "node:fs";
import { resolve } from "node:path";
import { isatty } from "node:tty";
import { ioError, keyError, usageError } from "../errors.ts";
import { writeFileSafely } from "../fs/write.ts";
import { isPrivate, isSymmetric, publicJwk, toPrivateKey, toPublicKey, type Jwk } from "../jwk/jwk.ts";
import { entriesOf } from "../keystore/listing.ts";
import { writeAnswer } from "../exec/stdio.ts";
import { cliStore } from "./secrets.ts";
import type { Cli } from "./shared.ts";

/** Adds the command. */
export function exportKey(cli: Cli): void {
  cli.command(
    "export KEY",
    "Export a public key, or a private one with --private",
    (yargs) =>
      yargs
        .positional("KEY", {
          type: "string",
          demandOption: true,
          describe: "A name (its current key is exported), or a kid",
        })
        .option("private", { type: "boolean", default: false, describe: "Export the private key" })
        .option("format", {
          choices: ["jwk", "pem"] as const,
          requiresArg: true,
          default: "jwk" as const,
          describe: "JWK, or PEM (SPKI, PKCS#8)",
        })
        .option("output", {
          alias: "o",
          type: "string",
          requiresArg: true,
          describe: "The file to write (default: standard output, also -)",
        })
        .option("force", {
          type: "boolean",
          default: false,
          describe: "Overwrite the file; print a private key to a terminal",
        })
        .example("$0 export alice --format pem -o alice.pem", "For those who encrypt with jwe:alice.pem")
        .example("$0 export alice --private -o backup.jwk", "A backup that only you can read"),
    async ({ keystore, KEY, private: secret, format, output = "-", force, ...secrets }) => {
      const store = cliStore({ keystore, ...secrets });
      const [entry] = entriesOf(store, KEY);
      const jwk = secret ? await store.privateJwk(entry.kid) : entry.public;
      if (jwk === undefined && entry.private === "holder") {
        throw keyError(
          `the private key of ${KEY} is held by a command and cannot be exported`,
          "use its holder's own backup",
        );
      }
      if (jwk === undefined)
        throw keyError(`the private key of ${KEY} is not in ${store.dir}`, "export it where it is");
      write(formatted(jwk, secret, format), output, secret, force);
    },
  );
}

function formatted(jwk: Jwk, secret: boolean, format: "jwk" | "pem"): string {
  if (isSymmetric(jwk)) {
    if (!secret) throw usageError("a symmetric key has no public half", "add --private");
    if (format === "pem") throw usageError("a symmetric key has no PEM form", "use --format jwk");
  } else if (format === "pem") {
    const pem =
      secret && isPrivate(jwk)
        ? toPrivateKey(jwk).export({ type: "pkcs8", format: "pem" })
        : toPublicKey(jwk).export({ type: "spki", format: "pem" });
    return String(pem);
  }
  return `${JSON.stringify(secret ? jwk : publicJwk(jwk))}\n`;
}

function write(text: string, output: string, secret: boolean, force: boolean): void {
  if (output === "-") {
    if (secret && isatty(1) && !force)
      throw usageError("this would print a private key to the terminal", "name a file with -o, or add --force");
    return writeAnswer(text);
  }
  const path = resolve(output);
  const existing = lstatSync(path, { throwIfNoEntry: false });
  if (existing?.isFile() === false) throw ioError(`${path} is not a regular file`, "name another file");
  if (existing !== undefined && !force)
    throw ioError(`${path} exists`, "name another file, or add --force to overwrite it");
  return writeFileSafely(path, text, secret ? 0o600 : 0o644, force ? "replace" : "create");
}
