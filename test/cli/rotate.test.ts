// rotate, and what it has in common with remove: refusals, and a locked store.

import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { secretFiles } from "../../src/at-rest/secret-files.ts";
import { runHere } from "../support/program.ts";
import { temporaryFolder } from "../support/folders.ts";
import { assertOpens, commands, kidOf, makeStore, masterKeyFile, rows, wrapHere } from "../support/stores.ts";

runHere();

const masterKey = masterKeyFile();
const withMasterKey = secretFiles({ masterKeyFile: masterKey });

test("rotate and remove refuse what is not there, and make nothing where no store is", () => {
  const { refuses } = commands(makeStore("alice"));
  for (const args of [
    ["rotate", "nobody"],
    ["remove", "nobody"],
    ["remove", "../names/alice"],
    ["rotate", ""],
    ["remove", "A".repeat(43), "--force"],
  ]) {
    assert.match(refuses(1, args), `no key named ${args[1] ?? ""} in `);
  }
  const none = join(temporaryFolder(), "none");
  for (const command of ["rotate", "remove"])
    assert.match(commands(none).refuses(1, [command, "alice"]), `no key store at ${none}`);
});

test("a refused command leaves no folders behind in a directory that is no store", () => {
  const { refuses } = commands(temporaryFolder());
  for (const args of [
    ["rotate", "nobody"],
    ["remove", "nobody"],
    ["default", "nobody"],
  ])
    refuses(1, args);
});

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
  assert.match(
    cli.run(["remove", former, "--force"]).stderr,
    `removed ${former}: its private key is now ${join(dir, "removed", `${former}.jwe`)}\n`,
  );
  cli("unlock", "--master-key-file", masterKey);
  cli("import", "former", join(dir, "removed", `${former}.jwk`));
  await assertOpens(dir, annotation);
});

test.run();
