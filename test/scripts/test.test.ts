// The test runner on test files of its own: whatever a file does, each of its tests is counted, or the file fails.

import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { temporaryFolder } from "../support/folders.ts";
import { ROOT } from "../support/program.ts";

const FIRST = 'import { test } from "uvu"; test("one", () => {});';
const SLEEP = '["60"], { stdio: "inherit"';
const NEVER = 'test("two", () => new Promise(() => {}));';
const SPAWN = 'import { spawn } from "node:child_process";';

interface Said {
  readonly code: number | null;
  readonly lines: readonly string[];
  readonly seconds: number;
}

/** What the runner says of test files, given as their sources by name. */
function runner(
  files: Readonly<Record<string, string>>,
  env: NodeJS.ProcessEnv = {},
  ...args: readonly string[]
): Said {
  const root = temporaryFolder();
  for (const folder of ["scripts", "test"]) mkdirSync(join(root, folder));
  copyFileSync(join(ROOT, "scripts/test.ts"), join(root, "scripts/test.ts"));
  writeFileSync(join(root, "scripts/build.ts"), "");
  writeFileSync(join(root, "package.json"), '{ "type": "module" }');
  symlinkSync(join(ROOT, "node_modules"), join(root, "node_modules"));
  for (const [name, source] of Object.entries(files)) writeFileSync(join(root, `test/${name}.test.ts`), `${source}\n`);
  const started = Date.now();
  const command = [join(root, "scripts/test.ts"), ...args];
  const { status, stdout } = spawnSync(process.execPath, command, { env, encoding: "utf8", timeout: 60_000 });
  return { code: status, lines: stdout.trimEnd().split("\n"), seconds: (Date.now() - started) / 1000 };
}

test("adds up what the files say, or only those that are meant", () => {
  const files = { a: `${FIRST}\ntest.run();`, b: `${FIRST} test("two", () => {});\ntest.run();` };
  const all = runner(files);
  assert.equal([all.code, all.lines.at(-1)], [0, "3 passed, 0 failed"]);
  assert.is(runner(files, {}, "b.test").lines.at(-1), "2 passed, 0 failed");
  const none = runner(files, {}, "c.test");
  assert.equal([none.code, none.lines.at(-1)], [1, "0 passed, 1 failed"]);
});

for (const [what, source, passed, says] of [
  ["fails", `${FIRST} test("two", () => { throw new Error("no"); });\ntest.run();`, 1, /FAIL +"two"/],
  ["crashes while it is loaded", `${FIRST} throw new Error("no");\ntest.run();`, 0, /Error: no/],
  [
    "crashes after its tests",
    `${FIRST} setTimeout(() => { throw new Error("no"); }, 300);\ntest.run();`,
    1,
    /Error: no/,
  ],
  ["ends early", `${FIRST} test("two", () => process.exit(0)); test("three", () => {});\ntest.run();`, 0, /•/],
  ["waits for what never comes", `${FIRST} ${NEVER} test("three", () => {});\ntest.run();`, 0, /•/],
  ["has no test", `${FIRST.split("test(")[0] ?? ""}\ntest.run();`, 0, /Total: +0/],
  ["never runs its tests", FIRST, 0, /test\.run\(\); must be its last line/],
  [
    "has a test behind test.run()",
    `${FIRST}\ntest.run();\ntest("two", () => {});`,
    0,
    /test\.run\(\); must be its last line/,
  ],
] as const) {
  test(`a file fails that ${what}`, () => {
    const { code, lines } = runner({ a: source });
    assert.equal([code, lines.at(-1)], [1, `${passed} passed, 1 failed`]);
    assert.match(lines.join("\n"), says);
  });
}

for (const [what, source] of [
  ["a skipped test", 'test.skip("two");'],
  ["a test beside test.only", 'test.only("two", () => {});'],
] as const) {
  test(`${what} is told, and is a failure in CI`, () => {
    const files = { a: `${FIRST} ${source}\ntest.run();` };
    const here = runner(files);
    assert.equal([here.code, here.lines.at(-1)], [0, "1 passed, 0 failed, 1 skipped"]);
    const inCi = runner(files, { CI: "true" });
    assert.equal([inCi.code, inCi.lines.at(-1)], [1, "1 passed, 1 failed"]);
  });
}

test("a file that does not end is ended", () => {
  const hangs = `${FIRST} ${SPAWN} spawn("sleep", ${SLEEP} }); ${NEVER}\ntest.run();`;
  const environment = { ENDURANCE: "-33", PATH: process.env["PATH"] }; // leaves 0.1 minutes
  const { code, lines, seconds } = runner({ a: hangs }, environment);
  assert.equal([code, lines.at(-1)], [1, "0 passed, 1 failed"]);
  assert.match(lines.join("\n"), "still running after");
  assert.ok(seconds < 40, "in time");
});

test("what a file leaves running holds up nothing", () => {
  for (const options of ["", ", detached: true"]) {
    const leaves = `${FIRST} ${SPAWN} spawn("sleep", ${SLEEP}${options} }).unref();\ntest.run();`;
    const { code, lines, seconds } = runner({ a: leaves }, { PATH: process.env["PATH"] });
    assert.equal([code, lines.at(-1)], [0, "1 passed, 0 failed"]);
    assert.ok(seconds < 40, "in time");
  }
});

test.run();
