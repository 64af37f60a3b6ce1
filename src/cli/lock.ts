// lock and unlock: encrypt private keys at rest, and decrypt them again.

import { count, keyError, printable, usageError } from "../errors.ts";
import { lockKeys, unlockKeys } from "../keystore/relock.ts";
import { atRestByParts } from "../at-rest/at-rest.ts";
import type { AtRest } from "../at-rest/locked-file.ts";
import { meetServer, atRestByTang } from "../at-rest/tang.ts";
import { askYes } from "./prompt.ts";
import { cliStore, newAtRest } from "./secrets.ts";
import { tell, tellReaders, type Cli } from "./shared.ts";

/** Adds lock. */
export function lock(cli: Cli): void {
  cli.command(
    "lock",
    "Encrypt all private keys at rest",
    (yargs) =>
      yargs
        .option("tang", {
          type: "string",
          array: true,
          nargs: 1,
          requiresArg: true,
          describe: "The URL of a Tang server: keys open only if it can be reached; may be given several times",
        })
        .option("threshold", {
          type: "string",
          requiresArg: true,
          describe: "How many of several Tang servers must be reached (default: 1)",
        })
        .option("thumbprint", {
          type: "string",
          array: true,
          nargs: 1,
          requiresArg: true,
          describe: "The thumbprint of the signing key of each server: run tang-show-keys there",
        })
        .example("$0 lock", "With a passphrase, which is asked for twice")
        .example("$0 lock --master-key-file FILE", "With 32 random bytes, which makes each start faster")
        .example("$0 lock --tang http://tang.example --thumbprint THUMBPRINT", "A stolen disk does not open the keys")
        .example(
          "$0 lock --tang http://a --tang http://b --tang http://c --threshold 2",
          "Two of three servers open them",
        ),
    async ({ keystore, tang, thumbprint, threshold, ...given }) => {
      const store = cliStore({ keystore, ...given }).mustExist();
      if (tang !== undefined) {
        if (given.passphraseFile !== undefined || given.masterKeyFile !== undefined) {
          const message = "--tang cannot be combined with --passphrase-file or --master-key-file";
          throw usageError(message, "give one of the three");
        }
        const { lock: chosen, what } = await tangLock(tang, threshold, thumbprint);
        return tell(`locked ${privateKeys(await lockKeys(store, chosen))} for ${what}`);
      }
      if (thumbprint !== undefined || threshold !== undefined) {
        const option = thumbprint === undefined ? "--threshold" : "--thumbprint";
        throw usageError(`${option} is only for --tang`, "name the server with --tang URL");
      }
      // Before taking the writers' lock: other writers need not wait for a person.
      const chosen = await newAtRest(given);
      return tell(`locked ${privateKeys(await lockKeys(store, chosen))} with a ${chosen.kind}`);
    },
  );
}

/** A lock for the servers that the command line names, each of which is asked for its keys now. */
async function tangLock(
  urls: readonly string[],
  threshold: string | undefined,
  expected: readonly string[] | undefined,
): Promise<{ readonly lock: AtRest; readonly what: string }> {
  const needed = threshold ?? "1";
  if (!/^[1-9]\d{0,3}$/.test(needed) || Number(needed) > urls.length) {
    const message = `--threshold ${printable(needed, 64)} is not a number from 1 to ${urls.length}`;
    throw usageError(message, "that is how many servers --tang names");
  }
  const locks: AtRest[] = [];
  for (const url of urls) {
    const server = await meetServer(url, async (thumbprints) => await trust(url, thumbprints, expected));
    if (locks.some(({ url: other }) => other === server.url)) {
      throw usageError(`--tang names ${printable(server.url, 256)} twice`, "name each server once");
    }
    locks.push(atRestByTang(server));
  }
  const [only, ...others] = locks;
  const shown = urls.map((url) => printable(url, 256)).join(", ");
  if (only !== undefined && others.length === 0) return { lock: only, what: `the Tang server ${shown}` };
  return { lock: atRestByParts(Number(needed), locks), what: `${needed} of the Tang servers ${shown}` };
}

/** Checks that a server is trusted: it has a signing key that the command line names, else the user confirms it. */
async function trust(url: string, thumbprints: readonly string[], expected?: readonly string[]): Promise<void> {
  const shown = printable(url, 256);
  if (expected !== undefined) {
    if (expected.some((one) => thumbprints.includes(one))) return;
    const otherwise = "if you did not change its keys, another server answers in its place";
    const named = expected.map((one) => printable(one, 64)).join(" or ");
    const message = `${named} is not a signing key of the Tang server ${shown}`;
    throw keyError(message, `run tang-show-keys on that server; ${otherwise}`);
  }
  const list = thumbprints.map((one) => `  ${one}\n`).join("");
  const question =
    `The signing keys of the Tang server ${shown} are\n${list}` +
    "Does tang-show-keys print the same on the server? Type yes to trust it: ";
  const hint = "give its signing key with --thumbprint THUMBPRINT: run tang-show-keys on that server";
  if (await askYes(question, `whether the Tang server ${shown} is trusted`, hint)) return;
  throw usageError(`the Tang server ${shown} is not trusted`, "nothing was changed");
}

/** Adds unlock. */
export function unlock(cli: Cli): void {
  cli.command(
    "unlock",
    "Decrypt all private keys at rest",
    (yargs) => yargs.example("$0 unlock", "The passphrase is asked for if no option gives it"),
    async ({ keystore, ...given }) => {
      const store = cliStore({ keystore, ...given });
      tell(`unlocked ${privateKeys(await unlockKeys(store))}`);
      tellReaders(store);
    },
  );
}

function privateKeys(number: number): string {
  return count(number, "private key", "private keys");
}
