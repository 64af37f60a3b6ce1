// serve: the same answers and the same refusals as exec mode, from a store that may change meanwhile.

import { join } from "node:path";
import { status } from "@grpc/grpc-js";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { encodeMessage } from "../../src/serve/service.ts";
import { temporaryFolder } from "../support/folders.ts";
import { assertFailure, run } from "../support/program.ts";
import { OPTSDATA, unwrap, unwrapRequest, wrap, wrapRequest } from "../support/requests.ts";
import { callRaw, grpcUnwrap, grpcWrap, refused, startServer } from "../support/server.ts";
import { kidOf, makeStore } from "../support/stores.ts";

test("what exec mode wraps the server opens, and the other way round, for every kind of key", async () => {
  const store = makeStore("ec", "rsa:--type rsa", "oct:--type oct");
  for (const listen of [undefined, "localhost:0", "127.0.0.1:0", "[::1]:0"]) {
    const server = await startServer(store, { ...(listen && { listen }) });
    for (const name of ["ec", "rsa", "oct", "ec:rsa:oct", kidOf(store, "rsa"), ""]) {
      assert.is(await grpcUnwrap(server.address, wrap(store, [name])), OPTSDATA);
      assert.is(unwrap(store, await grpcWrap(server.address, [name])), OPTSDATA);
    }
    assert.is(await server.stop(), 0);
  }
});

test("an error's details are exec mode's one line", async () => {
  const store = makeStore("alice");
  const server = await startServer(store);
  const foreign = wrap(makeStore("other"), ["other"]);
  const cases = [
    ["WrapKey", wrapRequest(["bob"]), 1, status.NOT_FOUND],
    ["WrapKey", wrapRequest([`alice:${kidOf(store, "alice")}x`]), 1, status.NOT_FOUND],
    ["WrapKey", wrapRequest(["alice"], "keystore", ""), 1, status.INVALID_ARGUMENT],
    [
      "WrapKey",
      '{"op":"keywrap","keywrapparams":{"ec":{"Parameters":{"a":[],"b":[]}},"optsdata":"AA=="}}',
      1,
      status.INVALID_ARGUMENT,
    ],
    ["UnWrapKey", unwrapRequest(foreign), 3, status.NOT_FOUND],
    ["UnWrapKey", unwrapRequest("{}"), 1, status.INVALID_ARGUMENT],
    ["UnWrapKey", "", 1, status.INVALID_ARGUMENT],
    ["UnWrapKey", "{", 1, status.INVALID_ARGUMENT],
  ] as const;
  for (const [method, request, exitCode, code] of cases) {
    const line = assertFailure(run(["--keystore", store], { input: request }), exitCode);
    assert.is(await refused(callRaw(server.address, method, encodeMessage(request)), code), line);
  }
  await server.stop();
});

test("reads what the Rust client sends: integer lists, and optsdata as raw text", async () => {
  const server = await startServer(makeStore("alice"));
  const raw = JSON.stringify({
    op: "keywrap",
    keywrapparams: { ec: { Parameters: { keystore: [[...Buffer.from("alice")]] } }, optsdata: OPTSDATA },
  });
  const answer = await callRaw(server.address, "WrapKey", encodeMessage(raw));
  const { keywrapresults } = JSON.parse(answer.subarray(answer.indexOf("{")).toString()) as {
    keywrapresults: { annotation: number[] };
  };
  const integers = JSON.stringify({
    op: "keyunwrap",
    keyunwrapparams: { dc: { Parameters: {} }, annotation: keywrapresults.annotation },
  });
  assert.ok(
    (await callRaw(server.address, "UnWrapKey", encodeMessage(integers))).includes(
      `{"keyunwrapresults":{"optsdata":[${[...Buffer.from(OPTSDATA)].join(",")}]}}`,
    ),
  );
  await server.stop();
});

test("--allow limits the operation, whatever the request says", async () => {
  const store = makeStore("alice");
  const annotation = wrap(store, ["alice"]);
  const wrapping = await startServer(store, { args: ["--allow", "wrap"] });
  assert.is(unwrap(store, await grpcWrap(wrapping.address, ["alice"])), OPTSDATA);
  assert.match(
    await refused(grpcUnwrap(wrapping.address, annotation), status.PERMISSION_DENIED),
    /does not unwrap; it was started with --allow wrap/,
  );
  await refused(
    callRaw(wrapping.address, "WrapKey", encodeMessage(unwrapRequest(annotation))),
    status.INVALID_ARGUMENT,
  );
  await wrapping.stop();
  const unwrapping = await startServer(store, { args: ["--allow", "unwrap"] });
  assert.is(await grpcUnwrap(unwrapping.address, annotation), OPTSDATA);
  await refused(grpcWrap(unwrapping.address, ["alice"]), status.PERMISSION_DENIED);
  await refused(
    callRaw(unwrapping.address, "UnWrapKey", encodeMessage(wrapRequest(["alice"]))),
    status.INVALID_ARGUMENT,
  );
  await unwrapping.stop();
});

test("--provider tells which entry is meant where a request names several", async () => {
  const store = makeStore("alice", "bob");
  const several = JSON.stringify({
    op: "keywrap",
    keywrapparams: { ec: { Parameters: { one: ["YWxpY2U="], two: ["Ym9i"] } }, optsdata: "AAAA" },
  });
  const server = await startServer(store, { args: ["--provider", "two"] });
  const answer = await callRaw(server.address, "WrapKey", encodeMessage(several));
  const { keywrapresults } = JSON.parse(answer.subarray(answer.indexOf("{")).toString()) as {
    keywrapresults: { annotation: number[] };
  };
  assert.match(Buffer.from(keywrapresults.annotation).toString(), new RegExp(kidOf(store, "bob")));
  await server.stop();
});

test("a request for more recipients than an annotation holds is refused before any is looked up", async () => {
  const store = makeStore("alice");
  const server = await startServer(store);
  assert.match(
    await refused(
      grpcWrap(server.address, [Array.from({ length: 200 }, (_, index) => `nobody${index}`).join(":")]),
      status.INVALID_ARGUMENT,
    ),
    /more than 64 recipients/,
  );
  await server.stop();
});

test("a store that is not there is said at start", () => {
  const dir = temporaryFolder();
  assert.match(
    assertFailure(run(["serve", "--keystore", join(dir, "none"), "--listen", `unix:${dir}/s`]), 1),
    /no key store at .*; make one/,
  );
});

test.run();
