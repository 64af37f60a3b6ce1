// completion SHELL: the script that completes commands and options.

import yargs from "yargs";
import type { Cli } from "./shared.ts";

/** Adds the command. yargs writes the script, for what $SHELL is when its parser is made. */
export function completion(cli: Cli): void {
  cli.command(
    "completion SHELL",
    "Print the completion script of a shell",
    (command) =>
      command
        .positional("SHELL", { choices: ["bash", "zsh"] as const, demandOption: true, describe: "The shell" })
        .example('eval "$($0 completion bash)"', "Complete in this shell"),
    ({ SHELL }) => {
      process.env["SHELL"] = `/bin/${SHELL}`;
      delete process.env["ZSH_NAME"];
      yargs([], "/").scriptName("ocicrypt-keystore").showCompletionScript();
    },
  );
}
