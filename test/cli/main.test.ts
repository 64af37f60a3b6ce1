// What the subcommands share: help, wrong usage, a store that cannot be read.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { assertFailure, BINARY, ROOT, run, succeed } from "../support/program.ts";
import { kidOf, makeStore } from "../support/stores.ts";

const dir = makeStore("alice", "bob:--type rsa --bits 2048", "carol:--type oct --bits 128");
const read = (path: string): string => readFileSync(path, "utf8");

for (const command of ["", "keygen", "list", "show", "default", "config"]) {
  test(`--help has an example: ${command || "of all"}`, () => {
    assert.match(succeed([...command.split(" ").filter(Boolean), "--help"]), /Examples:\n/);
  });
}

test("--version is package.json's", () => {
  assert.is(
    succeed(["--version"]).trim(),
    (JSON.parse(read(join(ROOT, "package.json"))) as { version: string }).version,
  );
});

for (const [args, line] of [
  [["frobnicate"], /unknown argument: frobnicate; see ocicrypt-keystore --help/],
  [["--frobnicate"], /no command given/],
  [["list", "--frobnicate"], /unknown argument: frobnicate/],
  [["--keystore"], /not enough arguments following: keystore/],
  [["--keystore", ""], /no command given/],
  [["show"], /not enough/],
] as const) {
  test(`is wrong usage, exit code 2: ${args.join(" ")}`, () => {
    assert.match(assertFailure(run(args), 2), line);
  });
}

test("says which key file is damaged", () => {
  const damaged = makeStore("alice");
  writeFileSync(join(damaged, "public", `${kidOf(damaged, "alice")}.jwk`), '{"kty":"EC","secret":"UDF0');
  const line = assertFailure(run(["list", "--keystore", damaged]), 1);
  assert.match(line, /public\/[\w-]{43}\.jwk is damaged: it is not JSON/);
  assert.not.match(line, "UDF0");
});

test("works from a working directory that is gone", () => {
  const { code, stderr } = run(["-c", 'cd "$(mktemp -d)" && rmdir "$PWD" && "$0" list --keystore "$1"', BINARY, dir], {
    binary: "/bin/bash",
    env: { PATH: "/usr/bin:/bin" },
  });
  assert.is(code, 0, stderr);
});

test.run();
