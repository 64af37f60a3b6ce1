// The subcommands: yargs parses the command line, each command's module does the work and prints. This is not loaded in
// exec mode.

import yargs from "yargs";
import packageJson from "../../package.json" with { type: "json" };
import { KeystoreError, printable, usageError } from "../errors.ts";
import { settle } from "../exec/stdio.ts";
import { completion } from "./completion.ts";
import { config } from "./config.ts";
import { defaultKey } from "./default.ts";
import { doctor } from "./doctor.ts";
import { exportKey } from "./export.ts";
import { help } from "./help.ts";
import { importKey } from "./import.ts";
import { inspect } from "./inspect.ts";
import { keygen } from "./keygen.ts";
import { list } from "./list.ts";
import { lock, unlock } from "./lock.ts";
import { remove } from "./remove.ts";
import { rewrap } from "./rewrap.ts";
import { rotate } from "./rotate.ts";
import { serve } from "./serve.ts";
import { print, tell } from "./shared.ts";
import { show } from "./show.ts";

const COMMANDS = [
  keygen,
  list,
  show,
  importKey,
  exportKey,
  rotate,
  defaultKey,
  remove,
  lock,
  unlock,
  doctor,
  inspect,
  rewrap,
  serve,
  config,
  help,
  completion,
];

const LISTS = new Set(["_", "to", "add", "remove", "tang", "thumbprint"]); // options that may be given more than once

// Options have no parts (--keystore.a) and no opposite (--no-keystore), and text that looks like a number stays text.
const PARSER = {
  "parse-numbers": false,
  "parse-positional-numbers": false,
  "greedy-arrays": false,
  "dot-notation": false,
  "boolean-negation": false,
} as const;

const USAGE = `$0 COMMAND
$0 [--keystore DIR] [--provider NAME] [--passphrase-file FILE | --master-key-file FILE] < request

A key provider for ocicrypt that keeps its keys in a local directory. Clients start it
without a command: then it answers one request on standard input.`;

/** Runs the command line. An error is shown as one line and ends the process. */
export async function run(args: readonly string[]): Promise<void> {
  await settle(async () => await runArguments(args));
}

/** Whether an argument has the name of something that every object has, such as `--constructor`. */
function isInherited(arg: string): boolean {
  return arg.replace(/^-+/, "") in {};
}

async function runArguments(args: readonly string[]): Promise<void> {
  console.log = print; // yargs prints help, the version and completions with it; Node's own hides a failure to write
  const { ours, holder } = split(args);
  const parser = yargs([], "/") // without "/" yargs reads the working directory, which may be gone
    .scriptName("ocicrypt-keystore")
    .usage(USAGE)
    .option("keystore", { type: "string", requiresArg: true, describe: "The key store directory" })
    .option("passphrase-file", {
      type: "string",
      requiresArg: true,
      describe: "A file with the passphrase of locked keys",
    })
    .option("master-key-file", {
      type: "string",
      requiresArg: true,
      describe: "A file with the master key of locked keys",
    })
    .example("$0 keygen alice", "Make a key pair named alice")
    .example("$0 config > ocicrypt.conf", "Name this program as a key provider")
    .demandCommand(1, 1, "no command given")
    .strict()
    .version(packageJson.version)
    .parserConfiguration(PARSER)
    .check((argv) => {
      refuseValues(ours, argv);
      const twice = Object.keys(argv).find((name) => Array.isArray(argv[name]) && !LISTS.has(name));
      if (twice !== undefined) throw usageError(`--${twice} is given twice`, "give it once");
      return true;
    })
    .middleware(unmark)
    .exitProcess(false)
    .wrap(100)
    .fail((message: string | null, error: Error | undefined) => {
      throw error instanceof KeystoreError ? error : parserError(message ?? error?.message ?? "wrong usage");
    });
  for (const add of COMMANDS) add(parser, holder);
  if (ours.includes("--get-yargs-completions") && ours.some(isInherited)) return; // yargs would fail
  if (args.length === 0) {
    tell(await parser.getHelp());
    process.exitCode = 2;
  } else {
    await parser.parseAsync(marked(ours));
  }
}

/** Splits off what follows `--holder … --`: it is a holder's command, which yargs must not parse. */
function split(args: readonly string[]): { ours: readonly string[]; holder: readonly string[] } {
  const end = args.indexOf("--");
  const asked = args.slice(0, Math.max(end, 0)).some((arg) => /^--holder(=|$)/.test(arg));
  return asked ? { ours: args.slice(0, end), holder: args.slice(end + 1) } : { ours: args, holder: [] };
}

/** Refuses values that yargs accepts although the user cannot mean them. */
function refuseValues(args: readonly string[], argv: Record<string, unknown>): void {
  const end = args.indexOf("--");
  for (const [at, arg] of args.entries()) {
    const [, option = "", name = "", value] = /^(--?([^=]+))(?:=(.*))?$/s.exec(arg) ?? [];
    if (name === "" || (end !== -1 && at > end)) continue;
    const fail = (what: string, hint: string): KeystoreError => usageError(`${printable(option, 64)} ${what}`, hint);
    // A shell variable that is not set must not mean the default.
    if ((value ?? args[at + 1]) === "") throw fail("has an empty value", "give it a value, or leave it out");
    const isBoolean = typeof argv[name] === "boolean";
    if (value === undefined && at + 1 === end && !isBoolean) throw fail("has no value", "give it a value before --");
    // For yargs any word but true means false.
    if (value !== undefined && value !== "true" && value !== "false" && isBoolean) {
      throw fail("is neither true nor false", `give ${option}, or ${option}=false`);
    }
  }
}

// A kid is base64url and may start with a dash, so that yargs takes it for an option. No option is as long as a kid.
const MARK = "\0"; // no argument can hold it
const DASHED_KID = /^-[A-Za-z0-9_-]{21}$|^-[A-Za-z0-9_-]{42}$/;

/** The arguments, with a mark before those that start with a dash and are not options: kids, and all after `--`. */
function marked(args: readonly string[]): string[] {
  const end = args.indexOf("--");
  const before = end === -1 ? args : args.slice(0, end);
  const after = end === -1 ? [] : args.slice(end + 1);
  return [
    ...before.map((arg) => (DASHED_KID.test(arg) ? MARK + arg : arg)),
    ...after.map((arg) => (arg.startsWith("-") ? MARK + arg : arg)),
  ];
}

function unmarked(value: unknown): unknown {
  return typeof value === "string" && value.startsWith(MARK) ? value.slice(MARK.length) : value;
}

/** Removes the marks from the values of all options and positionals. */
function unmark(argv: Record<string, unknown>): void {
  for (const [name, value] of Object.entries(argv))
    argv[name] = Array.isArray(value) ? value.map(unmarked) : unmarked(value);
}

function parserError(message: string): KeystoreError {
  const line = message.replaceAll(MARK, "").replace(/\s*\n\s*/g, " ");
  return usageError(line.charAt(0).toLowerCase() + line.slice(1), "see ocicrypt-keystore --help");
}
