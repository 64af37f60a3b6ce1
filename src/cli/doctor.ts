// doctor: what keeps images from being encrypted and decrypted here, and the way out.

import { KeystoreError } from "../errors.ts";
import { mend, examine } from "../doctor/doctor.ts";
import type { Check } from "../doctor/check.ts";
import { storeLocation } from "../keystore/location.ts";
import { print, printJson, tell, type Cli } from "./shared.ts";

/** Adds the command. */
export function doctor(cli: Cli): void {
  cli.command(
    "doctor",
    "Check the key store, the configuration and the clients",
    (yargs) =>
      yargs
        .option("fix", { type: "boolean", default: false, describe: "Mend what can be mended without losing anything" })
        .option("force", { type: "boolean", default: false, describe: "With --fix: also remove the lock of a process that cannot be seen from here" })
        .option("json", { type: "boolean", default: false, describe: "As JSON, for programs" })
        .example("$0 doctor", "A line for each check; exit code 1 if one fails")
        .example("$0 doctor --fix", "Permissions, and what crashes left behind"),
    async ({ keystore, fix, force, json, ...secrets }) => {
      if (force && !fix) throw new KeystoreError("usage", "--force is for --fix", "give both: ocicrypt-keystore doctor --fix --force");
      const dir = storeLocation(keystore);
      if (fix) for (const mended of await mend(dir, secrets, force)) tell(mended);
      const checks = await examine(dir, secrets);
      if (json) printJson({ checks: checks.map(({ mend: _, ...check }) => check) });
      else print(checks.map(line).join("\n"));
      if (checks.some(({ status }) => status === "fail")) process.exitCode = 1;
    },
  );
}

function line({ id, status, message, hint }: Check): string {
  return `${status.padEnd(6)}${id}: ${message}${hint === undefined ? "" : `; ${hint}`}`;
}
