// The subcommands: yargs parses, each command's module calls and prints. Loaded only when exec mode is not meant.

import yargs from "yargs";
import packageJson from "../../package.json" with { type: "json" };
import { KeystoreError } from "../errors.ts";
import { fail } from "../transport/stdio.ts";
import { config } from "./config.ts";
import { defaultKey } from "./default.ts";
import { keygen } from "./keygen.ts";
import { list } from "./list.ts";
import { show } from "./show.ts";

const USAGE = `$0 COMMAND
$0 [--keystore DIR] [--provider NAME] < request

A key provider for ocicrypt that keeps its keys in a local directory. Clients start it
without a command: then it answers the one request on standard input.`;

/** Runs the command line. An error is shown as its one line and ends the process. */
export async function run(args: readonly string[]): Promise<void> {
  try {
    await runCommand(args);
  } catch (error) {
    fail(error);
  }
}

async function runCommand(args: readonly string[]): Promise<void> {
  const parser = yargs([], "/") // it asks for the working directory otherwise, which may be gone
    .scriptName("ocicrypt-keystore")
    .usage(USAGE)
    .option("keystore", { type: "string", requiresArg: true, global: true, describe: "The key store directory" })
    .example("$0 keygen alice", "Make a key pair named alice")
    .example("$0 config > ocicrypt.conf", "Name this program as a key provider")
    .demandCommand(1, 1, "no command given")
    .strict()
    .version(packageJson.version)
    .parserConfiguration({ "parse-numbers": false, "parse-positional-numbers": false, "duplicate-arguments-array": false })
    .exitProcess(false)
    .wrap(100)
    .fail((message: string | null, error: Error | undefined) => {
      throw error instanceof KeystoreError ? error : usageError(message ?? error?.message ?? "wrong usage");
    });
  for (const add of [keygen, list, show, defaultKey, config]) add(parser);
  if (args.length === 0) {
    process.stderr.write(`${await parser.getHelp()}\n`);
    process.exitCode = 2;
  } else {
    await parser.parseAsync([...args]);
  }
}

function usageError(message: string): KeystoreError {
  const line = message.replace(/\s*\n\s*/g, " ");
  return new KeystoreError("usage", line.charAt(0).toLowerCase() + line.slice(1), "see ocicrypt-keystore --help");
}
