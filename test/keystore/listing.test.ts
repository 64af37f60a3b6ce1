// Listing: what show and list tell of the keys in a store.

import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { keys } from "../support/attacks.ts";
import { temporaryFolder } from "../support/folders.ts";
import { placeKey } from "../support/foreign-keys.ts";
import { succeed } from "../support/program.ts";
import { wrap } from "../support/requests.ts";

test("shows no private part of a key that lies among the public ones", () => {
  const dir = temporaryFolder();
  for (const [name, jwk] of Object.entries(keys)) {
    const kid = placeKey(dir, name, jwk);
    copyFileSync(join(dir, "private", `${kid}.jwk`), join(dir, "public", `${kid}.jwk`));
    const shown = succeed(["show", name, "--json", "--keystore", dir]) + succeed(["list", "--json", "--keystore", dir]);
    for (const member of ["d", "p", "q", "dp", "dq", "qi", "k"])
      assert.not.match(shown, new RegExp(`"${member}":|${jwk[member] ?? "no such member"}`));
    assert.type(wrap(dir, [name]).toString(), "string");
  }
});

test.run();
