// default: the key that is meant if a client names none.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { assertFailure, run, succeed } from "../support/program.ts";
import { makeStore } from "../support/stores.ts";

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

test.run();
