// doctor: shows what keeps images from being encrypted and decrypted here, and how to fix it.

import { count, usageError } from "../errors.ts";
import type { Finding } from "../doctor/check.ts";
import { diagnoseImage, examine, fix } from "../doctor/doctor.ts";
import { IMAGE } from "../image/source/open.ts";
import { registryAccess, REGISTRY_OPTIONS } from "./registry.ts";
import { cliStore } from "./secrets.ts";
import { print, printJson, tell, type Cli } from "./shared.ts";

/** Adds the command. */
export function doctor(cli: Cli): void {
  cli.command(
    "doctor [IMAGE]",
    "Check the key store, the configuration and the clients; or why an image does not open",
    (yargs) =>
      yargs
        .positional("IMAGE", { type: "string", describe: `${IMAGE}: name the one reason why it does not open here` })
        .option("fix", {
          type: "boolean",
          default: false,
          describe: "Fix problems whose fix loses nothing",
        })
        .option("force", {
          type: "boolean",
          default: false,
          describe: "With --fix: also remove the lock of a process that cannot be seen from here",
        })
        .options(REGISTRY_OPTIONS)
        .option("verbose", { type: "boolean", default: false, describe: "Show every check, not only problems" })
        .option("json", { type: "boolean", default: false, describe: "As JSON, for programs: every check" })
        .example("$0 doctor", "The problems and a summary; exit code 1 if a check fails")
        .example("$0 doctor oci:encrypted", "Exit code 0 if it opens here, 3 if its key is not here, else 1")
        .example("$0 doctor --fix", "Fix permissions, and remove what crashes left behind"),
    async ({ keystore, IMAGE: image, fix: fixing, force, tlsVerify, certDir, verbose, json, ...secrets }) => {
      if (force && !fixing) {
        throw usageError("--force is only for --fix", "give both: ocicrypt-keystore doctor --fix --force");
      }
      if (fixing && image !== undefined) {
        throw usageError("--fix is not for an image", "leave IMAGE or --fix out");
      }
      const store = cliStore({ keystore, ...secrets });
      if (image !== undefined) {
        const { findings, exitCode } = await diagnoseImage(
          image,
          store,
          secrets,
          registryAccess({ tlsVerify, certDir }, false),
        );
        if (json) printFindings(findings);
        else print(findings.map(line).join("\n"));
        process.exitCode = exitCode;
        return;
      }
      if (fixing) for (const done of await fix(store, secrets, force)) tell(done);
      const findings = await examine(store, secrets);
      if (json) printFindings(findings);
      else print([...shown(findings, verbose), summary(findings)].join("\n"));
      if (findings.some(({ status }) => status === "fail")) process.exitCode = 1;
    },
  );
}

function printFindings(findings: readonly Finding[]): void {
  printJson({ checks: findings.map(({ fix: _, ...finding }) => finding) });
}

function shown(findings: readonly Finding[], verbose: boolean): string[] {
  return findings.filter(({ status }) => verbose || status === "warn" || status === "fail").map(line);
}

function line({ id, status, message, hint }: Finding): string {
  return `${status.padEnd(6)}${id}: ${message}${hint === undefined ? "" : `; ${hint}`}`;
}

function summary(findings: readonly Finding[]): string {
  const number = (wanted: Finding["status"]): number => findings.filter(({ status }) => status === wanted).length;
  const [failures, warnings, skipped] = [number("fail"), number("warn"), number("skip")];
  const problems = [
    ...(failures > 0 ? [count(failures, "failure", "failures")] : []),
    ...(warnings > 0 ? [count(warnings, "warning", "warnings")] : []),
  ];
  const first = problems.length === 0 ? "no problems" : problems.join(", ");
  const passed = count(number("ok"), "check passed", "checks passed");
  return `${first}; ${passed}${skipped === 0 ? "" : `, ${skipped} had nothing to look at`} (--verbose shows all)`;
}
