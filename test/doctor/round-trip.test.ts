// doctor's round trip through the provider as a client starts it.

import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { assertCheck, configFile, entry, examine, problems } from "../support/checks.ts";
import { temporaryFolder } from "../support/folders.ts";
import { makeStore } from "../support/stores.ts";

test("makes the round trip through the store of the provider where the one that is checked is missing", () => {
  const [used, dir] = [makeStore("bob"), join(temporaryFolder(), "none")];
  const withStore = (store: string): string => configFile({ ks: entry(["--keystore", store, "--provider", "ks"]) });
  const checks = examine(dir, [], { OCICRYPT_KEYPROVIDER_CONFIG: withStore(used) });
  assert.equal(problems(checks), ["fail store", "warn config.args"]);
  assertCheck(checks, "round-trip", "ok", /wrapped for bob/);
  const other = examine(used, [], { OCICRYPT_KEYPROVIDER_CONFIG: withStore(dir) });
  assertCheck(other, "round-trip", "fail", new RegExp(`no key store at ${dir}`));
});

test.run();
