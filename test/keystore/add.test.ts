// Adding a key under a name.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { commands, makeStore } from "../support/stores.ts";

test("a new key is refused, and not half made, while the default is damaged", () => {
  const dir = makeStore("alice");
  writeFileSync(join(dir, "default"), "!");
  assert.match(commands(dir).refuses(1, ["keygen", "bob"]), /default is damaged: it must hold a name; set it again/);
});

test.run();
