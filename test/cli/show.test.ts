// show: one name's keys, or one key.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { succeed } from "../support/program.ts";
import { kidOf, makeStore } from "../support/stores.ts";

const dir = makeStore("alice", "bob:--type rsa --bits 2048", "carol:--type oct --bits 128");
const cli = (...args: readonly string[]): string => succeed([...args, "--keystore", dir]);
const read = (path: string): string => readFileSync(path, "utf8");

test("show tells of a name or a kid, and never prints what is private", () => {
  for (const key of ["alice", kidOf(dir, "alice")]) {
    const [entry] = JSON.parse(cli("show", key, "--json")) as { name: string; public: Record<string, string> }[];
    assert.is(entry?.name, "alice");
    assert.equal(Object.keys(entry?.public ?? {}).toSorted(), ["created", "crv", "kid", "kty", "x", "y"]);
  }
  for (const name of ["alice", "bob", "carol"]) {
    const secret = JSON.parse(read(join(dir, "private", `${kidOf(dir, name)}.jwk`))) as { d?: string; k?: string };
    assert.not.match(cli("show", name) + cli("show", name, "--json"), secret.d ?? secret.k ?? "");
  }
});

test.run();
