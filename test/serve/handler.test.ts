// The text of an error on its way to a gRPC client: whatever is in it, the client gets its line, and the server goes on.

import { cpSync } from "node:fs";
import { join } from "node:path";
import { status } from "@grpc/grpc-js";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { encodeMessage } from "../../src/serve/service.ts";
import { temporaryFolder } from "../support/folders.ts";
import { unwrapRequest, wrapRequest } from "../support/requests.ts";
import { callRaw, grpcUnwrap, grpcWrap, refused, startServer } from "../support/server.ts";
import { makeStore } from "../support/stores.ts";

const MOST = 8 * 1024; // bytes of headers that the strictest clients take
const TEXTS = [
  ...Array.from({ length: 4 }, (_, more) => "a".repeat(40 + more)), // which move the cut
  ...Array.from({ length: 4 }, (_, before) => `${"a".repeat(before)}${"\u{1f511}".repeat(1500)}`),
  "\u20ac".repeat(3000),
  "%".repeat(3000),
  "\ud83d".repeat(1000),
  "\udd11a".repeat(1000),
  `a\u0000\r\n\u202e\u{10ffff}`,
];

test("an error's line reaches the client whatever it quotes, and the server goes on", async () => {
  const dir = join(temporaryFolder(), ...Array.from({ length: 15 }, () => "\u{1f511}".repeat(63))); // the line ends in it, cut
  cpSync(makeStore("alice"), dir, { recursive: true });
  const server = await startServer(dir);
  const answers: string[] = [];
  for (const text of TEXTS) {
    const escaped = JSON.stringify(text).slice(1, -1);
    answers.push(await refused(grpcWrap(server.address, [text]), status.NOT_FOUND));
    answers.push(
      await refused(
        callRaw(server.address, "WrapKey", encodeMessage(wrapRequest(["alice"]).replace("keywrap", escaped))),
        status.INVALID_ARGUMENT,
      ),
    );
    answers.push(
      await refused(
        callRaw(server.address, "UnWrapKey", encodeMessage(unwrapRequest(JSON.stringify({ [text]: text, alg: text })))),
        status.INVALID_ARGUMENT,
      ),
    );
    answers.push(await refused(callRaw(server.address, "WrapKey", Buffer.from(text)), status.INVALID_ARGUMENT));
  }
  for (const details of answers) {
    assert.match(details, /^ocicrypt-keystore: .{10}/);
    assert.ok(details.isWellFormed(), details);
    assert.ok(encodeURIComponent(details).length < MOST, `${encodeURIComponent(details).length} bytes`);
  }
  assert.ok(
    answers.some((details) => encodeURIComponent(details).length > 3_000),
    "some were cut",
  );
  assert.ok((await grpcUnwrap(server.address, await grpcWrap(server.address, ["alice"]))).length > 0);
  assert.is(await server.stop(), 0);
});

test.run();
