// What clients, the disk and the administrator may do to a server: it goes on answering the others, and ends when it is told to.

import { spawn } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { connect as connectHttp2, type ClientHttp2Session, type ClientHttp2Stream } from "node:http2";
import { connect, type Socket } from "node:net";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import { credentials, status } from "@grpc/grpc-js";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { encodeMessage, MAX_MESSAGE } from "../../src/serve/service.ts";
import { makeAuthority, openssl } from "../support/certificates.ts";
import { temporaryFolder } from "../support/folders.ts";
import { endurance, testWith } from "../support/parts.ts";
import { ROOT, succeed } from "../support/program.ts";
import { OPTSDATA, recorded, unwrapRequest, wrap, wrapRequest } from "../support/requests.ts";
import { callRaw, grpcUnwrap, grpcWrap, refused, startServer, type TestServer } from "../support/server.ts";
import { makeStore } from "../support/stores.ts";

const FULL = process.env["ENDURANCE"] !== undefined; // what takes a minute of waiting
const store = makeStore("alice");
const annotation = wrap(store, ["alice"]);

async function works(server: TestServer): Promise<void> {
  assert.is(await grpcUnwrap(server.address, annotation), OPTSDATA);
}

function open(server: TestServer): Socket {
  return connect(server.address.replace("unix://", "")).on("error", () => undefined);
}

/** A call made by hand: the headers, and whatever of the message is written to it. */
function handmade(
  server: TestServer,
  headers: Readonly<Record<string, string>> = {},
): { session: ClientHttp2Session; stream: ClientHttp2Stream } {
  const session = connectHttp2("http://localhost", { createConnection: () => open(server) }).on(
    "error",
    () => undefined,
  );
  return { session, stream: streamOf(session, headers) };
}

function streamOf(session: ClientHttp2Session, headers: Readonly<Record<string, string>> = {}): ClientHttp2Stream {
  const stream = session.request({
    ":method": "POST",
    ":path": "/keyprovider.KeyProviderService/UnWrapKey",
    "content-type": "application/grpc",
    te: "trailers",
    ...headers,
  });
  return stream.on("error", () => undefined);
}

/** In MiB. */
function residentMemory({ child }: TestServer): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${child.pid}/status`, "utf8"))?.[1]) / 1024;
}

/** A gRPC message with its five bytes in front: whether it is compressed, and how long it says it is. */
function framed(message: Buffer, { compressed = false, length = message.length } = {}): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt8(compressed ? 1 : 0, 0);
  head.writeUInt32BE(length, 1);
  return Buffer.concat([head, message]);
}

async function statusOf(stream: ClientHttp2Stream): Promise<number> {
  stream.resume();
  return await new Promise((resolve) => {
    for (const event of ["response", "trailers"])
      stream.on(
        event,
        (headers: Record<string, string>) =>
          headers["grpc-status"] !== undefined && resolve(Number(headers["grpc-status"])),
      );
    stream.on("close", () => resolve(-1));
  });
}

test("clients that hang in the middle of anything do not keep the others waiting", async () => {
  const server = await startServer(store);
  const hanging = [];
  for (let count = 0; count < 64; count++) {
    open(server); // says nothing
    open(server).write("PRI * HTTP/2.0\r\n\r\n"); // half a preface
    const { session, stream } = handmade(server);
    stream.write(framed(encodeMessage(unwrapRequest(annotation)), { length: MAX_MESSAGE }).subarray(0, 1000));
    hanging.push(session);
    handmade(server).stream.write(Buffer.from([0, 0])); // two of the five bytes
  }
  await works(server);
  for (const session of hanging) session.destroy();
  await works(server);
  assert.is(await server.stop("SIGKILL"), null);
});

test("10,000 connections that are opened and dropped leave it as it was", async () => {
  const server = await startServer(store);
  for (let left = endurance(10_000); left > 0; left -= 50) {
    const sockets = Array.from({ length: 50 }, () => open(server));
    await Promise.all(
      sockets.map(
        async (socket) => await new Promise<void>((done) => socket.once("connect", done).once("close", done)),
      ),
    );
    for (const [index, socket] of sockets.entries()) {
      if (index % 2 === 0) socket.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
      socket.destroy();
    }
  }
  await works(server);
  assert.is(await server.stop(), 0);
});

test("messages that are too large, or claim to be, or become it, are refused as they come in", async () => {
  const server = await startServer(store);
  const details = await refused(
    callRaw(server.address, "UnWrapKey", encodeMessage("x".repeat(100 * 1024 * 1024))),
    status.RESOURCE_EXHAUSTED,
  );
  assert.match(details, /larger than max/);
  const claim = handmade(server);
  claim.stream.write(framed(Buffer.alloc(10), { length: 0xffff_ffff }));
  assert.is(await statusOf(claim.stream), status.RESOURCE_EXHAUSTED);
  const bomb = handmade(server, { "grpc-encoding": "gzip" });
  bomb.stream.end(framed(gzipSync(Buffer.alloc(200 * 1024 * 1024)), { compressed: true }));
  assert.is(await statusOf(bomb.stream), status.UNIMPLEMENTED);
  for (const { session } of [claim, bomb]) session.destroy();
  await works(server);
  assert.is(await server.stop(), 0);
});

test("a crowd of streams that hang, or hide megabytes in a few bytes, does not fill the memory", async () => {
  const server = await startServer(store);
  await works(server);
  const before = residentMemory(server);
  const bomb = framed(gzipSync(Buffer.alloc(MAX_MESSAGE)), { compressed: true });
  const sessions = [];
  for (let round = 0; round < 2; round++) {
    const { session, stream: first } = handmade(server);
    const bombs = Array.from({ length: 100 }, () => streamOf(session, { "grpc-encoding": "gzip" }));
    for (const stream of bombs) stream.write(Buffer.concat([bomb, bomb, bomb]));
    assert.is(await statusOf(bombs.at(-1) ?? first), status.UNIMPLEMENTED);
    sessions.push(session);
  }
  assert.ok(residentMemory(server) - before < 200, `bombs: ${residentMemory(server) - before} MiB`);
  const hanging = [];
  for (let round = 0; round < 4; round++) {
    const { session, stream } = handmade(server);
    hanging.push(stream, ...Array.from({ length: 99 }, () => streamOf(session)));
    sessions.push(session);
  }
  const ends = hanging.map(async (stream) => await statusOf(stream));
  for (const stream of hanging) stream.write(framed(Buffer.alloc(1000), { length: MAX_MESSAGE }));
  assert.is(await ends[0], status.RESOURCE_EXHAUSTED);
  await works(server);
  for (const session of sessions) session.destroy();
  await works(server);
  assert.is(await server.stop(), 0);
});

test("bytes that are no HTTP/2, unknown methods, odd headers and broken frames are survived", async () => {
  const server = await startServer(store);
  for (const bytes of [
    "GET / HTTP/1.1\r\n\r\n",
    "\x16\x03\x01",
    `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n${"\xff".repeat(100)}`,
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x0a\x03\0\0\0\0\0\0\0\0\0\0",
  ]) {
    open(server).end(Buffer.from(bytes, "latin1"));
  }
  const unknown = handmade(server, { ":path": "/keyprovider.KeyProviderService/Steal" });
  unknown.stream.end(framed(Buffer.alloc(0)));
  assert.is(await statusOf(unknown.stream), status.UNIMPLEMENTED);
  for (const headers of [
    { "grpc-timeout": "never" },
    { "grpc-encoding": "rot13" },
    { ":method": "GET" },
    { "content-type": "text/plain" },
    { ":path": "/" },
    { "x-bin": "%%%" },
  ]) {
    const { session, stream } = handmade(server, headers);
    stream.end(framed(encodeMessage(unwrapRequest(annotation)), { compressed: "grpc-encoding" in headers }));
    await statusOf(stream);
    session.destroy();
  }
  const twice = handmade(server);
  const message = framed(encodeMessage(unwrapRequest(annotation)));
  twice.stream.end(Buffer.concat(Array<Buffer>(200).fill(message))); // a unary call with 200 messages
  await statusOf(twice.stream);
  for (const { session } of [unknown, twice]) session.destroy();
  await works(server);
  assert.is(await server.stop(), 0);
});

test("an annotation that costs hundreds of private operations keeps the others waiting for one of them at most", async () => {
  const keys = makeStore("alice", ...Array.from({ length: 12 }, (_, index) => `rsa${index}:--type rsa --bits 2048`));
  const server = await startServer(keys);
  const one = JSON.parse((await grpcWrap(server.address, ["rsa0"])).toString()) as {
    recipients: { header: { kid?: string }; encrypted_key: string }[];
  };
  const [recipient] = one.recipients;
  one.recipients = Array.from({ length: 32 }, (_, index) => ({
    ...recipient,
    header: { ...recipient?.header, kid: `unknown${index}` },
    encrypted_key: Buffer.alloc(256, index + 1).toString("base64url"),
  }));
  const alices = await grpcWrap(server.address, ["alice"]);
  const costly = refused(
    callRaw(server.address, "UnWrapKey", encodeMessage(unwrapRequest(JSON.stringify(one)))),
    status.NOT_FOUND,
  );
  const next = async (): Promise<boolean> =>
    await Promise.race([
      grpcUnwrap(server.address, alices).then((opened) => opened === OPTSDATA),
      costly.then(() => false),
    ]);
  let meanwhile = 0;
  while (await next()) meanwhile++;
  assert.ok(meanwhile >= 10, `only ${meanwhile} others were answered meanwhile`);
  await server.stop();
});

test("a client killed in the middle of its requests, and then the server: both come back", async () => {
  const listen = `unix:${join(temporaryFolder(), "socket")}`;
  let server = await startServer(store, { listen });
  const client = `import { callRaw } from ${JSON.stringify(join(ROOT, "test/support/server.ts"))}; import { encodeMessage } from ${JSON.stringify(join(ROOT, "src/serve/service.ts"))};
    for (;;) await Promise.all(Array.from({ length: 8 }, () => callRaw(process.argv[1], "UnWrapKey", encodeMessage(process.argv[2]))));`;
  for (let rounds = endurance(50); rounds > 0; rounds--) {
    const child = spawn(
      process.execPath,
      ["--input-type=module", "-e", client, server.address, unwrapRequest(annotation)],
      { cwd: ROOT, stdio: "ignore" },
    );
    while (!/keyunwrap/.test(server.log())) await sleep(20);
    await sleep(Math.random() * 50);
    if (rounds % 2 === 0) {
      child.kill("SIGKILL");
      await works(server);
    }
    await server.stop("SIGKILL");
    child.kill("SIGKILL");
    server = await startServer(store, { listen });
    await works(server);
  }
  assert.is(await server.stop(), 0);
});

testWith(openssl, "openssl", "clients whose TLS connection breaks in the middle of their requests", async () => {
  const authority = makeAuthority();
  const [serverPair, clientPair] = [authority.issue("server"), authority.issue("client")];
  const server = await startServer(store, {
    listen: "localhost:0",
    args: ["--tls-cert", serverPair.cert, "--tls-key", serverPair.key, "--tls-client-ca", authority.ca],
  });
  const [ca, key, cert] = [authority.ca, clientPair.key, clientPair.cert].map((path) => readFileSync(path));
  const message = framed(encodeMessage(unwrapRequest(annotation)));
  for (let count = 0; count < 120; count++) {
    const session = connectHttp2(`https://${server.address}`, { ca, key, cert }).on("error", () => undefined);
    for (let streams = 0; streams < 10; streams++) streamOf(session).end(message);
    session.once("connect", () => setTimeout(() => session.destroy(), Math.random() * 8));
    if (count % 4 === 3) await sleep(20);
  }
  await sleep(300);
  assert.is(await grpcUnwrap(server.address, annotation, credentials.createSsl(ca, key, cert)), OPTSDATA, server.log());
  assert.is(await server.stop(), 0);
});

test("SIGTERM: what is under way is answered, then it ends with exit code 0, and idle clients do not hold it", async () => {
  const keys = makeStore("alice");
  const secret = join(temporaryFolder(), "secret");
  writeFileSync(secret, "passphrase\n", { mode: 0o600 });
  succeed(["lock", "--passphrase-file", secret, "--keystore", keys]);
  const server = await startServer(keys, { args: ["--passphrase-file", secret] });
  succeed(["rotate", "alice", "--passphrase-file", secret, "--keystore", keys]); // its new key is unlocked when it is first asked for: that takes a while
  const slow = await grpcWrap(server.address, ["alice"]);
  const idle = handmade(server);
  idle.stream.close();
  const answers = Promise.allSettled(Array.from({ length: 6 }, async () => await grpcUnwrap(server.address, slow)));
  await sleep(60);
  const started = performance.now();
  assert.is(await server.stop(), 0);
  assert.ok(performance.now() - started < 20_000, "idle clients held it");
  const settled = await answers;
  const answered = settled.filter((one) => one.status === "fulfilled").length;
  assert.is(answered, server.log().match(/^keyunwrap/gm)?.length ?? 0, "one was begun and not answered");
  assert.ok(answered > 0, "none was under way");
  idle.session.destroy();
});

test("SIGHUP does not end it, and what is under way is answered", async () => {
  const server = await startServer(store);
  const answers = Array.from({ length: 20 }, async () => await grpcUnwrap(server.address, annotation));
  for (let count = 0; count < 3; count++) {
    server.child.kill("SIGHUP");
    await works(server);
  }
  for (const answer of await Promise.all(answers)) assert.is(answer, OPTSDATA);
  assert.match(server.log(), /^SIGHUP: nothing to reload, .*; restart the server for new TLS files$/m);
  assert.is(await server.stop(), 0);
});

test("no text of an error ends it: half a character where the line is cut, control characters, other scripts", async () => {
  for (const shift of ["", "x"]) {
    const odd = join(temporaryFolder(), `${shift}${"\u0001".repeat(160)}`, "\u0001".repeat(160), "😀".repeat(60));
    mkdirSync(dirname(odd), { recursive: true });
    cpSync(store, odd, { recursive: true });
    const server = await startServer(odd);
    const details = await refused(grpcWrap(server.address, ["bob"]), status.NOT_FOUND);
    assert.ok([2047, 2048].includes(details.length), "cut, and between two characters");
    assert.match(details, /😀.?…$/u);
    for (const name of ["\u0000\u001b[2J\n", "é".repeat(100), "キー", "😀".repeat(2000), `a${"😀".repeat(2000)}`])
      await refused(grpcWrap(server.address, [name]), status.NOT_FOUND);
    for (const text of [
      '{"op":"\\ud800"}',
      '{"op":"keywrap","keywrapparams":{"ec":{"Parameters":{"\\ud800":[],"\\udfff":[]}},"optsdata":"AAAA"}}',
      '"\\ud800',
    ]) {
      await refused(callRaw(server.address, "WrapKey", encodeMessage(text)), status.INVALID_ARGUMENT);
    }
    for (const header of [
      { alg: "\ud800" },
      { alg: "ECDH-ES+A256KW", kid: "\ud83d".repeat(64) },
      { alg: `${"x".repeat(31)}😀` },
    ]) {
      const jwe = JSON.stringify({
        ...(JSON.parse(annotation.toString()) as object),
        recipients: [{ header, encrypted_key: "AAAA" }],
      });
      await refused(callRaw(server.address, "UnWrapKey", encodeMessage(unwrapRequest(jwe))), status.NOT_FOUND);
    }
    await works(server);
    assert.is(await server.stop(), 0);
  }
});

if (FULL) {
  test("a message that does not come to its end is given up after a minute; on SIGTERM it is not waited for longer than 30 s", async () => {
    const server = await startServer(store);
    const { session, stream } = handmade(server);
    stream.write(framed(Buffer.alloc(10), { length: 1000 }));
    const started = performance.now();
    assert.is(await statusOf(stream), status.DEADLINE_EXCEEDED);
    assert.ok(performance.now() - started > 55_000 && performance.now() - started < 90_000);
    session.destroy();

    const another = handmade(server);
    another.stream.write(framed(Buffer.alloc(10), { length: 1000 }));
    await works(server);
    const told = performance.now();
    assert.is(await server.stop(), 0);
    assert.ok(performance.now() - told > 25_000 && performance.now() - told < 40_000, `${performance.now() - told} ms`);
  });
}

test("recorded requests of real clients are read", async () => {
  const server = await startServer(makeStore("alice", "bob"));
  for (const name of ["wrap-skopeo-one", "wrap-skopeo-two", "wrap-skopeo-empty", "wrap-skopeo-novalue"]) {
    assert.ok(
      (await callRaw(server.address, "WrapKey", encodeMessage(recorded(name)))).includes("keywrapresults"),
      name,
    );
  }
  assert.ok(
    (await callRaw(server.address, "WrapKey", encodeMessage(wrapRequest(["alice", "bob"])))).includes("keywrapresults"),
  );
  await server.stop();
});

test.run();
