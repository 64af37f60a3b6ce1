import { existsSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { temporaryFolder, tree } from "../support/folders.ts";
import { assertFailure, run, runHere, succeed } from "../support/program.ts";
import { OPTSDATA, unwrap, wrap } from "../support/requests.ts";
import { commands, kidOf, makeStore } from "../support/stores.ts";

runHere();

const json = (path: string): Record<string, string> => JSON.parse(readFileSync(path, "utf8")) as Record<string, string>;
const mode = (path: string): string => (statSync(path).mode & 0o777).toString(8);

test("prints the kid, which is the RFC 7638 thumbprint, and makes the first key the default", () => {
  const dir = join(temporaryFolder(), "deep", "store");
  const kid = succeed(["keygen", "alice", "--keystore", dir]).trim();
  assert.match(kid, /^[\w-]{43}$/);
  assert.is(readFileSync(join(dir, "names/alice"), "utf8"), `${kid}\n`);
  succeed(["keygen", "bob", "--keystore", dir]);
  assert.is(readFileSync(join(dir, "default"), "utf8"), "alice\n");
});

test("writes private keys for the owner alone, in a folder for the owner alone", () => {
  const dir = makeStore("alice");
  assert.is(mode(join(dir, "private")), "700");
  assert.is(mode(join(dir, "private", `${kidOf(dir, "alice")}.jwk`)), "600");
  assert.equal(Object.keys(json(join(dir, "public", `${kidOf(dir, "alice")}.jwk`))).toSorted(), [
    "created",
    "crv",
    "kid",
    "kty",
    "x",
    "y",
  ]);
});

test("prints the kid also beside a link that leads nowhere, or a file that a lock has just removed", () => {
  const dir = makeStore("alice");
  symlinkSync("nowhere", join(dir, "private", `${"A".repeat(43)}.jwk`));
  assert.match(succeed(["keygen", "bob", "--keystore", dir]), kidOf(dir, "bob"));
});

test("writes nothing secret of a symmetric key to public/, nor a kid that tells of it", () => {
  const dir = makeStore("carol:--type oct");
  const kid = kidOf(dir, "carol");
  assert.match(kid, /^[\w-]{22}$/);
  assert.equal(Object.keys(json(join(dir, "public", `${kid}.jwk`))).toSorted(), ["alg", "created", "kid", "kty"]);
});

for (const [options, alg] of [
  ["", "ECDH-ES+A256KW"],
  ["--curve P-384", "ECDH-ES+A256KW"],
  ["--curve P-521", "ECDH-ES+A256KW"],
  ["--type rsa", "RSA-OAEP-256"],
  ["--type rsa --bits 2048", "RSA-OAEP-256"],
  ["--type oct", "A256KW"],
  ["--type oct --bits 128", "A128KW"],
  ["--type oct --bits 192", "A192KW"],
] as const) {
  test(`makes a key that wraps and unwraps: ${options || "the default"}`, () => {
    const dir = makeStore(`key:${options}`);
    const annotation = wrap(dir, ["key"]);
    assert.is(unwrap(dir, annotation), OPTSDATA);
    const { recipients } = JSON.parse(annotation.toString()) as {
      recipients: { header: { alg: string; kid: string } }[];
    };
    assert.equal(
      recipients.map(({ header }) => [header.alg, header.kid]),
      [[alg, kidOf(dir, "key")]],
    );
  });
}

for (const [args, line] of [
  [["keygen"], /not enough/],
  [["keygen", "a", "b"], /unknown argument: b/],
  [["keygen", ".hidden"], /".hidden" cannot be a key's name; use 1 to 64/],
  [["keygen", "a/b"], /cannot be a key's name/],
  [["keygen", "a:b"], /cannot be a key's name/],
  [["keygen", "Enabled"], /Enabled is reserved/],
  [["keygen", "x".repeat(65)], /cannot be a key's name/],
  [["keygen", "é\u202e"], /"é\\u202e" cannot be a key's name/],
  [["keygen", "a", "--type", "dsa"], /invalid values: .*"dsa"/],
  [
    ["keygen", "a", "--type", "rsa", "--bits", "1024"],
    /an RSA key cannot have 1024 bits; use --bits with a multiple of 8 from 2048 to 8192/,
  ],
  [["keygen", "a", "--type", "rsa", "--bits", "many"], /an RSA key cannot have NaN bits/],
  [["keygen", "a", "--type", "oct", "--bits", "64"], /a symmetric key cannot have 64 bits/],
  [["keygen", "a", "--bits", "256"], /--bits is not for --type ec/],
  [["keygen", "a", "--type", "oct", "--curve", "P-256"], /--curve is not for --type oct/],
] as const) {
  test(`refuses ${args.join(" ")}`, () => {
    const dir = join(temporaryFolder(), "store");
    assert.match(assertFailure(run([...args, "--keystore", dir]), 2), line);
    assert.not.ok(existsSync(dir));
  });
}

test("overwrites no key", () => {
  const dir = makeStore("alice");
  const kid = kidOf(dir, "alice");
  assert.match(assertFailure(run(["keygen", "alice", "--keystore", dir]), 1), /the name alice is taken/);
  assert.is(kidOf(dir, "alice"), kid);
  assert.is(readdirSync(join(dir, "private")).length, 1);
});

test("refuses a name that is another key's kid", () => {
  const dir = makeStore("alice");
  assert.match(
    assertFailure(run(["keygen", kidOf(dir, "alice"), "--keystore", dir]), 1),
    /is the kid of this key, or of another key/,
  );
});

test("says so when the store cannot be made", () => {
  const file = join(temporaryFolder(), "file");
  writeFileSync(file, "");
  assert.match(
    assertFailure(run(["keygen", "a", "--keystore", join(file, "store")]), 1),
    /mkdir .*: ENOTDIR; check that path/,
  );
});

test("makes what makeStore of the tests writes: the same files, members and modes", () => {
  const [made, written] = [
    join(temporaryFolder(), "store"),
    makeStore("alice", "bob:--type oct", "carol:--type rsa --bits 2048"),
  ];
  for (const args of [["alice"], ["bob", "--type", "oct"], ["carol", "--type", "rsa", "--bits", "2048"]])
    commands(made)("keygen", ...args);
  const shape = (dir: string): string[] => {
    const names = new Map(["alice", "bob", "carol"].map((name) => [kidOf(dir, name), name]));
    return Object.entries(tree(dir))
      .map(([path, entry]) => {
        const [modes, content] = [entry.slice(0, entry.indexOf(" ")), entry.slice(entry.indexOf(" ") + 1)];
        const members = path.endsWith(".jwk")
          ? Object.keys(JSON.parse(content) as object).join()
          : (names.get(content.trim()) ?? content);
        return `${path.replace(/[\w-]{22,43}(?=\.jwk)/, (kid) => names.get(kid) ?? kid)} ${modes} ${members}`;
      })
      .toSorted();
  };
  assert.equal(shape(made), shape(written));
});

test.run();
