// Standard output and standard error that are closed, full or without a reader: an answer that is lost is told, a remark that is lost is not.

import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { temporaryFolder } from "../support/folders.ts";
import { assertFailure, BINARY, run, type Result } from "../support/program.ts";
import { unwrapRequest, wrap } from "../support/requests.ts";
import { masterKeyFile, kidOf, makeStore } from "../support/stores.ts";

const origin = makeStore("alice");
const request = unwrapRequest(wrap(origin, ["alice"]));
const key = masterKeyFile();

const FULL = "> /dev/full";
const CLOSED = ">&-";
const DISCARDED = "> /dev/null";
const NO_READER = ">&3"; // a pipe whose reader is gone

/** Runs the binary on a copy of the store, its output where a shell's redirection sends it. */
function shell(args: string, redirection: string): Result & { dir: string } {
  const dir = join(temporaryFolder(), "store");
  const pipe = redirection.includes(NO_READER) ? "exec 3> >(exec true); wait $!; " : "";
  const script = `cp -a "$1" "$2"; ${pipe}"$0" ${args} --keystore "$2" ${redirection}`;
  const { status, stdout, stderr } = spawnSync("bash", ["--norc", "-c", script, BINARY, origin, dir], {
    input: request,
    encoding: "utf8",
    env: { PATH: "/usr/bin:/bin" },
  });
  return { code: status, stdout, stderr, dir };
}

// Texts to look at.
for (const args of ["list", "show alice --json", "--help", "--version", "completion bash"]) {
  test(`tells that the disk is full, leaves a reader alone that has seen enough, and may be discarded: ${args}`, () => {
    assert.match(assertFailure(shell(args, FULL), 1), "cannot write to standard output: ENOSPC");
    const { dir: _, ...gone } = shell(args, NO_READER);
    assert.equal(gone, { code: 1, stdout: "", stderr: "" });
    assert.is(shell(args, DISCARDED).code, 0);
  });
}

test("goes on with its checks although nobody reads what it prints", () => {
  const { code, stderr } = shell("doctor --fix", NO_READER);
  assert.is(code, 1);
  assert.is(stderr, "");
});

// Answers: of exec mode, and keys.
for (const args of ["", "export alice --private"]) {
  test(`is no success where nobody gets the answer: ${args || "exec mode"}`, () => {
    assert.match(assertFailure(shell(args, FULL), 1), "cannot write to standard output: ENOSPC");
    assert.match(assertFailure(shell(args, NO_READER), 1), "cannot write to standard output: EPIPE");
    assert.match(
      assertFailure(shell(args, CLOSED), 1),
      "standard output is closed, or is /dev/null opened to read and write",
    );
    assert.equal({ ...shell(args, DISCARDED), dir: "" }, { code: 0, stdout: "", stderr: "", dir: "" });
  });
}

// Changes that print a kid.
for (const args of ["keygen bob", "rotate alice"]) {
  test(`says that the key is there although its kid was not printed: ${args}`, () => {
    for (const redirection of [FULL, NO_READER]) {
      const failed = shell(args, redirection);
      const kid = kidOf(failed.dir, args.split(" ")[1] ?? "");
      assert.match(
        assertFailure(failed, 1),
        `the key ${kid} is in the store, but its kid was not printed: cannot write to standard output: E`,
      );
    }
  });
}

// Remarks on standard error.
for (const args of [
  "keygen bob",
  `lock --master-key-file ${key}`,
  "remove alice --force",
  "doctor --fix",
  "config --grpc h:1 --tls-ca /a --tls-cert /b --tls-key /c",
]) {
  test(`is a success whatever becomes of its remarks: ${args.split(" -")[0]}`, () => {
    const expected = shell(args, "");
    assert.is(expected.code, 0, expected.stderr);
    for (const redirection of ["2> /dev/full", "2>&-", "2>&3 3>&-"])
      assert.is(shell(args, redirection).code, 0, redirection);
  });
}

test("keeps its exit code where the line about a failure cannot be written", () => {
  for (const redirection of ["2> /dev/full", "2>&-"]) {
    assert.is(shell("default nobody", redirection).code, 1);
    assert.is(shell("frobnicate", redirection).code, 2);
  }
  assert.is(run(["default", "nobody", "--keystore", origin]).code, 1);
});

test.run();
