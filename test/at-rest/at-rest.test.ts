// Locked files: how each is locked, and what is no locked file of ours.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { assertFailure } from "../support/program.ts";
import { exec } from "../support/requests.ts";
import { commands, lockedStore, masterKeyFile } from "../support/stores.ts";

const masterKey = masterKeyFile();
const withMasterKey = ["--master-key-file", masterKey] as const;

for (const [name, change] of [
  ["damaged", () => "hello"],
  ["cut", (text: string) => text.slice(0, -10)],
  ["locked in an unknown way", (text: string) => text.replace('"A256KW"', '"A128KW"')],
] as const) {
  test(`says which locked file is ${name}, and gives no advice for images`, async () => {
    const { dir, annotation, kid } = await lockedStore(...withMasterKey);
    const path = join(dir, "private", `${kid}.jwe`);
    writeFileSync(path, change(readFileSync(path, "utf8")));
    for (const line of [
      assertFailure(exec(dir, annotation, withMasterKey), 3),
      ...["lock", "unlock"].map((command) => assertFailure(commands(dir).run([command, ...withMasterKey]), 1)),
    ]) {
      assert.match(line, path);
      assert.match(line, name === "locked in an unknown way" ? "open it with the program that locked it" : "backup");
      assert.not.match(line, /annotation|encrypt the image/);
    }
  });
}

test.run();
