// What the tests of commands and of the store share: looking into a store, its keys used in this process, real tools.

import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chmodSync, existsSync, lstatSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import * as assert from "uvu/assert";
import { errorLine, KeystoreError } from "../src/errors.ts";
import { open } from "../src/jwe/open.ts";
import type { SecretSource } from "../src/at-rest/locked-file.ts";
import { seal } from "../src/jwe/seal.ts";
import { openStore } from "../src/keystore/store.ts";
import { secretFiles } from "../src/at-rest/secret-files.ts";
import { assertFailure, OPTSDATA, run, succeed, temporaryFolder, type Result, type RunOptions } from "./support.ts";

/** What to give where no secret is needed. */
export const noSecrets: SecretSource = secretFiles({});

/** Everything below a folder: each path with its mode and content. The times are left out. */
export function tree(dir: string): Record<string, string> {
  const found: Record<string, string> = {};
  if (!existsSync(dir)) return found;
  for (const path of readdirSync(dir, { recursive: true, encoding: "utf8" }).toSorted()) {
    const stat = lstatSync(join(dir, path));
    const content = stat.isFile() ? readFileSync(join(dir, path), "latin1") : stat.isSymbolicLink() ? readlinkSync(join(dir, path)) : "";
    found[path] = `${stat.mode.toString(8)} ${content}`;
  }
  return found;
}

/** A file for its owner alone, or of another mode whatever the umask is, in a folder of its own. */
export function secretFile(content: string | Buffer, mode = 0o600): string {
  const path = join(temporaryFolder(), "file");
  writeFileSync(path, content, { mode });
  chmodSync(path, mode);
  return path;
}

/** A file with a new master key. */
export function masterKeyFile(): string {
  return secretFile(randomBytes(32));
}

/** The commands of one store: those that succeed, and those that fail with an exit code and a line. */
export interface Commands {
  (...args: readonly string[]): string;
  readonly run: (args: readonly string[], options?: RunOptions) => Result;
  /** Asserts that the command fails and leaves the store as it is. @returns the line */
  readonly refuses: (exitCode: number, args: readonly string[], options?: RunOptions) => string;
}

/** The commands of a store, which may not be there yet. `options` come last in each, or before its `--`. */
export function commands(dir: string, ...options: readonly string[]): Commands {
  const complete = (args: readonly string[]): string[] => {
    const end = args.includes("--") ? args.indexOf("--") : args.length;
    return [...args.slice(0, end), "--keystore", dir, ...options, ...args.slice(end)];
  };
  return Object.assign((...args: readonly string[]): string => succeed(complete(args)), {
    run: (args: readonly string[], how?: RunOptions) => run(complete(args), how),
    refuses: (exitCode: number, args: readonly string[], how?: RunOptions): string => {
      const before = tree(dir);
      const line = assertFailure(run(complete(args), how), exitCode);
      assert.equal(tree(dir), before, "the store is as it was");
      return line;
    },
  });
}

/** Wraps for a name or kid in this process. */
export async function wrapHere(dir: string, nameOrKid: string, secrets = noSecrets): Promise<Buffer> {
  return await seal(Buffer.from(OPTSDATA), [await openStore(dir, secrets).recipient(nameOrKid)]);
}

/** Asserts that a store opens an annotation, in this process. */
export async function assertOpens(dir: string, annotation: Buffer, secrets = noSecrets): Promise<void> {
  assert.is((await open(annotation, openStore(dir, secrets))).toString(), OPTSDATA);
}

/** Asserts that a store does not open an annotation, in this process. @returns why */
export async function assertClosed(dir: string, annotation: Buffer, secrets = noSecrets): Promise<string> {
  const error: unknown = await open(annotation, openStore(dir, secrets)).catch((reason: unknown) => reason);
  assert.instance(error, KeystoreError);
  assert.is((error as KeystoreError).exitCode, 3);
  return errorLine(error);
}

/** What a JWK is made of, where a test changes one. */
export type Members = Record<string, unknown>;

/** A JSON file's object. */
export function readJson(path: string): Members {
  return JSON.parse(readFileSync(path, "utf8")) as Members;
}

/** Everything in a JWK that must never be shown. */
export function secretsOf(jwk: Members): string[] {
  return ["d", "p", "q", "dp", "dq", "qi", "k"].map((name) => jwk[name]).filter((value) => typeof value === "string" && value.length > 8) as string[];
}

/** A tool's path, undefined where this machine has none. */
export function tool(name: string): string | undefined {
  return (process.env["PATH"] ?? "").split(delimiter).map((folder) => join(folder, name)).find((path) => existsSync(path));
}

/** Runs a tool that must succeed: its standard output. */
export function use(command: string, args: readonly string[], input: string | Buffer = ""): string {
  const { status, stdout, stderr } = spawnSync(command, args, { input, cwd: temporaryFolder(), timeout: 60_000 });
  assert.is(status, 0, `${command} ${args.join(" ")}: ${String(stderr)}`);
  return stdout.toString();
}
