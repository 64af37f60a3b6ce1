// A TPM in software, for tpm2-tools and clevis. It ends with this process.

import { spawn } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { temporaryFolder } from "./folders.ts";
import { tool } from "./parts.ts";

/** Whether there are all the programs. */
export const tpmParts = ["swtpm", "setpriv", "clevis-decrypt-tpm2", "tpm2_unseal"].every((name) => tool(name))
  ? true
  : undefined;

/** What to say is missing. */
export const TPM_PARTS = "swtpm, clevis-tpm2, tpm2-tools and libtss2-tcti-swtpm0";

/** Starts one: the environment in which programs find it. */
export async function startTpm(): Promise<{ TPM2TOOLS_TCTI: string }> {
  const folder = temporaryFolder();
  const chip = join(folder, "chip");
  mkdirSync(join(folder, "state"));
  const words = ["socket", "--tpm2", "--tpmstate", `dir=${join(folder, "state")}`];
  const ends = ["--server", `type=unixio,path=${chip}`, "--ctrl", `type=unixio,path=${chip}.ctrl`];
  const start = ["--flags", "not-need-init,startup-clear"];
  spawn("setpriv", ["--pdeathsig", "KILL", "swtpm", ...words, ...ends, ...start], { stdio: "ignore" }).unref();
  while (!existsSync(chip)) await sleep(10);
  return { TPM2TOOLS_TCTI: `swtpm:path=${chip}` };
}
