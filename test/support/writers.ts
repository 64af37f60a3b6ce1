// Every command that writes to a store, and the system calls with which it does.

import { cpSync, existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { generateJwk } from "../../src/jwk/jwk.ts";
import { openStore } from "../../src/keystore/store.ts";
import { secretFiles } from "../../src/at-rest/secret-files.ts";
import { secretFile, temporaryFolder } from "./folders.ts";
import { holds, newEc, openssl } from "./holders.ts";
import { tool } from "./parts.ts";
import { BINARY, run, succeed, type Result } from "./program.ts";
import { assertOpens, masterKeyFile, noSecrets, wrapHere, kidOf, makeStore } from "./stores.ts";

/** What these tests need. */
export const strace = openssl === undefined ? undefined : tool("strace");
export const STRACE = "strace and openssl";

const masterKey = masterKeyFile();
const secrets = secretFiles({ masterKeyFile: masterKey });
const holder = newEc();
const SYSTEM_CALLS = ["openat", "write", "fsync", "rename", "link", "unlink", "mkdir", "fchmod"] as const;

/** A command that writes, with the store it starts from. */
export interface Writer {
  readonly name: string;
  readonly args: readonly string[];
  readonly base: () => string;
  /** Whether it takes bob's key away. */
  readonly removes: boolean;
}

const once = <T>(make: () => T): (() => T) => {
  let made: { value: T } | undefined;
  return () => (made ??= { value: make() }).value;
};
const open = once(() => {
  const dir = makeStore("alice", "bob:--type oct");
  succeed(["rotate", "alice", "--keystore", dir]);
  return dir;
});
const locked = once(() => {
  const dir = join(temporaryFolder(), "store");
  cpSync(open(), dir, { recursive: true });
  succeed(["lock", "--keystore", dir, "--master-key-file", masterKey]);
  return dir;
});
const writer = (name: string, base = open): Writer => {
  const [command = "", ...args] = name.split(" ");
  const file = (): string =>
    args.includes("--holder") ? holder.publicFile : secretFile(JSON.stringify(generateJwk({ type: "ec" })));
  const complete = args.map((arg) => (arg === "FILE" ? file() : arg));
  const end = command === "import" && args.includes("--holder") ? ["--", ...holds("ecdh", holder)] : [];
  return {
    name,
    args: [command, ...complete, "--master-key-file", masterKey, ...end],
    base,
    removes: command === "remove",
  };
};

/** Every writing command. */
export const WRITERS: readonly Writer[] = [
  writer("keygen carol"),
  writer("keygen dave --type oct", locked),
  writer("import carol FILE"),
  writer("import hsm FILE --holder ecdh"),
  writer("rotate alice"),
  writer("rotate alice", locked),
  writer("default bob"),
  writer("remove bob --force"),
  writer("remove bob --force --purge"),
  writer("remove alice --force"),
  writer("lock"),
  writer("unlock", locked),
];

/** A copy of the store that a command starts from. */
export function copyOf(base: string): string {
  const dir = join(temporaryFolder(), "store");
  cpSync(base, dir, { recursive: true });
  return dir;
}

/** Runs a writer on a store, with options of strace where it is to run under it. */
export function runWriter({ args }: Writer, dir: string, traced: readonly string[] = []): Result {
  const end = args.includes("--") ? args.indexOf("--") : args.length;
  const [file = "", ...words] = [...traced, BINARY, ...args.slice(0, end), "--keystore", dir, ...args.slice(end)];
  return run(words, { binary: file });
}

/** A system call on a store, and how many of its name the process had made by then. */
export interface Call {
  readonly name: string;
  readonly when: number;
  readonly line: string;
}

/** What a writer does to its store, call by call. Node makes the calls of its synchronous functions on the main thread, the only one that is traced. */
export function record(program: string, writing: Writer, dir: string): Call[] {
  const trace = join(temporaryFolder(), "trace");
  const { code, stderr } = runWriter(writing, dir, [
    program,
    "-y",
    "-s",
    "100000",
    "-e",
    `trace=${SYSTEM_CALLS.join(",")}`,
    "-o",
    trace,
  ]);
  assert.is(code, 0, stderr);
  return callsOn(dir, trace);
}

/** The calls on a store in a trace. */
export function callsOn(dir: string, trace: string): Call[] {
  const count = new Map<string, number>();
  return readFileSync(trace, "utf8")
    .split("\n")
    .flatMap((line) => {
      const name = /^(\w+)\(/.exec(line)?.[1] ?? "";
      const when = (count.get(name) ?? 0) + 1;
      count.set(name, when);
      return name !== "" && line.includes(dir) ? [{ name, when, line }] : [];
    });
}

/** The annotations of a store's keys: the current ones and alice's retired one. */
const annotations = once(async () => {
  const dir = open();
  const [, retired = ""] = readFileSync(join(dir, "names/alice"), "utf8").split("\n");
  const alone = copyOf(dir);
  writeFileSync(join(alone, "names/alice"), `${retired}\n`);
  return {
    alice: await wrapHere(dir, "alice", secrets),
    retired: await wrapHere(alone, "alice", secrets),
    bob: await wrapHere(dir, "bob", secrets),
  };
});

/** Asserts that a store opens what it opened before a writer came; a key that it removes may be in removed/ instead, or gone. */
export async function assertNothingLost(dir: string, { args, removes }: Writer): Promise<void> {
  const [, name] = args;
  const { alice, retired, bob } = await annotations();
  const kids = {
    alice: [kidOf(open(), "alice"), alice],
    retired: [readFileSync(join(open(), "names/alice"), "utf8").split("\n")[1] ?? "", retired],
    bob: [kidOf(open(), "bob"), bob],
  } as const;
  for (const [key, [kid, annotation]] of Object.entries(kids)) {
    const leaves = removes && (key === name || (key === "retired" && name === "alice"));
    if (!leaves || openStore(dir, noSecrets).locate(kid) !== undefined) await assertOpens(dir, annotation, secrets);
    else if (!args.includes("--purge"))
      assert.ok(
        existsSync(join(dir, "removed", `${kid}.jwk`)) || existsSync(join(dir, "removed", `${kid}.jwe`)),
        `${kid} is gone`,
      );
  }
  for (const one of openStore(dir, noSecrets).names()) await wrapHere(dir, one, secrets); // no name leads to nothing
}

/** Asserts that a command left neither a lock nor a temporary file. */
export function assertTidy(dir: string): void {
  assert.equal(
    readdirSync(dir, { recursive: true, encoding: "utf8" }).filter((path) => /\.lock|\.tmp/.test(path)),
    [],
  );
}
