// doctor and the keys of a store: whether they can be read, and are locked in one way.

import { randomBytes } from "node:crypto";
import { copyFileSync, readdirSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { assertCheck, configFile, entry, examine, problems } from "../support/checks.ts";
import { secretFile, temporaryFolder } from "../support/folders.ts";
import { succeed } from "../support/program.ts";
import { kidOf, lock, makeStore, masterKeyFile } from "../support/stores.ts";

const privateKey = (dir: string, name = "alice", ending = "jwk"): string =>
  join(dir, "private", `${kidOf(dir, name)}.${ending}`);

test("opens locked keys with the secret it is given, else tells that it was not given", () => {
  const dir = makeStore("alice", "bob");
  const secret = lock(dir);
  assertCheck(
    examine(dir, ["--master-key-file", secret]),
    "store.locked",
    "ok",
    /2 private keys are locked with a master key, which was given and opens them/,
  );
  assert.equal(problems(examine(dir, [], { OCICRYPT_KEYSTORE_MASTER_KEY_FILE: secret })), []);
  const checks = examine(dir);
  assertCheck(
    checks,
    "store.locked",
    "warn",
    /2 keys are locked with a master key, which was not given; .*--master-key-file FILE/,
  );
  assertCheck(checks, "round-trip", "fail", /exit code 3.*locked with a master key/);
  const file = configFile({ ks: entry(["--keystore", dir, "--provider", "ks", "--master-key-file", secret]) });
  assert.equal(problems(examine(dir, [], { OCICRYPT_KEYPROVIDER_CONFIG: file })), []);
});

test("tells of a secret that does not open the keys, is missing, or can be read by others", () => {
  const dir = makeStore("alice");
  lock(dir);
  assertCheck(
    examine(dir, ["--master-key-file", masterKeyFile()]),
    "store.locked",
    "fail",
    /does not open: wrong master key, or the file is damaged/,
  );
  assertCheck(
    examine(dir, ["--master-key-file", "/none"]),
    "store.locked",
    "fail",
    /master key file \/none is missing/,
  );
  const open = secretFile(randomBytes(32), 0o644);
  assertCheck(examine(dir, ["--master-key-file", open]), "store.modes", "fail", /master key \S+ can be read by others/);
});

test("tells of keys locked with several kinds of secrets, of some not locked, and of a locked key that is damaged", () => {
  const dir = makeStore("alice", "bob", "carol");
  const [one, other] = [makeStore("x"), makeStore("y")];
  const passphrase = join(temporaryFolder(), "passphrase");
  writeFileSync(passphrase, "horse", { mode: 0o600 });
  const secret = lock(one);
  succeed(["lock", "--keystore", other, "--passphrase-file", passphrase]);
  for (const from of [one, other])
    for (const folder of ["private", "public", "names"])
      for (const file of readdirSync(join(from, folder)))
        copyFileSync(join(from, folder, file), join(dir, folder, file));
  const messages = examine(dir, ["--master-key-file", secret, "--passphrase-file", passphrase]).filter(
    ({ id }) => id === "store.locked",
  );
  assert.equal(
    messages.map(({ status, message }) => `${status} ${message}`),
    [
      "warn 3 private keys are not locked, others are",
      "warn some keys are locked with a master key, others with a passphrase",
    ],
  );
  truncateSync(privateKey(one, "x", "jwe"), 100);
  assertCheck(
    examine(one, ["--master-key-file", secret]),
    "store.locked",
    "fail",
    /locked key \S+ is damaged: it is not a JWE.*backup/,
  );
});

test.run();
