// default: the key that is meant if a client names none.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { secretFile, temporaryFolder } from "../support/folders.ts";
import { generateJwk, publicJwk } from "../../src/jwk/jwk.ts";
import { addKey } from "../../src/keystore/add.ts";
import { openStore } from "../../src/keystore/store.ts";
import { heldStore, newRsa, openssl } from "../support/holders.ts";
import { testWith } from "../support/parts.ts";
import { assertFailure, run, runHere, succeed } from "../support/program.ts";
import { headerKids, wrap, wrapRequest } from "../support/requests.ts";
import { commands, kidOf, makeStore, noSecrets } from "../support/stores.ts";

runHere();

const dir = makeStore("alice", "bob:--type rsa --bits 2048", "carol:--type oct --bits 128");
const cli = (...args: readonly string[]): string => succeed([...args, "--keystore", dir]);

test("default shows and sets the default key", () => {
  assert.is(cli("default"), "alice\n");
  assert.is(cli("default", "bob"), "");
  assert.is(cli("default"), "bob\n");
  assert.match(assertFailure(run(["default", "nobody", "--keystore", dir]), 1), /no key named nobody/);
  assert.is(cli("default"), "bob\n");
  cli("default", "alice");
});

const [ec, rsa] = [generateJwk({ type: "ec" }), generateJwk({ type: "rsa", bits: 2048 })];
const oct = generateJwk({ type: "oct" });

for (const [what, expected, ...steps] of [
  ["a public key", undefined, ["theirs", publicJwk(ec)]],
  ["two public keys", undefined, ["theirs", publicJwk(ec)], ["others", publicJwk(rsa)]],
  ["a public key, then a private one", "own", ["theirs", publicJwk(ec)], ["own", rsa]],
  ["a private key, then a public one", "own", ["own", rsa], ["theirs", publicJwk(ec)]],
  ["a private key, then another", "own", ["own", rsa], ["second", ec]],
  ["a symmetric key", "own", ["own", oct], ["theirs", publicJwk(ec)]],
  ["a public key, then its private part", "own", ["own", publicJwk(ec)], ["own", ec]],
  ["a private key, then its public part", "own", ["own", ec], ["again", publicJwk(ec)]],
] as const) {
  test(`${what}: ${expected === undefined ? "none becomes" : "the private one becomes"} the default key`, async () => {
    const folder = join(temporaryFolder(), "store");
    for (const [name, jwk] of steps) await addKey(openStore(folder, noSecrets), name, jwk, true);
    assert.is(openStore(folder, noSecrets).defaultName(), expected);
  });
}

testWith(openssl, "openssl", "a key with a holder becomes the default key", () => {
  const folder = heldStore("rsa-oaep-256", newRsa());
  assert.is(openStore(folder, noSecrets).defaultName(), "hsm");
});

test("without a default key, a request that names no key is refused, and the line says how to go on", () => {
  const recipients = join(temporaryFolder(), "store");
  commands(recipients)("import", "alice", secretFile(cli("export", "alice")));
  const line = assertFailure(run(["--keystore", recipients], { input: wrapRequest(["Enabled"]) }), 1);
  assert.match(line, /no default key in \S+; set one with ocicrypt-keystore default NAME, or name a recipient/);
  commands(recipients)("default", "alice");
  assert.equal(headerKids(wrap(recipients, ["Enabled"])), [kidOf(dir, "alice")]);
});

test("an imported public key does not become the default key by a default that an interrupted command left", () => {
  const crashed = makeStore();
  writeFileSync(join(crashed, "default"), "alice\n");
  commands(crashed)("import", "alice", secretFile(cli("export", "alice")));
  assert.match(assertFailure(run(["default", "--keystore", crashed]), 1), /no default key/);
});

test.run();
