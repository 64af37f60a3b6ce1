// lock and unlock: private keys at rest, with a passphrase or a master key, and who finds the secret where.

import { randomBytes } from "node:crypto";
import { chmodSync, copyFileSync, existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { secretLock } from "../../src/at-rest/secret.ts";
import type { SecretKind } from "../../src/at-rest/locked-file.ts";
import { secretFiles } from "../../src/at-rest/secret-files.ts";
import { secretFile, tree, temporaryFolder } from "../support/folders.ts";
import { tool, use, testWith } from "../support/parts.ts";
import { assertFailure, run, succeed } from "../support/program.ts";
import { OPTSDATA, unwrapRequest, wrap } from "../support/requests.ts";
import {
  assertClosed,
  assertOpens,
  commands,
  masterKeyFile,
  readJson,
  secretsOf,
  wrapHere,
  type Members,
  kidOf,
  makeStore,
} from "../support/stores.ts";

const sealAtRest = async (jwk: Buffer, kind: SecretKind, secret: Buffer): Promise<Buffer> => await secretLock(kind, () => Promise.resolve(secret)).seal(jwk);

const PASSPHRASE_FILE = "OCICRYPT_KEYSTORE_PASSPHRASE_FILE";
const MASTER_KEY_FILE = "OCICRYPT_KEYSTORE_MASTER_KEY_FILE";
const masterKey = masterKeyFile();
const withMasterKey = ["--master-key-file", masterKey] as const;
const masterKeySecrets = secretFiles({ masterKeyFile: masterKey });
const passphrase = secretFile("correct horse battery staple\n");

/** The kind of each private file of a store: its folder and ending. */
function kinds(dir: string): string[] {
  return ["private", "removed"].flatMap((folder) => (existsSync(join(dir, folder)) ? readdirSync(join(dir, folder)) : []).filter((file) => !file.includes(".public.")).map((file) => `${folder} ${file.replace(/^.*\./, ".")}`)).toSorted();
}

/** Exec mode's answer to an unwrap request. */
function exec(dir: string, annotation: Buffer, options: readonly string[] = [], env: NodeJS.ProcessEnv = {}): ReturnType<typeof run> {
  return run(["--keystore", dir, ...options], { input: unwrapRequest(annotation), env });
}

/** A store locked with a secret file, and an annotation that it opens. */
async function lockedStore(...options: readonly string[]): Promise<{ dir: string; annotation: Buffer; kid: string }> {
  const dir = makeStore("alice");
  const annotation = await wrapHere(dir, "alice");
  commands(dir)("lock", ...options);
  return { dir, annotation, kid: kidOf(dir, "alice") };
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
    const secrets = Object.keys(before).filter((file) => /^(private|removed)\/.*\.jwk$/.test(file)).flatMap((file) => secretsOf(readJson(join(dir, file))));
    assert.is(secrets.length, 4);

    const locked = cli.run(["lock", option, path]);
    assert.equal([locked.code, locked.stdout, locked.stderr], [0, "", `locked 4 private keys with a ${kind}\n`]);
    assert.equal(kinds(dir), ["private .jwe", "private .jwe", "private .jwe", "removed .jwe"]);
    const everything = Object.values(tree(dir)).join("\n");
    for (const secret of secrets) assert.not.match(everything, secret);
    for (const [file, content] of Object.entries(tree(dir))) if (file.endsWith(".jwe")) assert.match(content, /^100600 /);
    for (const annotation of annotations) {
      assertFailure(exec(dir, annotation), 3);
      assert.match(exec(dir, annotation, [option, path]).stdout, Buffer.from(OPTSDATA).toString("base64"));
    }
    assert.match(cli("list", "--json"), '"private": "locked"');

    assert.match(cli.run(["lock", option, path]).stderr, "locked 0 private keys");
    const unlocked = cli.run(["unlock", option, path]);
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
  assert.match(line, "is locked with a master key; give it with --master-key-file FILE or OCICRYPT_KEYSTORE_MASTER_KEY_FILE");
  assert.match(line, kidOf(dir, "alice"), "names the key");
  assert.match(commands(dir).refuses(3, ["unlock"]), "--master-key-file FILE");
  assert.match(commands(dir).refuses(3, ["export", "alice", "--private"]), "--master-key-file FILE");
  const other = await lockedStore("--passphrase-file", passphrase);
  assert.match(assertFailure(exec(other.dir, other.annotation), 3), "is locked with a passphrase; give it with --passphrase-file FILE or OCICRYPT_KEYSTORE_PASSPHRASE_FILE");
});

test("refuses the wrong secret, and changes nothing", async () => {
  const { dir, annotation } = await lockedStore(...withMasterKey);
  const wrong = ["--master-key-file", masterKeyFile()];
  assert.match(assertFailure(exec(dir, annotation, wrong), 3), /locked key .*\.jwe does not open: wrong master key, or the file is damaged; give the master key it was locked with/);
  for (const args of [["unlock"], ["lock"], ["keygen", "bob"], ["rotate", "alice"], ["export", "alice", "--private"]]) {
    assert.match(commands(dir, ...wrong).refuses(3, args), "does not open: wrong master key");
  }
});

test("locks new keys with the secret of the others, and refuses them without it", async () => {
  const { dir, annotation } = await lockedStore(...withMasterKey);
  const cli = commands(dir);
  assert.match(cli.refuses(3, ["keygen", "bob"]), "--master-key-file FILE");
  for (const args of [["keygen", "bob"], ["keygen", "carol", "--type", "oct"], ["rotate", "alice"]]) cli(...args, ...withMasterKey);
  assert.equal(kinds(dir), ["private .jwe", "private .jwe", "private .jwe", "private .jwe"]);
  for (const name of ["alice", "bob", "carol"]) await assertOpens(dir, await wrapHere(dir, name, masterKeySecrets), masterKeySecrets);
  await assertOpens(dir, annotation, masterKeySecrets);
  await assertClosed(dir, annotation, secretFiles({ masterKeyFile: masterKeyFile() }));
  assert.match(cli.refuses(1, ["lock", "--passphrase-file", passphrase]), "are locked with a master key; unlock them first");
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

// Where the secret is looked for.

for (const [kind, right, wrong, variable, credential, option] of [
  ["master key", masterKey, masterKeyFile(), MASTER_KEY_FILE, "ocicrypt-keystore.master-key", "--master-key-file"],
  ["passphrase", passphrase, secretFile("another"), PASSPHRASE_FILE, "ocicrypt-keystore.passphrase", "--passphrase-file"],
] as const) {
  test(`finds a ${kind}: the option before the environment before systemd's credential`, async () => {
    const { dir, annotation } = await lockedStore(option, right);
    const credentials = (path: string): string => {
      const folder = temporaryFolder();
      copyFileSync(path, join(folder, credential));
      return folder;
    };
    const opens = (options: readonly string[], env: NodeJS.ProcessEnv): boolean => {
      const result = exec(dir, annotation, options, env);
      if (result.code !== 0) assertFailure(result, 3);
      return result.code === 0;
    };
    assert.ok(opens([option, right], { [variable]: wrong, CREDENTIALS_DIRECTORY: credentials(wrong) }), "the option counts first");
    assert.not.ok(opens([option, wrong], { [variable]: right, CREDENTIALS_DIRECTORY: credentials(right) }));
    assert.ok(opens([], { [variable]: right, CREDENTIALS_DIRECTORY: credentials(wrong) }), "then the environment");
    assert.not.ok(opens([], { [variable]: wrong, CREDENTIALS_DIRECTORY: credentials(right) }));
    assert.ok(opens([], { CREDENTIALS_DIRECTORY: credentials(right) }), "then the credential");
    assert.not.ok(opens([], { CREDENTIALS_DIRECTORY: temporaryFolder() }), "which may be missing");
    succeed(["unlock", "--keystore", dir], { env: { CREDENTIALS_DIRECTORY: credentials(right) } });
    assert.match(run(["lock", "--keystore", dir], { env: { [variable]: right } }).stderr, `with a ${kind}`);
  });
}

test("lock takes what the command line names before what the environment names, and not both at once", () => {
  const dir = makeStore("alice");
  assert.match(commands(dir).run(["lock", ...withMasterKey], { env: { [PASSPHRASE_FILE]: passphrase } }).stderr, "with a master key");
  commands(dir)("unlock", ...withMasterKey);
  assert.match(commands(dir).refuses(2, ["lock", ...withMasterKey, "--passphrase-file", passphrase]), "both a passphrase and a master key");
});

test("a passphrase file loses exactly one final newline", async () => {
  const { dir, annotation } = await lockedStore("--passphrase-file", secretFile("secret\n\n"));
  for (const [text, code] of [["secret\n\n", 0], ["secret\n", 3], ["secret", 3], ["secret\n\n\n", 3], ["secret\n\r", 3]] as const) {
    assert.is(exec(dir, annotation, ["--passphrase-file", secretFile(text)]).code, code, JSON.stringify(text));
  }
  const plain = await lockedStore("--passphrase-file", secretFile("secret\n"));
  assert.is(exec(plain.dir, plain.annotation, ["--passphrase-file", secretFile("secret")]).code, 0);
});

const folder = temporaryFolder();
for (const [name, option, path, line] of [
  ["an empty passphrase", "--passphrase-file", secretFile(""), /the passphrase is empty; give one that is not/],
  ["a passphrase that is a newline", "--passphrase-file", secretFile("\n"), /the passphrase is empty/],
  ["a passphrase that others can read", "--passphrase-file", secretFile("secret", 0o644), /passphrase .* can be read by others \(mode 0644\); run chmod 600 /],
  ["a missing passphrase file", "--passphrase-file", join(folder, "none"), /the passphrase file .*none is missing; name it with --passphrase-file FILE or OCICRYPT_KEYSTORE_PASSPHRASE_FILE/],
  ["a short master key", "--master-key-file", secretFile(randomBytes(31)), /has 31 bytes; it must hold 32 random bytes/],
  ["a master key with a newline", "--master-key-file", secretFile(Buffer.concat([randomBytes(32), Buffer.from("\n")])), /has 33 bytes/],
  ["an empty master key", "--master-key-file", secretFile(""), /has 0 bytes/],
  ["a master key that its group can read", "--master-key-file", secretFile(randomBytes(32), 0o640), /master key .* can be read by others \(mode 0640\); run chmod 600 /],
  ["a missing master key file", "--master-key-file", join(folder, "none"), /the master key file .*none is missing; name it with --master-key-file FILE/],
  ["a master key that is a folder", "--master-key-file", folder, /is not a regular file/],
] as const) {
  test(`refuses ${name}, exit code 3, and locks nothing`, () => {
    const dir = makeStore("alice");
    assert.match(commands(dir).refuses(3, ["lock", option, path]), line);
  });
}

// What lies in the store.

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

test("locking changes nothing where one key is damaged or open to others", () => {
  const dir = makeStore("alice", "bob");
  const path = join(dir, "private", `${kidOf(dir, "bob")}.jwk`);
  chmodSync(path, 0o644);
  assert.match(commands(dir).refuses(1, ["lock", ...withMasterKey]), /private key .* can be read by others \(mode 0644\); run chmod 600/);
  chmodSync(path, 0o600);
  writeFileSync(path, "{}");
  assert.match(commands(dir).refuses(1, ["lock", ...withMasterKey]), /key file .* is damaged/);
});

test("never writes a locked file that is too large to be read again", async () => {
  const dir = makeStore("alice");
  const path = join(dir, "private", `${kidOf(dir, "alice")}.jwk`);
  const annotation = await wrapHere(dir, "alice");
  writeFileSync(path, JSON.stringify({ ...readJson(path), note: "x".repeat(60_000) }));
  await assertOpens(dir, annotation);
  commands(dir).run(["lock", ...withMasterKey]);
  await assertOpens(dir, annotation, masterKeySecrets);
});

for (const [name, change] of [
  ["damaged", () => "hello"],
  ["cut", (text: string) => text.slice(0, -10)],
  ["locked in an unknown way", (text: string) => text.replace('"A256KW"', '"A128KW"')],
] as const) {
  test(`says which locked file is ${name}, and gives no advice for images`, async () => {
    const { dir, annotation, kid } = await lockedStore(...withMasterKey);
    const path = join(dir, "private", `${kid}.jwe`);
    writeFileSync(path, change(readFileSync(path, "utf8")));
    for (const line of [assertFailure(exec(dir, annotation, withMasterKey), 3), ...["lock", "unlock"].map((command) => assertFailure(commands(dir).run([command, ...withMasterKey]), 1))]) {
      assert.match(line, path);
      assert.match(line, "backup");
      assert.not.match(line, /annotation|encrypt the image/);
    }
  });
}

for (const p2c of [0, 1, 999, -1000, 1000.5, 10_000_001, 1e9, "x", "600000", null, undefined]) {
  test(`refuses a locked file with p2c ${JSON.stringify(p2c)} at once`, async () => {
    const { dir, annotation, kid } = await lockedStore(...withMasterKey);
    const path = join(dir, "private", `${kid}.jwe`);
    const jwe = JSON.parse((await sealAtRest(Buffer.from("{}"), "passphrase", Buffer.from("secret"))).toString()) as { recipients: { header: Members }[] };
    for (const { header } of jwe.recipients) header["p2c"] = p2c;
    writeFileSync(path, JSON.stringify(jwe));
    const started = Date.now();
    assert.match(assertFailure(exec(dir, annotation, ["--passphrase-file", secretFile("secret")]), 3), /parameters out of bounds/);
    assert.ok(Date.now() - started < 1000);
  });
}

for (const p2s of ["", "AAAAAAAA", "!", 7, Buffer.alloc(1025).toString("base64url")]) {
  test(`refuses a locked file with a p2s of ${JSON.stringify(p2s).length} characters`, async () => {
    const { dir, annotation, kid } = await lockedStore(...withMasterKey);
    const jwe = JSON.parse((await sealAtRest(Buffer.from("{}"), "passphrase", Buffer.from("secret"))).toString()) as { recipients: { header: Members }[] };
    for (const { header } of jwe.recipients) header["p2s"] = p2s;
    writeFileSync(join(dir, "private", `${kid}.jwe`), JSON.stringify(jwe));
    assert.match(assertFailure(exec(dir, annotation, ["--passphrase-file", secretFile("secret")]), 3), /parameters out of bounds/);
  });
}

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
  assert.match(await assertClosed(dir, annotation, masterKeySecrets), "holds another key than its name says");
});

testWith(tool("jose"), "jose", "jose opens a file locked with a master key: the same JWK", (jose) => {
  const dir = makeStore("alice");
  const jwk = readJson(join(dir, "private", `${kidOf(dir, "alice")}.jwk`));
  commands(dir)("lock", ...withMasterKey);
  const key = secretFile(JSON.stringify({ kty: "oct", alg: "A256KW", k: readFileSync(masterKey).toString("base64url") }));
  assert.equal(JSON.parse(use(jose, ["jwe", "dec", "-i", join(dir, "private", `${kidOf(dir, "alice")}.jwe`), "-k", key])), jwk);
});

test("there must be a store", () => {
  const dir = join(temporaryFolder(), "none");
  for (const command of ["lock", "unlock"]) assert.match(commands(dir).refuses(1, [command, ...withMasterKey]), `no key store at ${dir}`);
  assert.not.ok(existsSync(dir));
});

test("two symmetric keys of one kid, one locked and one not: neither takes the other's place", () => {
  const dir = makeStore("alice");
  const cli = commands(dir, "--master-key-file", masterKeyFile());
  const kid = "A".repeat(22);
  const removed = ["B", "C"].map((letter) => {
    const k = Buffer.alloc(32, letter).toString("base64url");
    cli("import", "aes", secretFile(JSON.stringify({ kty: "oct", kid, k })));
    if (letter === "C") cli("lock");
    cli("remove", "aes", "--force");
    const path = join(dir, "removed", `${kid}.jw${letter === "C" ? "e" : "k"}`);
    if (letter === "B") renameSync(path, `${path}.aside`); // as where lock was killed before it came to this one
    return path;
  });
  renameSync(`${removed[0]}.aside`, removed[0] ?? "");
  assert.equal(removed.map((path) => existsSync(path)), [true, true]);
  for (const command of ["lock", "unlock"]) assert.match(cli.refuses(1, [command]), /removed\/A{22}\.jwk and A{22}\.jwe are different keys; move one of the two away, then try again/);
});

test.run();
