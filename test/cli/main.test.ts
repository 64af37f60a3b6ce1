// list, show, default, config, help and what they share.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { temporaryFolder } from "../support/folders.ts";
import { assertFailure, BINARY, ROOT, run, succeed } from "../support/program.ts";
import { kidOf, makeStore } from "../support/stores.ts";

const dir = makeStore("alice", "bob:--type rsa --bits 2048", "carol:--type oct --bits 128");
const cli = (...args: readonly string[]): string => succeed([...args, "--keystore", dir]);
const read = (path: string): string => readFileSync(path, "utf8");

test("list --json has the members that programs rely on, and no key material", () => {
  const rows = JSON.parse(cli("list", "--json")) as Record<string, unknown>[];
  const created = rows[0]?.["created"];
  assert.match(String(created), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
  assert.equal(
    rows.map(({ created: _created, ...row }) => row),
    [
      { name: "alice", kid: kidOf(dir, "alice"), type: "ec", alg: "ECDH-ES+A256KW", crv: "P-256", state: "current", default: true, private: "file" },
      { name: "bob", kid: kidOf(dir, "bob"), type: "rsa", alg: "RSA-OAEP-256", state: "current", default: false, private: "file" },
      { name: "carol", kid: kidOf(dir, "carol"), type: "oct", alg: "A128KW", state: "current", default: false, private: "file" },
    ],
  );
});

test("list is a line a key for people", () => {
  const lines = cli("list").trimEnd().split("\n");
  assert.is(lines.length, 4);
  assert.match(lines[1] ?? "", new RegExp(`^alice \\(default\\) +P-256 +current +file +\\S+Z +${kidOf(dir, "alice")}$`));
});

test("show tells of a name or a kid, and never prints what is private", () => {
  for (const key of ["alice", kidOf(dir, "alice")]) {
    const [entry] = JSON.parse(cli("show", key, "--json")) as { name: string; public: Record<string, string> }[];
    assert.is(entry?.name, "alice");
    assert.equal(Object.keys(entry?.public ?? {}).toSorted(), ["created", "crv", "kid", "kty", "x", "y"]);
  }
  for (const name of ["alice", "bob", "carol"]) {
    const secret = JSON.parse(read(join(dir, "private", `${kidOf(dir, name)}.jwk`))) as { d?: string; k?: string };
    assert.not.match(cli("show", name) + cli("show", name, "--json"), secret.d ?? secret.k ?? "");
  }
});

test("default shows and sets the default key", () => {
  assert.is(cli("default"), "alice\n");
  assert.is(cli("default", "bob"), "");
  assert.is(cli("default"), "bob\n");
  assert.match(assertFailure(run(["default", "nobody", "--keystore", dir]), 1), /no key named nobody/);
  assert.is(cli("default"), "bob\n");
  cli("default", "alice");
});

test("config prints the ocicrypt.conf that names this binary and this store by absolute paths", () => {
  const conf = JSON.parse(succeed(["config", "--provider", "simplecrypt", "--keystore", "keys"], { cwd: temporaryFolder() })) as object;
  const { simplecrypt } = (conf as { "key-providers": Record<string, { cmd: { path: string; args: string[] } }> })["key-providers"];
  assert.is(simplecrypt?.cmd.path, BINARY);
  assert.match(simplecrypt?.cmd.args.join(" ") ?? "", /^--keystore \/\S+\/keys --provider simplecrypt$/);
  assert.match(cli("config"), '"keystore": {');
  assert.match(assertFailure(run(["config", "--provider", "a:b"]), 2), /cannot be a provider's name/);
});

for (const command of ["", "keygen", "list", "show", "default", "config"]) {
  test(`--help has an example: ${command || "of all"}`, () => {
    assert.match(succeed([...command.split(" ").filter(Boolean), "--help"]), /Examples:\n/);
  });
}

test("--version is package.json's", () => {
  assert.is(succeed(["--version"]).trim(), (JSON.parse(read(join(ROOT, "package.json"))) as { version: string }).version);
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
  const { code, stderr } = run(["-c", 'cd "$(mktemp -d)" && rmdir "$PWD" && "$0" list --keystore "$1"', BINARY, dir], { binary: "/bin/bash", env: { PATH: "/usr/bin:/bin" } });
  assert.is(code, 0, stderr);
});

test.run();
