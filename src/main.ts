// ocicrypt-keystore: a request on standard input, or a subcommand.

import { exec, parseExecOptions } from "./exec/exec.ts";
import { fail } from "./exec/stdio.ts";

const args = process.argv.slice(2);
const options = parseExecOptions(args);
if (options === undefined) {
  import("./cli/main.ts").then(({ run }) => run(args)).catch(fail);
} else {
  void exec(options);
}
