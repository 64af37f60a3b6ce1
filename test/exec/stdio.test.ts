// Nothing ends in silence: a program whose work never settles ends with exit code 1 and one line, and holds no lock.

import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { temporaryFolder } from "../support/folders.ts";
import { assertFailure, ROOT, type Result, runBeside } from "../support/program.ts";
import { unwrapRequest } from "../support/requests.ts";
import { wrapHere, makeStore } from "../support/stores.ts";
import { LyingTang, serverOf } from "../support/tang.ts";

const EARLY = /the program ended before its work was done; /;

/** Runs TypeScript with the sources at hand, as a program of its own. */
function node(args: readonly string[], input = ""): Result {
  const { status, stdout, stderr } = spawnSync(process.execPath, args, {
    input,
    cwd: ROOT,
    encoding: "utf8",
    timeout: 20_000,
    env: {},
  });
  return { code: status, stdout, stderr };
}

/** Runs `work` as the program's. */
function settling(work: string): Result {
  const code = `
    import { settle } from "./src/exec/stdio.ts";
    import { withLock } from "./src/fs/lock.ts";
    await settle(async () => { ${work} });
    process.stdout.write("settled");
  `;
  return node(["--input-type=module-typescript", "--no-warnings", "-e", code]);
}

const NEVER = "await new Promise(() => {});";
for (const [name, work] of [
  ["a promise that never settles", NEVER],
  ["an exit of its own", "process.exit(0);"],
  ["a timer that nobody waits for", `AbortSignal.timeout(60_000); ${NEVER}`],
] as const) {
  test(`ends with exit code 1 and one line: ${name}`, () => {
    assert.match(assertFailure(settling(work), 1), EARLY);
  });
}

for (const [name, work] of [
  [
    "an error that nobody catches",
    'setImmediate(() => { throw new Error("UDF0CHxh"); }); setInterval(() => {}, 1000);',
  ],
  ["a rejection that nobody awaits", 'void Promise.reject(new TypeError("UDF0CHxh")); setInterval(() => {}, 1000);'],
  [
    "a failed write to a stream",
    'process.getBuiltinModule("node:fs").createWriteStream("/dev/full").end("x"); setInterval(() => {}, 1000);',
  ],
] as const) {
  test(`shows as one line: ${name}`, () => {
    const { code, stdout, stderr } = settling(`${work} ${NEVER}`);
    assert.is(code, 1);
    assert.is(stdout, "");
    assert.match(stderr, /^ocicrypt-keystore: [^\n]+; [^\n]+\n$/);
    assert.not.match(stderr, /UDF0|\n\s+at /);
  });
}

test("says nothing once the work has settled, and keeps the exit code", () => {
  assert.equal(settling("process.exitCode = 3;"), { code: 3, stdout: "settled", stderr: "" });
  assert.equal(settling(""), { code: 0, stdout: "settled", stderr: "" });
});

test("ends with the lock held, and the next writer takes it at once", () => {
  const lock = join(temporaryFolder(), "lock");
  const held = (work: string): Result => settling(`await withLock(${JSON.stringify(lock)}, async () => { ${work} });`);
  assert.match(assertFailure(held(NEVER), 1), EARLY);
  const started = Date.now();
  assert.equal(held(""), { code: 0, stdout: "settled", stderr: "" });
  assert.ok(Date.now() - started < 5_000);
});

// The program itself, with an HTTP client whose requests never come to anything: what no cause known today would do.
const FAULT = `
  import { EventEmitter } from "node:events";
  import { syncBuiltinESMExports } from "node:module";
  const never = () => new Promise(() => {});
  globalThis.fetch = never;
  const http = process.getBuiltinModule("node:http");
  http.request = () => { globalThis.setTimeout = () => undefined; return Object.assign(new EventEmitter(), { end() {}, destroy() {} }); };
  syncBuiltinESMExports();
`;

{
  const tang = await LyingTang.started();
  const dir = makeStore("alice");
  const annotation = await wrapHere(dir, "alice");
  assert.is((await runBeside(["lock", ...serverOf(tang), "--keystore", dir])).code, 0);
  const fault = join(temporaryFolder(), "fault.mjs");
  writeFileSync(fault, FAULT);
  const main = (args: readonly string[], input = ""): Result =>
    node(["--no-warnings", `--import=${fault}`, join(ROOT, "src/main.ts"), ...args, "--keystore", dir], input);
  for (const [args, input] of [
    [[], unwrapRequest(annotation)],
    [["inspect", "docker://127.0.0.1:1/app", "--tls-verify=false"], ""],
    [["unlock"], ""],
    [["keygen", "bob"], ""],
  ] as const) {
    test(`a request that is never answered ends it with a line: ${args[0] ?? "exec mode"}`, () => {
      const started = Date.now();
      assert.match(assertFailure(main(args, input), 1), EARLY);
      assert.ok(Date.now() - started < 10_000, "no lock of the run before is waited for");
    });
  }
}

test.run();
