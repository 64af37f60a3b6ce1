// What the tests share: the built binary as a client starts it, stores of their own, and what runs only where it can.

import { spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";

export const ROOT = join(import.meta.dirname, "..");
export const BINARY = join(ROOT, "dist/ocicrypt-keystore");

/** How a process ended. */
export interface Result {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Options of {@link run}. */
export interface RunOptions {
  readonly input?: string | Buffer;
  /** The whole environment; empty where nothing is said, as containerd starts it. */
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  /** ms; a process that takes longer is killed and its code is null. */
  readonly timeout?: number;
  readonly binary?: string;
}

/** Runs the binary to its end. */
export function run(args: readonly string[], { input = "", env = {}, cwd = "/", timeout = 20_000, binary = BINARY }: RunOptions = {}): Result {
  const { status, stdout, stderr } = spawnSync(binary, args, { input, env, cwd, timeout, killSignal: "SIGKILL", maxBuffer: 64 * 1024 * 1024 });
  return { code: status, stdout: stdout.toString(), stderr: stderr.toString() };
}

/** Runs a command that must succeed, and gives what it printed. */
export function succeed(args: readonly string[], options?: RunOptions): string {
  const { code, stdout, stderr } = run(args, options);
  assert.is(code, 0, `${args.join(" ")}: ${stderr}`);
  return stdout;
}

/** Asserts how every failure looks: nothing on stdout, one line on stderr, no stack trace. Returns the line. */
export function assertFailure({ code, stdout, stderr }: Result, exitCode: number): string {
  assert.is(code, exitCode, `exit code: ${stderr}`);
  assert.is(stdout, "", "stdout");
  assert.match(stderr, /^ocicrypt-keystore: [^\n]+; [^\n]+\n$/, "one line with a hint");
  assert.not.match(stderr, /\n\s+at |internal error|node:/, "no stack trace");
  assert.ok(stderr.length <= 2049, "a short line");
  return stderr.trimEnd();
}

const temporary: string[] = [];
process.on("exit", () => {
  for (const dir of temporary) rmSync(dir, { recursive: true, force: true });
});

/** A new folder that goes with the process. */
export function temporaryFolder(): string {
  const dir = mkdtempSync(join(tmpdir(), "ocicrypt-keystore-test-"));
  temporary.push(dir);
  return dir;
}

/** A new folder that every user can enter, whatever TMPDIR and the umask are. It goes with the process. */
export function sharedFolder(): string {
  const dir = mkdtempSync("/tmp/ocicrypt-keystore-test-");
  temporary.push(dir);
  chmodSync(dir, 0o755);
  return dir;
}

let shared: string | undefined;
/** A copy of the binary that every user can start: the clone may be where only its owner can go. */
export function sharedBinary(): string {
  if (shared !== undefined) return shared;
  const copy = join(sharedFolder(), "ocicrypt-keystore");
  copyFileSync(BINARY, copy);
  chmodSync(copy, 0o755);
  return (shared = copy);
}

/** A key store with a key of each name, made by the binary. `NAME:ARGS` gives keygen's options. */
export function makeStore(...keys: readonly string[]): string {
  return fillStore(join(temporaryFolder(), "store"), keys);
}

/** The same where every user can read what keygen leaves readable under the usual umask. */
export function makeSharedStore(...keys: readonly string[]): string {
  return withUmask(0o022, () => fillStore(join(sharedFolder(), "store"), keys));
}

/** Does something under a umask, which what it starts gets too. */
export function withUmask<T>(umask: number, body: () => T): T {
  const former = process.umask(umask);
  try {
    return body();
  } finally {
    process.umask(former);
  }
}

function fillStore(dir: string, keys: readonly string[]): string {
  for (const key of keys) {
    const [name = "", options = ""] = key.split(":");
    succeed(["keygen", name, ...options.split(" ").filter((word) => word !== ""), "--keystore", dir]);
  }
  return dir;
}

/** The kid of a name. */
export function kidOf(dir: string, name: string): string {
  return readFileSync(join(dir, "names", name), "utf8").split("\n")[0] ?? "";
}

/** A line of these words for sh. */
export function shellLine(words: readonly string[]): string {
  return words.map((word) => `'${word.replaceAll("'", String.raw`'\''`)}'`).join(" ");
}

/** A request that a real client sent, from test/protocol. */
export function recorded(name: string): string {
  return readFileSync(join(import.meta.dirname, "protocol", `${name}.json`), "utf8");
}

/** What a layer's key looks like. */
export const OPTSDATA = '{"symkey":"UDF0CHxhvdjr2p5QymafHz5f9nGuHpPVBSKfXUby0Y=","digest":"sha256:0","cipheroptions":{"nonce":"AA=="}}';

/** A wrap request of a provider with values, as skopeo sends it. */
export function wrapRequest(values: readonly string[], provider = "keystore", optsdata: string | Buffer = OPTSDATA): string {
  const parameters = { [provider]: values.map((value) => Buffer.from(value).toString("base64")) };
  return JSON.stringify({
    op: "keywrap",
    keywrapparams: { ec: { Parameters: parameters, DecryptConfig: { Parameters: {} } }, optsdata: Buffer.from(optsdata).toString("base64") },
    keyunwrapparams: { dc: null, annotation: null },
  });
}

/** An unwrap request for an annotation, as containerd sends it. */
export function unwrapRequest(annotation: string | Buffer): string {
  return JSON.stringify({
    op: "keyunwrap",
    keywrapparams: { ec: null, optsdata: null },
    keyunwrapparams: { dc: { Parameters: null }, annotation: Buffer.from(annotation).toString("base64") },
  });
}

/** Wraps for recipients with the binary: the annotation, decoded. */
export function wrap(dir: string, values: readonly string[], optsdata?: string | Buffer): Buffer {
  const { keywrapresults } = JSON.parse(succeed(["--keystore", dir], { input: wrapRequest(values, "keystore", optsdata) })) as {
    keywrapresults: { annotation: string };
  };
  return Buffer.from(keywrapresults.annotation, "base64");
}

/** Unwraps an annotation with the binary: the optsdata as text. */
export function unwrap(dir: string, annotation: string | Buffer): string {
  const { keyunwrapresults } = JSON.parse(succeed(["--keystore", dir], { input: unwrapRequest(annotation) })) as {
    keyunwrapresults: { optsdata: string };
  };
  return Buffer.from(keyunwrapresults.optsdata, "base64").toString();
}

/**
 * A test that needs a real part. Where it is missing the test is skipped and says why; in CI that is a failure.
 *
 * @param part what it needs, undefined where this machine has none
 */
export function testWith<T>(part: T | undefined, missing: string, name: string, body: (part: T) => void | Promise<void>): void {
  if (part !== undefined) return test(name, async () => await body(part));
  if (process.env["CI"] !== undefined) {
    return test(name, () => {
      throw new Error(`CI must have ${missing}`);
    });
  }
  process.stdout.write(`skipped: ${name} (needs ${missing})\n`);
  return test.skip(name);
}

/** What makes unshare(1) give a mount namespace: a user namespace of its own, or root's rights. Undefined where neither does. */
export function mountNamespace(): readonly string[] | undefined {
  return [["-rm"], ["-m"]].find((args) => spawnSync("unshare", [...args, "mount", "--bind", "/tmp", "/etc"]).status === 0);
}

/** How often an endurance test repeats: `full` in CI (ENDURANCE=100, in per cent), a fiftieth where nothing is said. */
export function endurance(full: number): number {
  return Math.max(3, Math.ceil((full * Number(process.env["ENDURANCE"] ?? 2)) / 100));
}
