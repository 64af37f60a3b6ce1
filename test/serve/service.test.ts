// Messages of the gRPC service.

import { status } from "@grpc/grpc-js";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { encodeMessage } from "../../src/serve/service.ts";
import { unwrapRequest, wrapRequest } from "../support/requests.ts";
import { callRaw, refused, startServer } from "../support/server.ts";
import { makeStore } from "../support/stores.ts";

test("messages that are no protobuf, or carry another method's request, are refused in one line", async () => {
  const server = await startServer(makeStore("alice"));
  for (const bytes of [
    Buffer.from([0x0a, 0x7f, 1]),
    Buffer.from([0x0b, 1, 2]),
    Buffer.alloc(4096, 0xff),
    Buffer.alloc(4096, 0x0b),
  ]) {
    assert.match(
      await refused(callRaw(server.address, "UnWrapKey", bytes), status.INVALID_ARGUMENT),
      /the gRPC message is malformed/,
    );
  }
  assert.match(
    await refused(callRaw(server.address, "UnWrapKey", Buffer.alloc(0)), status.INVALID_ARGUMENT),
    /request is empty/,
  );
  const unknownFields = Buffer.concat([
    Buffer.from([0x10, 0x05, 0x1a, 0x01, 0x00]),
    encodeMessage(wrapRequest(["alice"])),
  ]);
  assert.ok((await callRaw(server.address, "WrapKey", unknownFields)).length > 100);
  assert.match(
    await refused(callRaw(server.address, "UnWrapKey", encodeMessage(wrapRequest(["alice"]))), status.INVALID_ARGUMENT),
    /op is keywrap, but the method is for keyunwrap/,
  );
  assert.match(
    await refused(callRaw(server.address, "WrapKey", encodeMessage(unwrapRequest("x"))), status.INVALID_ARGUMENT),
    /op is keyunwrap/,
  );
  await server.stop();
});

test.run();
