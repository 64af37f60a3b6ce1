// Exec mode: one request on standard input, one answer on standard output.

import { secretFiles } from "../at-rest/secret-files.ts";
import { storeLocation } from "../keystore/location.ts";
import { openStore } from "../keystore/store.ts";
import { answerRequest, wireForm } from "../protocol/answer.ts";
import { parseRequest } from "../protocol/request.ts";
import { entriesAlike } from "./entries.ts";
import { readStandardInput, settle, standardInputIsTerminal, writeAnswer } from "./stdio.ts";

/** What `args` of ocicrypt.conf may hold. */
export interface ExecOptions {
  readonly keystore?: string;
  readonly provider?: string;
  readonly passphraseFile?: string;
  readonly masterKeyFile?: string;
}

const OPTIONS: ReadonlyMap<string, keyof ExecOptions> = new Map([
  ["--keystore", "keystore"],
  ["--provider", "provider"],
  ["--passphrase-file", "passphraseFile"],
  ["--master-key-file", "masterKeyFile"],
]);

/** The options of exec mode, undefined if the command line is anything else: a subcommand, --help, a mistake. */
export function parseExecOptions(args: readonly string[]): ExecOptions | undefined {
  const options: { -readonly [name in keyof ExecOptions]: string } = {};
  for (let at = 0; at < args.length; at++) {
    const [name = "", ...inline] = (args[at] ?? "").split("=");
    const option = OPTIONS.get(name);
    const value = inline.length > 0 ? inline.join("=") : args[++at];
    if (option === undefined || value === undefined || value === "" || Object.hasOwn(options, option)) return undefined;
    options[option] = value;
  }
  if (args.length === 0 && standardInputIsTerminal()) return undefined;
  return options;
}

/**
 * Answers the request on standard input and ends the process. It ends with the answer and exit code 0, or with nothing
 * on standard output and one line on standard error.
 */
export async function exec(options: ExecOptions): Promise<void> {
  await settle(async () => {
    const store = openStore(storeLocation(options.keystore), secretFiles(options));
    const hints = { provider: options.provider, startedAs: process.argv0, entriesAlike };
    const answer = await answerRequest(parseRequest(readStandardInput()), store, hints);
    writeAnswer(`${wireForm(answer, (bytes) => bytes.toString("base64"))}\n`); // Go decodes padded standard base64
    process.reallyExit(0);
  });
}
