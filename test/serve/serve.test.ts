// serve: the same answers and the same refusals as exec mode, from a store that may change meanwhile.

import { readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Client, credentials, status } from "@grpc/grpc-js";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { encodeMessage, SERVICE } from "../../src/serve/service.ts";
import { temporaryFolder } from "../support/folders.ts";
import { assertFailure, run, succeed } from "../support/program.ts";
import { OPTSDATA, recorded, unwrap, unwrapRequest, wrap, wrapRequest } from "../support/requests.ts";
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
    ["WrapKey", '{"op":"keywrap","keywrapparams":{"ec":{"Parameters":{"a":[],"b":[]}},"optsdata":"AA=="}}', 1, status.INVALID_ARGUMENT],
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
  const raw = JSON.stringify({ op: "keywrap", keywrapparams: { ec: { Parameters: { keystore: [[...Buffer.from("alice")]] } }, optsdata: OPTSDATA } });
  const answer = await callRaw(server.address, "WrapKey", encodeMessage(raw));
  const { keywrapresults } = JSON.parse(answer.subarray(answer.indexOf("{")).toString()) as { keywrapresults: { annotation: number[] } };
  const integers = JSON.stringify({ op: "keyunwrap", keyunwrapparams: { dc: { Parameters: {} }, annotation: keywrapresults.annotation } });
  assert.ok((await callRaw(server.address, "UnWrapKey", encodeMessage(integers))).includes(`{"keyunwrapresults":{"optsdata":[${[...Buffer.from(OPTSDATA)].join(",")}]}}`));
  await server.stop();
});

test("messages that are no protobuf, or carry another method's request, are refused in one line", async () => {
  const server = await startServer(makeStore("alice"));
  for (const bytes of [Buffer.from([0x0a, 0x7f, 1]), Buffer.from([0x0b, 1, 2]), Buffer.alloc(4096, 0xff), Buffer.alloc(4096, 0x0b)]) {
    assert.match(await refused(callRaw(server.address, "UnWrapKey", bytes), status.INVALID_ARGUMENT), /the gRPC message is malformed/);
  }
  assert.match(await refused(callRaw(server.address, "UnWrapKey", Buffer.alloc(0)), status.INVALID_ARGUMENT), /request is empty/);
  const unknownFields = Buffer.concat([Buffer.from([0x10, 0x05, 0x1a, 0x01, 0x00]), encodeMessage(wrapRequest(["alice"]))]);
  assert.ok((await callRaw(server.address, "WrapKey", unknownFields)).length > 100);
  assert.match(await refused(callRaw(server.address, "UnWrapKey", encodeMessage(wrapRequest(["alice"]))), status.INVALID_ARGUMENT), /op is keywrap, and not what was called/);
  assert.match(await refused(callRaw(server.address, "WrapKey", encodeMessage(unwrapRequest("x"))), status.INVALID_ARGUMENT), /op is keyunwrap/);
  await server.stop();
});

test("--allow limits the operation, whatever the request says", async () => {
  const store = makeStore("alice");
  const annotation = wrap(store, ["alice"]);
  const wrapping = await startServer(store, { args: ["--allow", "wrap"] });
  assert.is(unwrap(store, await grpcWrap(wrapping.address, ["alice"])), OPTSDATA);
  assert.match(await refused(grpcUnwrap(wrapping.address, annotation), status.PERMISSION_DENIED), /does not unwrap; it was started with --allow wrap/);
  await refused(callRaw(wrapping.address, "WrapKey", encodeMessage(unwrapRequest(annotation))), status.INVALID_ARGUMENT);
  await wrapping.stop();
  const unwrapping = await startServer(store, { args: ["--allow", "unwrap"] });
  assert.is(await grpcUnwrap(unwrapping.address, annotation), OPTSDATA);
  await refused(grpcWrap(unwrapping.address, ["alice"]), status.PERMISSION_DENIED);
  await refused(callRaw(unwrapping.address, "UnWrapKey", encodeMessage(wrapRequest(["alice"]))), status.INVALID_ARGUMENT);
  await unwrapping.stop();
});

test("--provider tells which entry is meant where a request names several", async () => {
  const store = makeStore("alice", "bob");
  const several = JSON.stringify({ op: "keywrap", keywrapparams: { ec: { Parameters: { one: ["YWxpY2U="], two: ["Ym9i"] } }, optsdata: "AAAA" } });
  const server = await startServer(store, { args: ["--provider", "two"] });
  const answer = await callRaw(server.address, "WrapKey", encodeMessage(several));
  const { keywrapresults } = JSON.parse(answer.subarray(answer.indexOf("{")).toString()) as { keywrapresults: { annotation: number[] } };
  assert.match(Buffer.from(keywrapresults.annotation).toString(), new RegExp(kidOf(store, "bob")));
  await server.stop();
});

test("a change of the store counts at once: rotate, remove, restore, a new default", async () => {
  const store = makeStore("alice", "bob");
  const server = await startServer(store);
  const old = await grpcWrap(server.address, ["alice"]);
  succeed(["rotate", "alice", "--keystore", store]);
  assert.match((await grpcWrap(server.address, ["alice"])).toString(), new RegExp(kidOf(store, "alice")));
  assert.is(await grpcUnwrap(server.address, old), OPTSDATA);
  const bob = await grpcWrap(server.address, ["bob"]);
  succeed(["remove", "bob", "--force", "--keystore", store]);
  assert.match(await refused(grpcUnwrap(server.address, bob), status.NOT_FOUND), /no private key of the store opens/);
  await refused(grpcWrap(server.address, ["bob"]), status.NOT_FOUND);
  renameSync(store, `${store}-away`);
  assert.match(await refused(grpcWrap(server.address, ["alice"]), status.FAILED_PRECONDITION), /no key store at/);
  await refused(grpcUnwrap(server.address, old), status.FAILED_PRECONDITION);
  renameSync(`${store}-away`, store);
  assert.is(await grpcUnwrap(server.address, old), OPTSDATA);
  await server.stop();
});

test("locked keys are unlocked at start and stay so without the secret's file; a removed one stops opening", async () => {
  for (const kind of ["passphrase", "master-key"]) {
    const store = makeStore("alice", "bob");
    const [alice, bob] = [wrap(store, ["alice"]), wrap(store, ["bob"])];
    const secret = join(temporaryFolder(), "secret");
    writeFileSync(secret, "x".repeat(32), { mode: 0o600 });
    succeed(["lock", `--${kind}-file`, secret, "--keystore", store]);
    const server = await startServer(store, { args: [`--${kind}-file`, secret] });
    rmSync(secret);
    assert.is(await grpcUnwrap(server.address, alice), OPTSDATA);
    writeFileSync(secret, "x".repeat(32), { mode: 0o600 });
    succeed(["rotate", "alice", `--${kind}-file`, secret, "--keystore", store]);
    rmSync(secret);
    assert.is(await grpcUnwrap(server.address, await grpcWrap(server.address, ["alice"])), OPTSDATA, "a key locked later");
    assert.is(await grpcUnwrap(server.address, bob), OPTSDATA);
    succeed(["remove", "bob", "--force", "--keystore", store]);
    await refused(grpcUnwrap(server.address, bob), status.NOT_FOUND);
    const removed = join(store, "removed");
    for (const file of readdirSync(removed)) renameSync(join(removed, file), join(store, "private", file));
    assert.is(await grpcUnwrap(server.address, bob), OPTSDATA);
    assert.is(await server.stop(), 0);
  }
});

test("a locked key is unlocked once, a symmetric one that wraps too, however many ask for it at the same time", async () => {
  const store = makeStore("sym:--type oct");
  const secret = join(temporaryFolder(), "secret");
  const pass = ["--passphrase-file", secret];
  writeFileSync(secret, "x".repeat(32), { mode: 0o600 });
  succeed(["lock", ...pass, "--keystore", store]);
  const server = await startServer(store, { args: pass });
  const took = async (work: () => unknown): Promise<number> => {
    const started = performance.now();
    await work();
    return performance.now() - started;
  };
  const once = await took(() => succeed([...pass, "--keystore", store], { input: wrapRequest(["sym"]) }));
  const wraps = await took(async () => {
    for (let count = 0; count < 8; count++) await grpcWrap(server.address, ["sym"]);
  });
  assert.ok(wraps < 3 * once, `8 wraps took ${wraps} ms, one unlocking ${once} ms`);
  succeed(["rotate", "sym", ...pass, "--keystore", store]);
  const crowd = await took(async () => await Promise.all(Array.from({ length: 16 }, async () => await grpcWrap(server.address, ["sym"]))));
  assert.ok(crowd < 3 * once, `16 at the same time took ${crowd} ms, one unlocking ${once} ms`);
  await server.stop();
});

test("it does not start where no locked key opens, and says which does not where another does", async () => {
  const store = makeStore("alice", "bob");
  const secret = join(temporaryFolder(), "secret");
  writeFileSync(secret, "right\n", { mode: 0o600 });
  succeed(["lock", "--passphrase-file", secret, "--keystore", store]);
  const listen = ["serve", "--keystore", store, "--listen", `unix:${join(temporaryFolder(), "s")}`];
  writeFileSync(secret, "wrong\n");
  assert.match(assertFailure(run([...listen, "--passphrase-file", secret]), 3), /does not open: wrong passphrase/);
  writeFileSync(secret, "right\n");
  writeFileSync(join(store, "private", `${kidOf(store, "bob")}.jwe`), "{}", { mode: 0o600 });
  const annotation = wrap(makeStore("x"), ["x"]);
  const server = await startServer(store, { args: ["--passphrase-file", secret] });
  assert.match(server.log(), new RegExp(`^ocicrypt-keystore: locked key .*${kidOf(store, "bob")}\\.jwe`, "m"));
  await refused(grpcUnwrap(server.address, annotation), status.FAILED_PRECONDITION);
  assert.is(await grpcUnwrap(server.address, await grpcWrap(server.address, ["alice"])), OPTSDATA);
  await server.stop();
});

test("the log has a line for each request, and nothing of what was in it", async () => {
  const store = makeStore("alice");
  const server = await startServer(store);
  const annotation = await grpcWrap(server.address, ["alice"]);
  await grpcUnwrap(server.address, annotation);
  await refused(callRaw(server.address, "WrapKey", encodeMessage(recorded("wrap-skopeo-two"))), status.NOT_FOUND);
  const secretive = JSON.stringify({ op: "keywrap", keywrapparams: { ec: { Parameters: { keystore: ["c2VjcmV0LW5hbWU="], privkeys: ["UFJJVkFURQ=="] } }, optsdata: "VE9QLVNFQ1JFVA==" } });
  await refused(callRaw(server.address, "WrapKey", encodeMessage(secretive)), status.NOT_FOUND);
  await server.stop();
  const kid = kidOf(store, "alice");
  const [listening, ...lines] = server.log().trimEnd().split("\n");
  assert.match(listening ?? "", /^listening on unix:\/\/\//);
  assert.equal(lines.map((line) => line.replace(/\d+\.\d ms/, "N ms")), [`keywrap keystore ${kid} ok N ms`, `keyunwrap - ${kid} ok N ms`, `keywrap keystore ${kid} recipient N ms`, "keywrap keystore - recipient N ms"]);
  assert.not.match(server.log(), /secret-name|c2VjcmV0|PRIVATE|UFJJVk|TOP-SECRET|VE9QL|symkey|ciphertext/);
});

test("no name that a client gives itself can look like another word or line of the log, or fill it", async () => {
  const server = await startServer(makeStore("alice"));
  for (const name of ["keystore KID ok 0.1 ms", "a\u009b2J\u202eb", "x".repeat(100_000)]) await callRaw(server.address, "WrapKey", encodeMessage(wrapRequest(["alice"], name)));
  await server.stop();
  assert.equal(server.log().match(/(?<=^keywrap )\S+(?= \S{43} ok \d+\.\d ms$)/gm), ["keystore\\u0020KID\\u0020ok\\u00200.1\\u0020ms", "a\\u009b2J\\u202eb", `${"x".repeat(63)}…`]);
});

test("a log that nobody reads neither stalls the answers nor piles up", async () => {
  const store = makeStore("alice");
  const server = await startServer(store);
  server.child.stderr?.pause();
  const name = "x".repeat(64);
  const count = 5000;
  const client = new Client(server.address, credentials.createInsecure());
  const { path, requestSerialize, responseDeserialize } = SERVICE.WrapKey;
  const message = encodeMessage(wrapRequest(["nobody"], name));
  for (let left = count; left > 0; left -= 50) {
    await Promise.all(Array.from({ length: 50 }, async () => await new Promise<void>((done) => client.makeUnaryRequest(path, requestSerialize, responseDeserialize, message, () => done()))));
  }
  client.close();
  server.child.stderr?.resume();
  for (let length = -1; length < server.log().length; await sleep(300)) length = server.log().length;
  await server.stop();
  const lines = server.log().match(new RegExp(`^keywrap ${name} - recipient \\d+\\.\\d ms$`, "gm"))?.length ?? 0;
  assert.ok(lines > 500 && lines < count - 100, `${lines} lines`);
  assert.is(server.log().trimEnd().split("\n").length, lines + 1, "a line that is torn");
});

test("a request for more recipients than an annotation holds is refused before any is looked up", async () => {
  const store = makeStore("alice");
  const server = await startServer(store);
  assert.match(await refused(grpcWrap(server.address, [Array.from({ length: 200 }, (_, index) => `nobody${index}`).join(":")]), status.INVALID_ARGUMENT), /more than 64 recipients/);
  await server.stop();
});

test("a store that is not there is said at start", () => {
  const dir = temporaryFolder();
  assert.match(assertFailure(run(["serve", "--keystore", join(dir, "none"), "--listen", `unix:${dir}/s`]), 1), /no key store at .*; make one/);
});

test.run();
