// Locking and unlocking a whole store: all keys or none, and neither of two keys is lost.

import { chmodSync, existsSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { secretFiles } from "../../src/at-rest/secret-files.ts";
import { secretFile } from "../support/folders.ts";
import { assertOpens, commands, kidOf, makeStore, masterKeyFile, readJson, wrapHere } from "../support/stores.ts";

const masterKey = masterKeyFile();
const withMasterKey = ["--master-key-file", masterKey] as const;
const masterKeySecrets = secretFiles({ masterKeyFile: masterKey });

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
