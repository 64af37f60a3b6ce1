// What the tests of doctor share.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import * as assert from "uvu/assert";
import { secretFiles } from "../../src/at-rest/secret-files.ts";
import type { Check as RunnableCheck } from "../../src/doctor/check.ts";
import { CHECKS, examine as look, fix } from "../../src/doctor/doctor.ts";
import { openStore } from "../../src/keystore/store.ts";
import { temporaryFolder } from "./folders.ts";
import { BINARY, run, type Result } from "./program.ts";

/** A check as `doctor --json` prints it. */
export interface Check {
  readonly id: string;
  readonly status: "ok" | "warn" | "fail" | "skip";
  readonly message: string;
  readonly hint?: string;
}

/** The checks in the output of `doctor --json`, whose exit code must fit them. */
export function checksIn({ code, stdout, stderr }: Result): Check[] {
  assert.match(stdout, /^\{/, stderr);
  const { checks } = JSON.parse(stdout) as { checks: Check[] };
  assert.is(code, checks.some(({ status }) => status === "fail") ? 1 : 0, stdout);
  return checks;
}

/** The checks of a store. */
export function examine(dir: string, args: readonly string[] = [], env: NodeJS.ProcessEnv = {}): Check[] {
  return checksIn(run(["doctor", "--json", "--keystore", dir, ...args], { env: { PATH: "", ...env } }));
}

/** The checks of doctor whose ids begin with `prefix`, which is cut off. */
export function checksBelow(prefix: string): RunnableCheck[] {
  const below = CHECKS.filter(({ id }) => id.startsWith(prefix));
  return below.map((check) => ({ ...check, id: check.id.slice(prefix.length) }));
}

/** A file that is not there: with it, doctor starts no program for a round trip. */
export const NO_ROUND_TRIP = { OCICRYPT_KEYPROVIDER_CONFIG: "/none.conf" };

const OPTIONS = {
  fix: { type: "boolean" },
  "master-key-file": { type: "string" },
  "passphrase-file": { type: "string" },
} as const;

/** The same as {@link examine} in this process, which takes itself for the binary: most rows of tables need no start. */
export async function examineHere(
  dir: string,
  args: readonly string[] = [],
  env: NodeJS.ProcessEnv = {},
): Promise<Check[]> {
  const { values } = parseArgs({ args: [...args], options: OPTIONS });
  const { "master-key-file": masterKeyFile, "passphrase-file": passphraseFile } = values;
  const given = { ...(masterKeyFile && { masterKeyFile }), ...(passphraseFile && { passphraseFile }) };
  const before = { env: process.env, path: process.execPath, cwd: process.cwd() };
  const set = Object.entries({ PATH: "", ...env }).filter(([, value]) => value !== undefined);
  process.env = Object.fromEntries(set);
  process.execPath = BINARY;
  process.chdir("/");
  try {
    const store = openStore(dir, secretFiles(given));
    if (values.fix === true) await fix(store, given, false);
    return (await look(store, given)).map(({ fix: _, ...finding }) => finding);
  } finally {
    process.env = before.env;
    process.execPath = before.path;
    process.chdir(before.cwd);
  }
}

/** The only check of an id. */
export function only(checks: readonly Check[], id: string): Check {
  const [found, ...more] = checks.filter((check) => check.id === id);
  assert.is(more.length, 0, `one line of ${id}: ${JSON.stringify(more)}`);
  return found ?? { id, status: "ok", message: "missing" };
}

/** Asserts that a check has a status, says something, and has a hint if and only if it is a problem. */
export function assertCheck(checks: readonly Check[], id: string, status: Check["status"], message: RegExp): void {
  const found = only(checks, id);
  assert.is(found.status, status, JSON.stringify(found));
  assert.match(`${found.message}; ${found.hint ?? ""}`, message);
  assert.is(found.hint !== undefined, isProblem(found), "a hint");
}

/** The ids of all problems, without those of the machine: whether it has clients, and a configuration. */
export function problems(checks: readonly Check[]): string[] {
  const found = checks.filter((check) => isProblem(check) && check.id !== "clients" && check.id !== "config.variable");
  return found.map(({ id, status }) => `${status} ${id}`);
}

/** The ids of the checks that could not look. */
export function skipped(checks: readonly Check[]): string[] {
  return checks.filter(({ status }) => status === "skip").map(({ id }) => id);
}

function isProblem({ status }: Check): boolean {
  return status === "warn" || status === "fail";
}

/** An ocicrypt.conf with these providers. */
export function configFile(providers: unknown): string {
  const path = join(temporaryFolder(), "ocicrypt.conf");
  writeFileSync(path, typeof providers === "string" ? providers : JSON.stringify({ "key-providers": providers }));
  return path;
}

/** An entry that starts the binary. */
export function entry(args: readonly string[], path = BINARY): object {
  return { cmd: { path, args } };
}

/** A folder for PATH with a program of these bytes. */
export function programs(name: string, content: string | Buffer): string {
  const folder = temporaryFolder();
  writeFileSync(join(folder, name), content, { mode: 0o755 });
  return folder;
}
