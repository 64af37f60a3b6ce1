// Adding a key under a name.

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { generateJwk } from "../../src/jwk/jwk.ts";
import { addKey } from "../../src/keystore/add.ts";
import { openStore } from "../../src/keystore/store.ts";
import { temporaryFolder } from "../support/folders.ts";
import { refusedHere } from "../support/here.ts";
import { testWith, tool } from "../support/parts.ts";
import { commands, lockedStore, makeStore, masterKeyFile, noSecrets } from "../support/stores.ts";

test("a new key is refused, and not half made, while the default is damaged", () => {
  const dir = makeStore("alice");
  writeFileSync(join(dir, "default"), "!");
  assert.match(commands(dir).refuses(1, ["keygen", "bob"]), /default is damaged: it must hold a name; set it again/);
});

test("a symmetric key for the name of a locked EC key is refused without unlocking that", async () => {
  const { dir } = await lockedStore("--master-key-file", masterKeyFile());
  const add = async (): Promise<string> =>
    await addKey(openStore(dir, noSecrets), "alice", generateJwk({ type: "oct" }));
  assert.match(await refusedHere(dir, 1, add), "the name alice is taken");
});

const chattr = process.geteuid?.() === 0 ? tool("chattr") : undefined;
testWith(
  chattr,
  "root and chattr",
  "a first key whose name cannot be written leaves no default that leads nowhere",
  (program) => {
    const dir = join(temporaryFolder(), "store");
    mkdirSync(join(dir, "names"), { recursive: true });
    assert.is(spawnSync(program, ["+i", join(dir, "names")]).status, 0);
    const { code, stderr } = commands(dir).run(["keygen", "alice"]);
    assert.is(spawnSync(program, ["-i", join(dir, "names")]).status, 0);
    assert.is(code, 1);
    assert.match(stderr, /names\/alice failed: EPERM/);
    assert.not.ok(existsSync(join(dir, "default")));
  },
);

test.run();
