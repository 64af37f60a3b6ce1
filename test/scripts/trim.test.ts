// The list of what the bundles leave out: an entry that no bundle has ends the build.

import { join } from "node:path";
import { build } from "esbuild";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { assertTrimmed, trim } from "../../scripts/trim.ts";
import { ROOT } from "../support/program.ts";

test("fails a build that has nothing to leave out for an entry, and names the entry", async () => {
  const contents = 'import "node-jose/lib/algorithms/sha.js"; import "node-jose/lib/algorithms/dir.js";';
  await build({
    stdin: { contents, resolveDir: join(ROOT, "src") },
    bundle: true,
    write: false,
    platform: "node",
    plugins: [trim],
  });
  assert.throws(assertTrimmed, (error: Error) => {
    assert.match(error.message, /in no bundle: .*node-jose\/lib\/jwk\/eckey\.js/);
    assert.not.match(error.message, /algorithms\/(sha|dir)\.js/);
    return true;
  });
});

test.run();
