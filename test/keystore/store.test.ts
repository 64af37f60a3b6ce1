// The store as requests read it: who is wrapped for, and that nothing is written.

import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { keys } from "../support/attacks.ts";
import { sealed, storeWith } from "../support/key-files.ts";
import { assertFailure, run } from "../support/program.ts";
import { headerKids, OPTSDATA, unwrap, wrap, wrapRequest } from "../support/requests.ts";
import { commands, kidOf, makeStore } from "../support/stores.ts";

test("a retired kid wraps no more, and the line says who does", () => {
  const dir = makeStore("alice");
  const former = kidOf(dir, "alice");
  commands(dir)("rotate", "alice");
  const line = assertFailure(run(["--keystore", dir], { input: wrapRequest([former]) }), 1);
  assert.is(
    line,
    `ocicrypt-keystore: key ${former} is retired and cannot encrypt; use alice, the name it was rotated under`,
  );
  wrap(dir, [kidOf(dir, "alice")]);
});

test("a kid that is retired under one name and current under another still wraps", () => {
  const dir = makeStore("alice");
  const cli = commands(dir);
  cli("import", "other", join(dir, "private", `${kidOf(dir, "alice")}.jwk`));
  cli("rotate", "alice");
  assert.equal(headerKids(wrap(dir, [kidOf(dir, "other")])), [kidOf(dir, "other")]);
});

test("leaves the store as it was, whatever it was asked", () => {
  const made = storeWith(keys.p256, JSON.stringify(keys.p256));
  const before = statSync(made.file).mtimeMs;
  assert.is(unwrap(made.dir, JSON.stringify(sealed.get(keys.p256))), OPTSDATA);
  assert.is(readFileSync(made.file, "utf8"), JSON.stringify(keys.p256));
  assert.is(statSync(made.file).mtimeMs, before);
});

test.run();
