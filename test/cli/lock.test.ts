// lock and unlock: private keys at rest, with a passphrase or a master key.

import { copyFileSync, existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { secretFiles } from "../../src/at-rest/secret-files.ts";
import { atRestBySecret } from "../../src/at-rest/secret.ts";
import type { SecretKind } from "../../src/at-rest/locked-file.ts";
import { secretFile, temporaryFolder, tree } from "../support/folders.ts";
import { assertFailure, runHere, throughBinary } from "../support/program.ts";
import { exec, OPTSDATA, wrap } from "../support/requests.ts";
import {
  assertClosed,
  assertOpens,
  commands,
  kidOf,
  lockedStore,
  makeStore,
  masterKeyFile,
  readJson,
  secretsOf,
  wrapHere,
} from "../support/stores.ts";

runHere();

const LONG = { timeout: 60_000 }; // a passphrase costs seconds for each key where the machine is busy

const sealAtRest = async (jwk: Buffer, kind: SecretKind, secret: Buffer): Promise<Buffer> =>
  await atRestBySecret(kind, () => Promise.resolve(secret)).seal(jwk);

const masterKey = masterKeyFile();
const withMasterKey = ["--master-key-file", masterKey] as const;
const masterKeySecrets = secretFiles({ masterKeyFile: masterKey });
const passphrase = secretFile("correct horse battery staple\n");

/** The kind of each private file of a store: its folder and ending. */
function kinds(dir: string): string[] {
  return ["private", "removed"]
    .flatMap((folder) =>
      (existsSync(join(dir, folder)) ? readdirSync(join(dir, folder)) : [])
        .filter((file) => !file.includes(".public."))
        .map((file) => `${folder} ${file.replace(/^.*\./, ".")}`),
    )
    .toSorted();
}

for (const [kind, option, path] of [
  ["passphrase", "--passphrase-file", passphrase],
  ["master key", "--master-key-file", masterKey],
] as const) {
  test(`locks current, retired and removed keys with a ${kind}, shows nothing secret, and unlocks them as they were`, async () => {
    const dir = makeStore("alice", "bob:--type oct", "carol");
    const cli = commands(dir);
    cli("rotate", "alice");
    const annotations = [await wrapHere(dir, "alice"), await wrapHere(dir, "bob")];
    cli("remove", "carol", "--force");
    const before = tree(dir);
    const secrets = Object.keys(before)
      .filter((file) => /^(private|removed)\/.*\.jwk$/.test(file))
      .flatMap((file) => secretsOf(readJson(join(dir, file))));
    assert.is(secrets.length, 4);

    const itself = kind === "master key" ? throughBinary : <T>(body: () => T): T => body();
    const locked = itself(() => cli.run(["lock", option, path], LONG));
    assert.equal([locked.code, locked.stdout, locked.stderr], [0, "", `locked 4 private keys with a ${kind}\n`]);
    assert.equal(kinds(dir), ["private .jwe", "private .jwe", "private .jwe", "removed .jwe"]);
    const everything = Object.values(tree(dir)).join("\n");
    for (const secret of secrets) assert.not.match(everything, secret);
    for (const [file, content] of Object.entries(tree(dir)))
      if (file.endsWith(".jwe")) assert.match(content, /^100600 /);
    for (const annotation of annotations) {
      assertFailure(exec(dir, annotation), 3);
      assert.match(exec(dir, annotation, [option, path]).stdout, Buffer.from(OPTSDATA).toString("base64"));
    }
    assert.match(cli("list", "--json"), '"private": "locked"');

    assert.match(cli.run(["lock", option, path]).stderr, "locked 0 private keys");
    const unlocked = itself(() => cli.run(["unlock", option, path], LONG));
    assert.equal([unlocked.code, unlocked.stdout, unlocked.stderr], [0, "", "unlocked 4 private keys\n"]);
    const after = tree(dir);
    assert.equal(Object.keys(after), Object.keys(before));
    for (const file of Object.keys(after).filter((one) => /^(private|removed)\/[^.]+\.jwk$/.test(one))) {
      assert.equal(JSON.parse((after[file] ?? "").slice(7)), JSON.parse((before[file] ?? "").slice(7)));
    }
    for (const annotation of annotations) await assertOpens(dir, annotation);
  });
}

test("says which key is locked, and how to give the secret", async () => {
  const { dir, annotation } = await lockedStore(...withMasterKey);
  const line = assertFailure(exec(dir, annotation), 3);
  assert.match(
    line,
    "is locked with a master key; give it with --master-key-file FILE or OCICRYPT_KEYSTORE_MASTER_KEY_FILE",
  );
  assert.match(line, kidOf(dir, "alice"), "names the key");
  assert.match(
    throughBinary(() => commands(dir).refuses(3, ["unlock"])),
    "--master-key-file FILE",
  );
  assert.match(commands(dir).refuses(3, ["export", "alice", "--private"]), "--master-key-file FILE");
  const other = await lockedStore("--passphrase-file", passphrase);
  assert.match(
    assertFailure(exec(other.dir, other.annotation), 3),
    "is locked with a passphrase; give it with --passphrase-file FILE or OCICRYPT_KEYSTORE_PASSPHRASE_FILE",
  );
});

test("refuses the wrong secret, and changes nothing", async () => {
  const { dir, annotation } = await lockedStore(...withMasterKey);
  const wrong = ["--master-key-file", masterKeyFile()];
  assert.match(
    assertFailure(exec(dir, annotation, wrong), 3),
    /locked key .*\.jwe does not open: wrong master key, or the file is damaged; give the master key it was locked with/,
  );
  for (const args of [["unlock"], ["lock"], ["keygen", "bob"], ["rotate", "alice"], ["export", "alice", "--private"]]) {
    assert.match(commands(dir, ...wrong).refuses(3, args), "does not open: wrong master key");
  }
});

test("locks new keys with the secret of the others, and refuses them without it", async () => {
  const { dir, annotation } = await lockedStore(...withMasterKey);
  const cli = commands(dir);
  assert.match(cli.refuses(3, ["keygen", "bob"]), "--master-key-file FILE");
  for (const args of [
    ["keygen", "bob"],
    ["keygen", "carol", "--type", "oct"],
    ["rotate", "alice"],
  ])
    cli(...args, ...withMasterKey);
  assert.equal(kinds(dir), ["private .jwe", "private .jwe", "private .jwe", "private .jwe"]);
  for (const name of ["alice", "bob", "carol"])
    await assertOpens(dir, await wrapHere(dir, name, masterKeySecrets), masterKeySecrets);
  await assertOpens(dir, annotation, masterKeySecrets);
  await assertClosed(dir, annotation, secretFiles({ masterKeyFile: masterKeyFile() }));
  assert.match(
    cli.refuses(1, ["lock", "--passphrase-file", passphrase]),
    "are locked with a master key; run ocicrypt-keystore unlock first",
  );
});

test("a recipient needs no secret in a locked store, and a symmetric key does", async () => {
  const { dir } = await lockedStore(...withMasterKey);
  const cli = commands(dir);
  const elsewhere = commands(makeStore("theirs"));
  cli("import", "recipient", secretFile(elsewhere("export", "theirs")));
  cli("keygen", "carol", "--type", "oct", ...withMasterKey);
  wrap(dir, ["alice", "recipient"]);
  assert.match(String(await wrapHere(dir, "carol").catch((error: unknown) => error)), "is locked with a master key");
});

test("the locked file counts where a key is there twice", async () => {
  const { dir, annotation, kid } = await lockedStore(...withMasterKey);
  const open = join(dir, "private", `${kid}.jwk`);
  const saved = readFileSync(join(dir, "private", `${kid}.jwe`));
  commands(dir)("unlock", ...withMasterKey);
  writeFileSync(join(dir, "private", `${kid}.jwe`), saved);
  assert.ok(existsSync(open));
  assert.match(commands(dir)("list", "--json"), '"private": "locked"');
  await assertClosed(dir, annotation);
  await assertOpens(dir, annotation, masterKeySecrets);
  commands(dir)("lock", ...withMasterKey);
  assert.not.ok(existsSync(open));
  await assertOpens(dir, annotation, masterKeySecrets);
});

test("never takes PBES2 in an annotation, not even one whose secret it knows", async () => {
  const { dir } = await lockedStore("--passphrase-file", passphrase);
  const annotation = await sealAtRest(Buffer.from(OPTSDATA), "passphrase", Buffer.from("correct horse battery staple"));
  assertFailure(exec(dir, annotation, ["--passphrase-file", passphrase]), 3);
});

test("never opens an annotation with the master key", async () => {
  const { dir } = await lockedStore(...withMasterKey);
  const annotation = await sealAtRest(Buffer.from(OPTSDATA), "master key", readFileSync(masterKey));
  assertFailure(exec(dir, annotation, withMasterKey), 3);
});

test("a locked key is another's under another name: swapped files are told", async () => {
  const dir = makeStore("alice", "bob");
  const annotation = await wrapHere(dir, "alice");
  commands(dir)("lock", ...withMasterKey);
  const path = (name: string): string => join(dir, "private", `${kidOf(dir, name)}.jwe`);
  copyFileSync(path("bob"), path("alice"));
  assert.match(await assertClosed(dir, annotation, masterKeySecrets), "holds another key than its file name says");
});

test("there must be a store", () => {
  const dir = join(temporaryFolder(), "none");
  for (const command of ["lock", "unlock"])
    assert.match(commands(dir).refuses(1, [command, ...withMasterKey]), `no key store at ${dir}`);
  assert.not.ok(existsSync(dir));
});

test.run();
