// remove: what is removed can come back.

import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { secretFile, tree } from "../support/folders.ts";
import { assertFailure, run, runHere, succeed } from "../support/program.ts";
import { wrapRequest } from "../support/requests.ts";
import {
  assertClosed,
  assertOpens,
  commands,
  kidOf,
  kidsOf,
  makeStore,
  masterKeyFile,
  rows,
  wrapHere,
} from "../support/stores.ts";

runHere();

const NO_DEFAULT = "there is no longer a default key: set one with ocicrypt-keystore default NAME\n";

test("remove takes the last copy of a private key only with --force, to where it can be imported again", async () => {
  const dir = makeStore("alice", "bob");
  const cli = commands(dir);
  const kid = kidOf(dir, "bob");
  const annotation = await wrapHere(dir, "bob");
  assert.match(
    cli.refuses(1, ["remove", "bob"]),
    `removing bob would remove the last copy of private key ${kid}: images encrypted for it alone could no longer be opened; add --force to move it to removed/`,
  );
  assert.match(cli.refuses(1, ["remove", "bob", "--purge"]), "add --force to delete it for good");
  const { code, stdout, stderr } = cli.run(["remove", "bob", "--force"]);
  const moved = join(dir, "removed", `${kid}.jwk`);
  assert.equal([code, stdout, stderr], [0, "", `removed ${kid}: its private key is now ${moved}\n`]);
  assert.match(tree(dir)[`removed/${kid}.jwk`] ?? "", /^100600 /);
  assert.match(tree(dir)["removed"] ?? "", /^40700/);
  assert.not.ok(existsSync(join(dir, "public", `${kid}.jwk`)) || existsSync(join(dir, "names/bob")));
  await assertClosed(dir, annotation);
  assert.match(assertFailure(run(["--keystore", dir], { input: wrapRequest(["bob"]) }), 1), 'unknown recipient "bob"');
  assert.is(cli("import", "bob", moved).trim(), kid);
  await assertOpens(dir, annotation);
});

test("remove takes a name with all its keys, the retired ones too", async () => {
  const dir = makeStore("alice", "bob");
  const cli = commands(dir);
  cli("rotate", "bob");
  const kids = kidsOf(dir, "bob");
  assert.match(cli.refuses(1, ["remove", "bob"]), `the last copies of 2 private keys (${kids.join(", ")})`);
  cli("remove", "bob", "--force");
  assert.equal(
    readdirSync(join(dir, "removed")).toSorted(),
    kids.flatMap((kid) => [`${kid}.jwk`, `${kid}.public.jwk`]).toSorted(),
  );
  assert.equal(rows(dir), [`alice ${kidOf(dir, "alice")} current file`]);
});

test("a recipient goes without --force", () => {
  const dir = makeStore("alice");
  const cli = commands(dir);
  const kid = cli("import", "bob", secretFile(commands(makeStore("bob"))("export", "bob"))).trim();
  assert.equal(cli.run(["remove", "bob"]), { code: 0, stdout: "", stderr: `removed ${kid}\n` });
});

test("the default is gone with its key, and that is said", () => {
  const dir = makeStore("alice", "bob");
  const cli = commands(dir);
  assert.match(cli.run(["remove", "alice", "--force"]).stderr, NO_DEFAULT);
  assert.match(
    assertFailure(run(["--keystore", dir], { input: wrapRequest([]) }), 1),
    `no default key in ${dir}; set one with ocicrypt-keystore default NAME`,
  );
  assert.match(cli.refuses(1, ["default"]), "no default key");
  cli("keygen", "carol");
  assert.is(cli("default"), "carol\n", "the next new key is the default");
  assert.not.match(cli.run(["remove", "bob", "--force"]).stderr, "default");
});

test("a kid that starts with a dash can be shown, exported and removed", () => {
  const dir = makeStore("alice");
  const cli = commands(dir);
  const kid = `-${"A".repeat(21)}`;
  assert.is(
    cli(
      "import",
      "dash",
      secretFile(JSON.stringify({ kty: "oct", kid, k: Buffer.alloc(16, 1).toString("base64url") })),
    ).trim(),
    kid,
  );
  assert.match(cli("show", kid), kid);
  assert.match(succeed(["show", "--keystore", dir, "--", kid]), kid, "also behind --");
  assert.match(cli("export", kid, "--private"), kid);
  cli("remove", kid, "--force");
  assert.not.match(cli("list"), kid);
});

const masterKey = masterKeyFile();

test("a locked key in removed/ is not imported as it is, and the line says what to do", () => {
  const dir = makeStore("alice");
  const cli = commands(dir);
  const kid = kidOf(dir, "alice");
  cli("lock", "--master-key-file", masterKey);
  cli("remove", "alice", "--force");
  assert.match(cli.refuses(1, ["import", "alice", join(dir, "removed", `${kid}.jwe`)]), "unlock");
});

test.run();
