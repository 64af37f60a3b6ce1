// ocicrypt's own Go code as the client, by exec and over gRPC: what ocicrypt's tests of key providers do, with this provider.

import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { temporaryFolder } from "../support/folders.ts";
import { findGoClient } from "../support/go-client.ts";
import { testWith } from "../support/parts.ts";
import { BINARY } from "../support/program.ts";
import { OPTSDATA } from "../support/requests.ts";
import { startServer } from "../support/server.ts";
import { kidOf, makeStore } from "../support/stores.ts";

const go = findGoClient();
const GO = "the Go client: run test/support/go-client.ts";
const store = makeStore("zoe", "alice", "rsa:--type rsa --bits 2048", "oct:--type oct");

/** Calls a provider of a file: what it answered, or the client's error. */
type Call = (operation: "wrap" | "unwrap", values: readonly string[], input: string | Buffer) => Buffer | string;

// A client whose file has the provider among others, as in ocicrypt's tests.
function client(program: string, provider: object): Call {
  const conf = join(temporaryFolder(), "ocicrypt.conf");
  const others = { other: { grpc: "localhost:3990" }, another: { cmd: { path: "/usr/lib/nothing", args: [] } } };
  writeFileSync(conf, JSON.stringify({ "key-providers": { ...others, keystore: provider } }));
  const env = { OCICRYPT_KEYPROVIDER_CONFIG: conf };
  return (operation, values, input) => {
    const args = [operation, "keystore", ...values];
    const { status, stdout, stderr } = spawnSync(program, args, { input, env, timeout: 60_000 });
    return status === 0 ? stdout : stderr.toString();
  };
}

/** A client that starts the program, and one that calls a server. */
async function clients(program: string, dir: string): Promise<Readonly<Record<string, Call>>> {
  const { address } = await startServer(dir);
  return {
    exec: client(program, { cmd: { path: BINARY, args: ["--keystore", dir] } }),
    gRPC: client(program, { grpc: address }),
  };
}

/** What the client answered, which must be no error. */
function answer(said: Buffer | string): Buffer {
  if (typeof said === "string") throw new Error(said);
  return said;
}

const EVERY_BYTE = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));

for (const [what, values, optsdata, names] of [
  ["no value, as ocicrypt's tests do", [], OPTSDATA, ["zoe"]],
  ["an empty value", [""], OPTSDATA, ["zoe"]],
  ["Enabled", ["Enabled"], OPTSDATA, ["zoe"]],
  ["a name", ["alice"], OPTSDATA, ["alice"]],
  ["a kid", [kidOf(store, "rsa")], OPTSDATA, ["rsa"]],
  ["several values", ["alice", "rsa", "oct"], OPTSDATA, ["alice", "rsa", "oct"]],
  ["names joined by a colon", ["alice:rsa", "oct"], OPTSDATA, ["alice", "rsa", "oct"]],
  ["optsdata of another form", ["alice"], "data to be encrypted", ["alice"]],
  ["optsdata of every byte", ["alice"], EVERY_BYTE, ["alice"]],
] as const) {
  testWith(
    go,
    GO,
    `ocicrypt wraps with ${what}; what exec wrapped gRPC unwraps, and the other way round`,
    async (program) => {
      const calls = Object.entries(await clients(program, store));
      for (const [, wraps] of calls) {
        const annotation = answer(wraps("wrap", values, optsdata));
        const { recipients } = JSON.parse(annotation.toString()) as {
          recipients: readonly { header: { kid: string } }[];
        };
        assert.equal(
          recipients.map(({ header }) => header.kid),
          names.map((name) => kidOf(store, name)),
        );
        for (const hints of [[], ["Supported Protocol"], ["extra-params", ""]])
          for (const [how, unwraps] of calls)
            assert.equal(answer(unwraps("unwrap", hints, annotation)), Buffer.from(optsdata), how);
      }
    },
  );
}

testWith(
  go,
  GO,
  "ocicrypt gets an error and no key for another store's annotation, and for what is no annotation",
  async (program) => {
    const [ours, others] = [await clients(program, store), await clients(program, makeStore("alice"))];
    for (const how of ["exec", "gRPC"] as const) {
      const call: Call = (...args) => others[how]?.(...args) ?? "no such client";
      const annotation = answer(ours[how]?.("wrap", ["alice"], OPTSDATA) ?? "no such client");
      for (const [operation, values, input, says] of [
        ["unwrap", [], annotation, /ocicrypt-keystore: no private key of the store opens this annotation/],
        [
          "unwrap",
          [],
          '{"key_url":"https://key-provider/key-uuid","wrapped_key":"AA==","wrap_type":"AES"}',
          /ocicrypt-keystore: /,
        ],
        ["unwrap", [], "", /ocicrypt-keystore: /],
        ["wrap", ["nobody"], OPTSDATA, /ocicrypt-keystore: unknown recipient "nobody"/],
      ] as const) {
        const said = call(operation, values, input);
        assert.type(said, "string");
        assert.match(String(said), says);
      }
    }
  },
);

test.run();
