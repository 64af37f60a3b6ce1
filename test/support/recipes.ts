// The recipes of the README, taken from its text and followed: what users read there is what the tests run.

import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { isAbsolute, join } from "node:path";
import { ROOT } from "./program.ts";

const README = join(ROOT, "README.md");
const SCRIPTS = "/usr/local/bin/"; // where the README puts its scripts

/** A key that a real part holds, as `import NAME PUBLIC --holder OP -- COMMAND…` wants it. */
export interface Recipe {
  /** The path of the public key. */
  readonly publicKey: string;
  readonly op: string;
  /** The holder's command. */
  readonly argv: readonly string[];
}

/** The code block of the README that has the comment `# NAME: …`, or `# NAME ARGUMENT`. @throws Error if there is not exactly one */
function block(name: string): string {
  const blocks = readFileSync(README, "utf8").match(/^(?: {4}.*\n|\n(?= {4}))+/gm) ?? [];
  const [found, ...more] = blocks
    .map((text) => text.replace(/^ {4}/gm, "").trimStart())
    .filter((text) => new RegExp(`^# ${name}[: ]`, "m").test(text));
  if (found === undefined || more.length > 0) throw new Error(`${README} has not exactly one block "# ${name}"`);
  return found;
}

/** Writes a script of the README into a folder. */
export function install(folder: string, name: string): void {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, name), block(name));
  chmodSync(join(folder, name), 0o755);
}

/**
 * Does what a recipe of the README says, in `folder`. Its scripts are put there instead of /usr/local/bin, and in place of
 * ocicrypt-keystore stands what writes its arguments down.
 *
 * @throws Error with what the commands complained about
 */
export function follow(name: string, folder: string, env: NodeJS.ProcessEnv, scripts: readonly string[] = []): Recipe {
  for (const script of scripts) install(folder, script);
  const noted = join(folder, "arguments");
  writeFileSync(join(folder, "ocicrypt-keystore"), `#!/bin/sh\nprintf '%s\\0' "$@" > '${noted}'\n`, { mode: 0o755 });
  const commands = block(name).replaceAll(SCRIPTS, `${folder}/`);
  const { status, stderr } = spawnSync("/bin/sh", ["-eu", "-c", commands], {
    cwd: folder,
    env: { ...env, PATH: `${folder}:/usr/bin:/bin` },
    encoding: "utf8",
    timeout: 60_000,
  });
  if (status !== 0) throw new Error(`the recipe "${name}" fails: ${stderr}`);
  const [verb, , file = "", flag, op = "", dashes, ...argv] = readFileSync(noted, "utf8").split("\0").slice(0, -1);
  if (verb !== "import" || flag !== "--holder" || dashes !== "--")
    throw new Error(`the recipe "${name}" does not end with import --holder`);
  return { publicKey: isAbsolute(file) ? file : join(folder, file), op, argv };
}
