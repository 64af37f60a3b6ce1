// list: a row for each key of each name, for programs and for people.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { succeed } from "../support/program.ts";
import { kidOf, makeStore } from "../support/stores.ts";

const dir = makeStore("alice", "bob:--type rsa --bits 2048", "carol:--type oct --bits 128");
const cli = (...args: readonly string[]): string => succeed([...args, "--keystore", dir]);

test("list --json has the members that programs rely on, and no key material", () => {
  const rows = JSON.parse(cli("list", "--json")) as Record<string, unknown>[];
  const created = rows[0]?.["created"];
  assert.match(String(created), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
  assert.equal(
    rows.map(({ created: _created, ...row }) => row),
    [
      {
        name: "alice",
        kid: kidOf(dir, "alice"),
        type: "ec",
        alg: "ECDH-ES+A256KW",
        crv: "P-256",
        state: "current",
        default: true,
        private: "file",
      },
      {
        name: "bob",
        kid: kidOf(dir, "bob"),
        type: "rsa",
        alg: "RSA-OAEP-256",
        state: "current",
        default: false,
        private: "file",
      },
      {
        name: "carol",
        kid: kidOf(dir, "carol"),
        type: "oct",
        alg: "A128KW",
        state: "current",
        default: false,
        private: "file",
      },
    ],
  );
});

test("list is a line a key for people", () => {
  const lines = cli("list").trimEnd().split("\n");
  assert.is(lines.length, 4);
  assert.match(
    lines[1] ?? "",
    new RegExp(`^alice \\(default\\) +P-256 +current +file +\\S+Z +${kidOf(dir, "alice")}$`),
  );
});

test.run();
