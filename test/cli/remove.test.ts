// rotate and remove: what is retired still opens, and what is removed can come back.

import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { secretFiles } from "../../src/at-rest/secret-files.ts";
import { secretFile, tree, temporaryFolder } from "../support/folders.ts";
import { assertFailure, run, succeed } from "../support/program.ts";
import { wrap, wrapRequest } from "../support/requests.ts";
import {
  assertClosed,
  assertOpens,
  commands,
  masterKeyFile,
  readJson,
  wrapHere,
  kidOf,
  makeStore,
} from "../support/stores.ts";

const NO_DEFAULT = "there is no default key any more: set one with ocicrypt-keystore default NAME\n";
const kidsOf = (dir: string, name: string): string[] => readFileSync(join(dir, "names", name), "utf8").trimEnd().split("\n");
const rows = (dir: string): string[] =>
  (JSON.parse(commands(dir)("list", "--json")) as { name: string; kid: string; state: string; private: string }[]).map((row) => `${row.name} ${row.kid} ${row.state} ${row.private}`);
const headerKids = (annotation: Buffer): string[] => (JSON.parse(annotation.toString()) as { recipients: { header: { kid: string } }[] }).recipients.map(({ header }) => header.kid);

for (const [options, member] of [["", "crv"], ["--curve P-384", "crv"], ["--curve P-521", "crv"], ["--type rsa --bits 2048", "kty"], ["--type oct", "alg"], ["--type oct --bits 128", "alg"]] as const) {
  test(`rotate makes a key of the same kind, and the former still opens: ${options || "the default"}`, async () => {
    const dir = makeStore(`key:${options}`);
    const former = kidOf(dir, "key");
    const annotation = await wrapHere(dir, "key");
    const kid = commands(dir)("rotate", "key").trim();
    assert.equal(kidsOf(dir, "key"), [kid, former]);
    assert.equal(rows(dir), [`key ${kid} current file`, `key ${former} retired file`]);
    const publicOf = (one: string): unknown => readJson(join(dir, "public", `${one}.jwk`))[member];
    assert.is(publicOf(kid), publicOf(former));
    assert.equal(headerKids(wrap(dir, ["key"])), [kid]);
    await assertOpens(dir, annotation);
    await assertOpens(dir, await wrapHere(dir, "key"));
  });
}

test("rotate keeps the size of an RSA key that is no multiple of 1,024", () => {
  const dir = makeStore("key:--type rsa --bits 2056");
  commands(dir)("rotate", "key");
  assert.is(String(readJson(join(dir, "public", `${kidOf(dir, "key")}.jwk`))["n"]).length, Math.ceil((2056 / 8) * 4 / 3));
});

test("rotate keeps the default and the order: the youngest first", () => {
  const dir = makeStore("alice", "bob");
  const cli = commands(dir);
  const kids = [kidOf(dir, "alice"), cli("rotate", "alice").trim(), cli("rotate", "alice").trim()];
  assert.equal(kidsOf(dir, "alice"), kids.toReversed());
  assert.is(cli("default"), "alice\n");
  assert.equal(headerKids(wrap(dir, [""])), [kids[2]]);
});

test("rotate never writes a name that is too large to be read again", () => {
  const dir = makeStore("alice");
  const cli = commands(dir);
  const path = join(dir, "names/alice");
  writeFileSync(path, readFileSync(path, "utf8").repeat(1489)); // 65,516 bytes of 65,536
  cli.run(["rotate", "alice"]);
  cli("list");
});

test("a retired kid wraps no more, and the line says who does", () => {
  const dir = makeStore("alice");
  const former = kidOf(dir, "alice");
  commands(dir)("rotate", "alice");
  const line = assertFailure(run(["--keystore", dir], { input: wrapRequest([former]) }), 1);
  assert.is(line, `ocicrypt-keystore: key ${former} is retired and wraps no more; use alice, the name it was rotated under`);
  wrap(dir, [kidOf(dir, "alice")]);
});

test("a kid that is retired under one name and current under another still wraps", () => {
  const dir = makeStore("alice");
  const cli = commands(dir);
  cli("import", "other", join(dir, "private", `${kidOf(dir, "alice")}.jwk`));
  cli("rotate", "alice");
  assert.equal(headerKids(wrap(dir, [kidOf(dir, "other")])), [kidOf(dir, "other")]);
});

test("rotate and remove refuse what is not there, and make nothing where no store is", () => {
  const { refuses } = commands(makeStore("alice"));
  for (const args of [["rotate", "nobody"], ["remove", "nobody"], ["remove", "../names/alice"], ["rotate", ""], ["remove", "A".repeat(43), "--force"]]) {
    assert.match(refuses(1, args), `no key named ${args[1] ?? ""} in `);
  }
  const none = join(temporaryFolder(), "none");
  for (const command of ["rotate", "remove"]) assert.match(commands(none).refuses(1, [command, "alice"]), `no key store at ${none}`);
});

test("a refused command leaves no folders behind in a directory that is no store", () => {
  const { refuses } = commands(temporaryFolder());
  for (const args of [["rotate", "nobody"], ["remove", "nobody"], ["default", "nobody"]]) refuses(1, args);
});

test("a new key is refused, and not half made, while the default is damaged", () => {
  const dir = makeStore("alice");
  writeFileSync(join(dir, "default"), "!");
  assert.match(commands(dir).refuses(1, ["keygen", "bob"]), /default is damaged: it must hold a name; set it anew/);
});

// remove.

test("remove takes the last copy of a private key only with --force, to where it can be imported again", async () => {
  const dir = makeStore("alice", "bob");
  const cli = commands(dir);
  const kid = kidOf(dir, "bob");
  const annotation = await wrapHere(dir, "bob");
  assert.match(cli.refuses(1, ["remove", "bob"]), `removing bob would take the last copy of private key ${kid}: images encrypted for it alone could no longer be opened; add --force to move it to removed/`);
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
  assert.equal(readdirSync(join(dir, "removed")).toSorted(), kids.flatMap((kid) => [`${kid}.jwk`, `${kid}.public.jwk`]).toSorted());
  assert.equal(rows(dir), [`alice ${kidOf(dir, "alice")} current file`]);
});

test("remove by kid takes a retired key alone, and refuses the current one while there are retired ones", async () => {
  const dir = makeStore("alice");
  const cli = commands(dir);
  const annotation = await wrapHere(dir, "alice");
  const current = cli("rotate", "alice").trim();
  const [, retired = ""] = kidsOf(dir, "alice");
  const line = cli.refuses(1, ["remove", current, "--force"]);
  assert.match(line, `${current} is the current key of alice, which has retired ones; rotate alice first, or remove alice with all its keys`);
  assert.match(cli.refuses(1, ["remove", retired]), "add --force");
  assert.is(cli.run(["remove", retired, "--force"]).stderr, `removed ${retired}: its private key is now ${join(dir, "removed", `${retired}.jwk`)}\n`);
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
  assert.match(assertFailure(run(["--keystore", dir], { input: wrapRequest([]) }), 1), `no default key in ${dir}; set one with ocicrypt-keystore default NAME`);
  assert.match(cli.refuses(1, ["default"]), "no default key");
  cli("keygen", "carol");
  assert.is(cli("default"), "carol\n", "the next new key is the default");
  assert.not.match(cli.run(["remove", "bob", "--force"]).stderr, "default");
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
  const keys = [1, 2].map((fill) => ({ kty: "oct", kid: "A".repeat(22), k: Buffer.alloc(32, fill).toString("base64url") }));
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

test("a kid that starts with a dash can be shown, exported and removed", () => {
  const dir = makeStore("alice");
  const cli = commands(dir);
  const kid = `-${"A".repeat(21)}`;
  assert.is(cli("import", "dash", secretFile(JSON.stringify({ kty: "oct", kid, k: Buffer.alloc(16, 1).toString("base64url") }))).trim(), kid);
  assert.match(cli("show", kid), kid);
  assert.match(succeed(["show", "--keystore", dir, "--", kid]), kid, "also behind --");
  assert.match(cli("export", kid, "--private"), kid);
  cli("remove", kid, "--force");
  assert.not.match(cli("list"), kid);
});

// Locked stores.

const masterKey = masterKeyFile();
const withMasterKey = secretFiles({ masterKeyFile: masterKey });

test("in a locked store rotate needs the secret, and remove does not", async () => {
  const dir = makeStore("alice");
  const cli = commands(dir);
  const annotation = await wrapHere(dir, "alice");
  const former = kidOf(dir, "alice");
  cli("lock", "--master-key-file", masterKey);
  assert.match(cli.refuses(3, ["rotate", "alice"]), "is locked with a master key; give it with --master-key-file FILE");
  const kid = cli("rotate", "alice", "--master-key-file", masterKey).trim();
  assert.equal(rows(dir), [`alice ${kid} current locked`, `alice ${former} retired locked`]);
  await assertOpens(dir, annotation, withMasterKey);
  assert.match(cli.run(["remove", former, "--force"]).stderr, `removed ${former}: its private key is now ${join(dir, "removed", `${former}.jwe`)}\n`);
  cli("unlock", "--master-key-file", masterKey);
  cli("import", "former", join(dir, "removed", `${former}.jwk`));
  await assertOpens(dir, annotation);
});

test("a locked key in removed/ is not imported as it is, and the line says what to do", () => {
  const dir = makeStore("alice");
  const cli = commands(dir);
  const kid = kidOf(dir, "alice");
  cli("lock", "--master-key-file", masterKey);
  cli("remove", "alice", "--force");
  assert.match(cli.refuses(1, ["import", "alice", join(dir, "removed", `${kid}.jwe`)]), "unlock");
});

test.run();
