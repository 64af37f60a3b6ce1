// A registry's HTTP, or that of whoever is on the way to it: inspect and rewrap end in time, with their result or with one line.

import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { errorLine } from "../../../src/errors.ts";
import { openRegistry } from "../../../src/image/source/registry.ts";
import { encryptedLayer } from "../../support/encrypted-images.ts";
import { BROKEN, type Behaviour, SLOW, UNASKED_GZIP, WHOLE, honest } from "../../support/http.ts";
import { endurance } from "../../support/parts.ts";
import { assertFailure, type Result, runBeside } from "../../support/program.ts";
import { makeStore } from "../../support/stores.ts";

const store = makeStore("alice", "bob");
const manifest = Buffer.from(`{"layers":[${encryptedLayer(store, ["alice"])}]}`);
const TLS_HANDSHAKE = 0x16;
const CREATED = "HTTP/1.1 201 Created\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/** A registry that answers GET and PUT as it is told; `written` counts the PUTs that were taken. */
async function registry(
  onGet: Behaviour,
  onPut: Behaviour = (socket) => void socket.end(CREATED),
): Promise<{ host: string; written: () => number }> {
  let written = 0;
  const server = createServer((socket: Socket) => {
    socket.on("error", () => undefined);
    let asked = "";
    socket.on("data", (bytes: Buffer) => {
      if (bytes[0] === TLS_HANDSHAKE) socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"); // as servers do
      asked += bytes.toString("latin1");
      const end = asked.indexOf("\r\n\r\n");
      const length = Number(/^content-length: (\d+)/im.exec(asked)?.[1] ?? 0);
      if (end === -1 || asked.length < end + 4 + length) return;
      const put = asked.startsWith("PUT");
      asked = "";
      if (put) written++;
      (put ? onPut : onGet)(socket, manifest);
    });
  });
  server.listen(0, "127.0.0.1").unref();
  await once(server, "listening");
  return { host: `127.0.0.1:${(server.address() as AddressInfo).port}`, written: () => written };
}

const on =
  (command: string, ...options: readonly string[]) =>
  async (host: string): Promise<Result> =>
    await runBeside([command, `docker://${host}/app`, ...options, "--tls-verify=false", "--keystore", store], {
      timeout: 60_000,
    });
const [inspect, rewrap] = [on("inspect"), on("rewrap", "--to", "bob")];

/** A sample, or all of them in a full run. */
function sample<T>(behaviours: Readonly<Record<string, T>>, every: number): (readonly [string, T])[] {
  return Object.entries(behaviours).filter(
    ([name], at) => endurance(100) === 100 || at % every === 0 || name === "101 with an upgrade",
  );
}

for (const [name, behave] of [...sample(WHOLE, 2), ["gzip that nobody asked for", UNASKED_GZIP] as const]) {
  test(`reads an image from an answer with ${name}`, async () => {
    const { host } = await registry(behave);
    const { code, stdout, stderr } = await inspect(host);
    assert.is(code, 0, stderr);
    assert.match(stdout, createHash("sha256").update(manifest).digest("hex"));
  });
}

for (const [name, behave] of sample(BROKEN, 5)) {
  test(`refuses at once what is no answer: ${name}`, async () => {
    const { host, written } = await registry(behave);
    const started = Date.now();
    for (const command of [inspect, rewrap]) assertFailure(await command(host), 1);
    assert.ok(Date.now() - started < 10_000);
    assert.is(written(), 0);
  });
}

test("doctor reaches a registry as inspect does", async () => {
  const { host } = await registry((socket, body) => void socket.end(honest(body)));
  const { stdout, stderr } = await on("doctor")(host);
  assert.match(stdout, `the key of docker://${host}/app is here`, stderr);
});

const WRITES = { ...BROKEN, ...WHOLE }; // 200 to a PUT is no success either
for (const [name, behave] of sample(WRITES, 9)) {
  test(`says that a manifest was not taken: ${name}`, async () => {
    const { host } = await registry((socket, body) => void socket.end(honest(body)), behave);
    const started = Date.now();
    assertFailure(await rewrap(host), 1);
    assert.ok(Date.now() - started < 10_000);
  });
}

test("says that a proxy refuses, and shows no password", async () => {
  const refuse = (status: number): Server => {
    const answer = `HTTP/1.1 ${status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`;
    const server = createServer(
      (socket) => void socket.once("data", () => socket.end(answer)).on("error", () => undefined),
    );
    return server.listen(0, "127.0.0.1").unref();
  };
  const former = process.env;
  for (const [status, tlsVerify, hint] of [
    [407, true, /user and a password that it takes: http:\/\/USER:PASSWORD@127/],
    [407, false, /user and a password that it takes: http:\/\/USER:PASSWORD@127/],
    [403, true, /add the host to NO_PROXY/],
  ] as const) {
    const server = refuse(status);
    await once(server, "listening");
    const proxy = `http://us:secret@127.0.0.1:${(server.address() as AddressInfo).port}`;
    process.env = { HOME: "/nonexistent", HTTPS_PROXY: tlsVerify ? proxy : "http://127.0.0.1:1", HTTP_PROXY: proxy };
    const failed = openRegistry("registry.test/a", { tlsVerify, certDir: undefined, change: false });
    const line = await failed.then(() => "opened", errorLine);
    assert.match(line, new RegExp(`the proxy 127\\S+ refuses the connection \\(HTTP ${status}\\)`));
    assert.match(line, hint);
    assert.not.match(line, "secret");
  }
  process.env = former;
});

if (endurance(100) === 100) {
  test("gives up on whatever never comes to an end", async () => {
    const slow = Object.values(SLOW).flatMap((behave) => [
      registry(behave),
      registry((socket, body) => void socket.end(honest(body)), behave),
    ]);
    await Promise.all(
      slow.map(async (starting, at) => {
        const { host } = await starting;
        const started = Date.now();
        assertFailure(await (at % 2 === 0 ? inspect : rewrap)(host), 1);
        assert.ok(Date.now() - started < 40_000);
      }),
    );
  });
}

test.run();
