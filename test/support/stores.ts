// Key stores: made by the binary, looked into, and their keys used in this process.

import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import * as assert from "uvu/assert";
import { secretFiles } from "../../src/at-rest/secret-files.ts";
import type { SecretSource } from "../../src/at-rest/locked-file.ts";
import { errorLine, KeystoreError } from "../../src/errors.ts";
import { open } from "../../src/jwe/open.ts";
import { seal } from "../../src/jwe/seal.ts";
import { generateJwk, kidOf as kidOfJwk, publicHalf, type TypeName } from "../../src/jwk/jwk.ts";
import { Paths } from "../../src/keystore/paths.ts";
import { openStore } from "../../src/keystore/store.ts";
import { secretFile, sharedFolder, temporaryFolder, tree, withUmask } from "./folders.ts";
import { assertFailure, run, succeed, type Result, type RunOptions } from "./program.ts";
import { OPTSDATA } from "./requests.ts";

/**
 * A key store with a key of each name, as keygen makes it (keygen's test compares). `NAME:ARGS` gives keygen's options.
 * It is written here: hundreds of tests begin with one, and a start of the binary for each key would take minutes.
 */
export function makeStore(...keys: readonly string[]): string {
  return fillStore(join(temporaryFolder(), "store"), keys);
}

/** The same where every user can read what keygen leaves readable under the usual umask. */
export function makeSharedStore(...keys: readonly string[]): string {
  return withUmask(0o022, () => fillStore(join(sharedFolder(), "store"), keys));
}

const KEYGEN = { type: { type: "string" }, curve: { type: "string" }, bits: { type: "string" } } as const;

function fillStore(dir: string, keys: readonly string[]): string {
  const paths = new Paths(dir);
  mkdirSync(dir, { recursive: true });
  for (const key of keys) {
    const [name = "", options = ""] = key.split(":");
    const { values } = parseArgs({ args: options.split(" ").filter((word) => word !== ""), options: KEYGEN });
    const { type = "ec", curve, bits } = values;
    const jwk = generateJwk({ type: type as TypeName, curve, bits: bits === undefined ? undefined : Number(bits) });
    const kid = kidOfJwk(jwk);
    for (const [folder, mode] of [
      [paths.public, 0o755],
      [paths.private, 0o700],
      [paths.names, 0o755],
    ] as const) {
      mkdirSync(folder, { recursive: true, mode });
    }
    const created = new Date().toISOString().replace(/\.\d+/, "");
    writeFileSync(paths.privateKey(kid, "jwk"), `${JSON.stringify({ ...jwk, kid })}\n`, { mode: 0o600 });
    writeFileSync(paths.publicKey(kid), `${JSON.stringify({ ...publicHalf(jwk), kid, created })}\n`, { mode: 0o644 });
    writeFileSync(paths.name(name), `${kid}\n`, { mode: 0o644 });
    if (!existsSync(paths.default)) writeFileSync(paths.default, `${name}\n`, { mode: 0o644 });
  }
  return dir;
}

/** The kid of a name. */
export function kidOf(dir: string, name: string): string {
  return readFileSync(join(dir, "names", name), "utf8").split("\n")[0] ?? "";
}

/** What to give where no secret is needed. */
export const noSecrets: SecretSource = secretFiles({});

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
  return ["d", "p", "q", "dp", "dq", "qi", "k"]
    .map((name) => jwk[name])
    .filter((value) => typeof value === "string" && value.length > 8) as string[];
}

/** The kids of a name, the current one first. */
export function kidsOf(dir: string, name: string): string[] {
  return readFileSync(join(dir, "names", name), "utf8")
    .trimEnd()
    .split("\n");
}

/** The rows of `list`: name, kid, state, and where the private key is. */
export function rows(dir: string): string[] {
  const listed = JSON.parse(commands(dir)("list", "--json")) as Record<"name" | "kid" | "state" | "private", string>[];
  return listed.map((row) => `${row.name} ${row.kid} ${row.state} ${row.private}`);
}

/** Locks a store with a master key: the file of that key. */
export function lock(dir: string, secret = masterKeyFile()): string {
  succeed(["lock", "--keystore", dir, "--master-key-file", secret]);
  return secret;
}

/** A store whose one key is locked with a secret file, and an annotation that it opens. */
export async function lockedStore(
  ...options: readonly string[]
): Promise<{ dir: string; annotation: Buffer; kid: string }> {
  const dir = makeStore("alice");
  const annotation = await wrapHere(dir, "alice");
  commands(dir)("lock", ...options);
  return { dir, annotation, kid: kidOf(dir, "alice") };
}
