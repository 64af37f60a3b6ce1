// Removal: a key goes from one name and stays for another, and no other key is lost by it.

import { readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { secretFile, tree } from "../support/folders.ts";
import {
  assertClosed,
  assertOpens,
  commands,
  kidOf,
  kidsOf,
  makeStore,
  readJson,
  rows,
  wrapHere,
} from "../support/stores.ts";

const NO_DEFAULT = "there is no longer a default key: set one with ocicrypt-keystore default NAME\n";

test("remove by kid takes a retired key alone, and refuses the current one while there are retired ones", async () => {
  const dir = makeStore("alice");
  const cli = commands(dir);
  const annotation = await wrapHere(dir, "alice");
  const current = cli("rotate", "alice").trim();
  const [, retired = ""] = kidsOf(dir, "alice");
  const line = cli.refuses(1, ["remove", current, "--force"]);
  assert.match(
    line,
    `${current} is the current key of alice, which also has retired keys; run ocicrypt-keystore rotate alice first, or ocicrypt-keystore remove alice for all its keys`,
  );
  assert.match(cli.refuses(1, ["remove", retired]), "add --force");
  assert.is(
    cli.run(["remove", retired, "--force"]).stderr,
    `removed ${retired}: its private key is now ${join(dir, "removed", `${retired}.jwk`)}\n`,
  );
  assert.equal(kidsOf(dir, "alice"), [current]);
  await assertClosed(dir, annotation);
  assert.is(cli.run(["remove", current, "--force"]).code, 0);
  assert.equal(rows(dir), []);
});

test("a key that another name has too stays, and opens", async () => {
  const dir = makeStore("alice");
  const cli = commands(dir);
  const kid = kidOf(dir, "alice");
  const annotation = await wrapHere(dir, "alice");
  cli("import", "other", join(dir, "private", `${kid}.jwk`));
  assert.is(cli.run(["remove", "alice"]).stderr, NO_DEFAULT);
  assert.equal(rows(dir), [`other ${kid} current file`]);
  await assertOpens(dir, annotation);
  assert.match(cli.run(["remove", kid, "--force"]).stderr, `removed ${kid}`);
  assert.equal(readdirSync(join(dir, "names")), []);
});

test("--purge leaves nothing of the key anywhere", () => {
  const dir = makeStore("alice", "bob:--type oct");
  const cli = commands(dir);
  const kid = kidOf(dir, "bob");
  const { k } = readJson(join(dir, "private", `${kid}.jwk`));
  assert.is(cli.run(["remove", "bob", "--force", "--purge"]).stderr, `removed ${kid}\n`);
  assert.not.match(JSON.stringify(tree(dir)), String(k));
  assert.not.match(Object.keys(tree(dir)).join(" "), kid);
});

test("--purge of a recipient never deletes its removed private key without --force", async () => {
  const dir = makeStore("alice");
  const cli = commands(dir);
  const annotation = await wrapHere(dir, "alice");
  const recipient = secretFile(cli("export", "alice"));
  const removed = join(dir, "removed", `${kidOf(dir, "alice")}.jwk`);
  cli("remove", "alice", "--force");
  cli("import", "alice", recipient);
  cli.run(["remove", "alice", "--purge"]);
  cli("import", "alice", removed, "--force");
  await assertOpens(dir, annotation);
});

test("--purge of one symmetric key never deletes another one that was removed before", () => {
  const dir = makeStore("alice");
  const cli = commands(dir);
  const keys = [1, 2].map((fill) => ({
    kty: "oct",
    kid: "A".repeat(22),
    k: Buffer.alloc(32, fill).toString("base64url"),
  }));
  for (const [index, key] of keys.entries()) {
    cli("import", "bob", secretFile(JSON.stringify(key)));
    cli("remove", "bob", "--force", ...(index === 0 ? [] : ["--purge"]));
  }
  const everything = JSON.stringify(tree(dir));
  assert.match(everything, keys[0]?.k ?? "");
  assert.not.match(everything, keys[1]?.k ?? "");
});

test("removing one symmetric key never writes over another one that was removed before", () => {
  const dir = makeStore("alice");
  const cli = commands(dir);
  const kid = "A".repeat(22);
  const keys = [1, 2].map((fill) => Buffer.alloc(32, fill).toString("base64url"));
  for (const k of keys) {
    cli("import", "bob", secretFile(JSON.stringify({ kty: "oct", kid, k })));
    cli("remove", "bob", "--force");
  }
  const everything = JSON.stringify(tree(dir));
  for (const k of keys) assert.match(everything, k);
});

test.run();
