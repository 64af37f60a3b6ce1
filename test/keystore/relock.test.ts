// Locking and unlocking a whole store: all keys or none, and neither of two keys is lost.

import { chmodSync, existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { secretFiles } from "../../src/at-rest/secret-files.ts";
import { assertCheck, examine } from "../support/checks.ts";
import { secretFile, temporaryFolder, tree } from "../support/folders.ts";
import { assertOpens, commands, kidOf, makeStore, masterKeyFile, readJson, wrapHere } from "../support/stores.ts";

const masterKey = masterKeyFile();
const withMasterKey = ["--master-key-file", masterKey] as const;
const masterKeySecrets = secretFiles({ masterKeyFile: masterKey });

test("locking changes nothing where one key is damaged or open to others", () => {
  const dir = makeStore("alice", "bob");
  const path = join(dir, "private", `${kidOf(dir, "bob")}.jwk`);
  chmodSync(path, 0o644);
  assert.match(
    commands(dir).refuses(1, ["lock", ...withMasterKey]),
    /private key .* can be read by others \(mode 0644\); run chmod 600/,
  );
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
  assert.equal(
    removed.map((path) => existsSync(path)),
    [true, true],
  );
  for (const command of ["lock", "unlock"])
    assert.match(
      cli.refuses(1, [command]),
      /removed\/A{22}\.jwk and A{22}\.jwe are different keys; move one of the two away, then try again/,
    );
});

test("a further removed key of the same kid is locked with the others, and doctor warns of one that is not", async () => {
  const dir = makeStore("alice");
  const cli = commands(dir);
  const kid = "A".repeat(22);
  const keys = [1, 2].map((fill) => Buffer.alloc(32, fill).toString("base64url"));
  for (const k of keys) {
    cli("import", "bob", secretFile(JSON.stringify({ kty: "oct", kid, k })));
    cli("remove", "bob", "--force");
  }
  const open = join(dir, "removed", `${kid}.2.jwk`);
  const content = readFileSync(open, "utf8");
  cli("lock", ...withMasterKey);
  for (const k of keys) assert.not.match(JSON.stringify(tree(dir)), k);
  assert.equal(
    readdirSync(join(dir, "removed")).filter((file) => file.startsWith(`${kid}.2.`)),
    [`${kid}.2.jwe`],
  );

  renameSync(join(dir, "removed", `${kid}.2.jwe`), join(temporaryFolder(), "moved"));
  writeFileSync(open, content, { mode: 0o600 });
  assertCheck(
    examine(dir, withMasterKey),
    "store.locked",
    "warn",
    /1 private key is not locked, others are; lock them/,
  );
  cli("lock", ...withMasterKey);
  assert.not.match(JSON.stringify(tree(dir)), keys[1] ?? "");
  assertCheck(examine(dir, withMasterKey), "store.locked", "ok", /3 private keys are locked with a master key/);
});

test.run();
