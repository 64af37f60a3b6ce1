// Where serve may listen: what is refused with its reason, and how it takes a unix socket.

import { spawnSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import {
  chmodSync,
  existsSync,
  lstatSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { networkInterfaces } from "node:os";
import { dirname, join } from "node:path";
import { credentials } from "@grpc/grpc-js";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { makeAuthority, openssl } from "../support/certificates.ts";
import { temporaryFolder } from "../support/folders.ts";
import { mountNamespace, testWith } from "../support/parts.ts";
import { assertFailure, run, succeed } from "../support/program.ts";
import { OPTSDATA } from "../support/requests.ts";
import { grpcUnwrap, grpcWrap, startServer } from "../support/server.ts";
import { makeStore } from "../support/stores.ts";

const store = makeStore("alice");
const refuse = (listen: string, ...args: readonly string[]): string =>
  assertFailure(run(["serve", "--keystore", store, "--listen", listen, ...args]), 2);

test("TCP without mutual TLS is for loopback alone", () => {
  for (const listen of [
    "0.0.0.0:50051",
    "[::]:50051",
    "10.1.2.3:50051",
    "[2001:db8::1]:50051",
    "[::ffff:10.1.2.3]:1",
    "1.1.1.1:443",
  ]) {
    assert.match(
      refuse(listen),
      /other machines can reach it there: add --tls-cert, --tls-key and --tls-client-ca, or listen on localhost/,
      listen,
    );
  }
  assert.match(refuse(":50051"), /without a host it would be every interface/);
  assert.match(refuse("no-such-host.invalid:50051"), /this host name cannot be resolved/);
});

test("TLS without a client CA, on a unix socket, or with files that do not fit is refused", () => {
  const dir = temporaryFolder();
  for (const file of ["cert", "key", "ca"]) writeFileSync(join(dir, file), "no PEM", { mode: 0o600 });
  const [cert, key, ca] = [
    ["--tls-cert", join(dir, "cert")],
    ["--tls-key", join(dir, "key")],
    ["--tls-client-ca", join(dir, "ca")],
  ] as const;
  for (const some of [[...cert, ...key], [...cert, ...ca], [...ca], [...key, ...ca]])
    assert.match(refuse("0.0.0.0:1", ...some), /--tls-cert, --tls-key and --tls-client-ca must be given together/);
  assert.match(refuse(`unix:${dir}/s`, ...cert, ...key, ...ca), /TLS is not for a unix socket/);
  assert.match(refuse("0.0.0.0:0", ...cert, ...key, ...ca), /the TLS certificate, key and client CA cannot be used: /);
  assert.match(
    assertFailure(
      run([
        "serve",
        "--keystore",
        store,
        "--listen",
        "0.0.0.0:0",
        ...cert,
        ...key,
        "--tls-client-ca",
        join(dir, "none"),
      ]),
      1,
    ),
    /there is no file/,
  );
  chmodSync(join(dir, "key"), 0o644);
  assert.match(
    assertFailure(run(["serve", "--keystore", store, "--listen", "0.0.0.0:0", ...cert, ...key, ...ca]), 1),
    /TLS key .* can be read by others/,
  );
});

test("an address that is none is refused", () => {
  for (const listen of [
    "50051",
    "localhost",
    "localhost:",
    "localhost:x",
    "localhost:65536",
    "unix:",
    "http://localhost:1",
    "::1:50051",
    "[::1]",
    "a b:1",
    "dns:localhost:1",
  ]) {
    assert.match(refuse(listen), /cannot listen on /, listen);
  }
  assert.match(refuse(`unix:/${"x".repeat(107)}`), /at most 107 bytes/);
  for (const mode of ["600x", "0999", "7777", "u=rw", ""]) refuse(`unix:${temporaryFolder()}/s`, "--socket-mode", mode);
  assert.match(refuse("localhost:0", "--socket-mode", "0600"), /--socket-mode is for a unix socket/);
  assertFailure(run(["serve", "--keystore", store]), 2);
  assert.match(
    assertFailure(run(["serve", "--keystore", store, "--listen", `unix:${temporaryFolder()}/none/s`]), 1),
    /none.* failed: ENOENT|cannot listen/,
  );
});

test("a port that is taken is said", async () => {
  const taken = createServer();
  const port = await new Promise<number>((resolve) =>
    taken.listen(0, "127.0.0.1", () => resolve((taken.address() as { port: number }).port)),
  );
  assert.match(
    assertFailure(run(["serve", "--keystore", store, "--listen", `127.0.0.1:${port}`]), 1),
    /cannot listen on 127\.0\.0\.1:\d+: EADDRINUSE/,
  );
  taken.close();
});

const hosts = join(temporaryFolder(), "hosts");
writeFileSync(hosts, "127.0.0.1 localhost\n::1 localhost\n");
const unshare = Object.values(networkInterfaces())
  .flat()
  .some((one) => one?.address === "::1")
  ? mountNamespace()
  : undefined;

testWith(
  unshare,
  "root, or mount namespaces, and IPv6",
  "of localhost's addresses each is bound, or none: another user's program must not get what clients send there",
  async (args) => {
    const prefix = ["unshare", ...args, "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', hosts];
    const options = { prefix, env: { PATH: process.env["PATH"] } };
    const server = await startServer(store, { listen: "localhost:0", ...options });
    for (const host of ["127.0.0.1", "[::1]"]) await grpcWrap(server.address.replace("localhost", host), ["alice"]);
    await server.stop();
    for (const host of ["127.0.0.1", "::1"]) {
      const squatter = createServer();
      const port = await new Promise<number>((resolve) =>
        squatter.listen(0, host, () => resolve((squatter.address() as { port: number }).port)),
      );
      const outcome = await startServer(store, { listen: `localhost:${port}`, ...options }).then(
        async (started) => `it served, and ended with ${await started.stop()}`,
        String,
      );
      squatter.close();
      assert.match(outcome, /cannot listen on (127\.0\.0\.1|\[::1\]):\d+: EADDRINUSE/);
    }
  },
);

test("a unix socket is its owner's, or has the mode that was asked for, and goes when the server ends", async () => {
  for (const [args, mode] of [
    [[], 0o600],
    [["--socket-mode", "0660"], 0o660],
    [["--socket-mode", "666"], 0o666],
  ] as const) {
    const path = join(temporaryFolder(), "socket");
    const server = await startServer(store, { listen: `unix://${path}`, args });
    assert.is(server.address, `unix://${path}`);
    assert.is(statSync(path).mode & 0o7777, mode);
    assert.is(await server.stop("SIGINT"), 0);
    assert.not(existsSync(path));
    assert.not(existsSync(`${path}.lock`));
  }
});

test("a socket that a killed server left is replaced; a live one, a file, a link to a file is not", async () => {
  const path = join(temporaryFolder(), "socket");
  const first = await startServer(store, { listen: `unix:${path}` });
  assert.match(refuse(`unix:${path}`), /another server listens there/);
  assert.is(await grpcUnwrap(first.address, await grpcWrap(first.address, ["alice"])), OPTSDATA);
  await first.stop("SIGKILL");
  assert.ok(lstatSync(path).isSocket());
  const second = await startServer(store, { listen: `unix:${path}` });
  assert.is(await grpcUnwrap(second.address, await grpcWrap(second.address, ["alice"])), OPTSDATA);
  await second.stop();

  const [file, link] = [join(temporaryFolder(), "file"), join(temporaryFolder(), "link")];
  writeFileSync(file, "mine");
  symlinkSync(file, link);
  for (const there of [file, link]) assert.match(refuse(`unix:${there}`), /it is not a socket/);
  assert.is(statSync(file).size, 4);
});

test("a server that ends leaves what has its socket's name by then: another server's socket, or a file", async () => {
  const path = join(temporaryFolder(), "socket");
  const first = await startServer(store, { listen: `unix:${path}` });
  assert.equal(readdirSync(dirname(path)), ["socket"]);
  rmSync(path);
  const second = await startServer(store, { listen: `unix:${path}` });
  assert.is(await first.stop(), 0);
  assert.is(await grpcUnwrap(second.address, await grpcWrap(second.address, ["alice"])), OPTSDATA);
  rmSync(path);
  writeFileSync(path, "mine");
  assert.is(await second.stop(), 0);
  assert.is(readFileSync(path, "utf8"), "mine");
  rmSync(path);
  const third = await startServer(store, { listen: `unix:${path}` });
  rmSync(dirname(path), { recursive: true });
  assert.is(await third.stop(), 0, "its folder is gone");
});

testWith(
  openssl,
  "openssl",
  "a client CA without a certificate, or with one that cannot be read, is refused",
  async () => {
    const dir = temporaryFolder();
    const authorities = makeAuthority();
    const { cert, key } = authorities.issue("server");
    const [authority, other] = [authorities.ca, authorities.issue("other").cert].map((file) =>
      readFileSync(file, "utf8"),
    ) as [string, string];
    const start = async (content: string): Promise<string> => {
      writeFileSync(join(dir, "ca"), content);
      const args = ["--tls-cert", cert, "--tls-key", key, "--tls-client-ca", join(dir, "ca")];
      return await startServer(store, { listen: "localhost:0", args }).then(
        async (server) => `ended with ${await server.stop()}`,
        String,
      );
    };
    const none = [
      "",
      "\n",
      "no PEM",
      readFileSync(key, "utf8"),
      Buffer.from(authority).toString("base64"),
      "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
    ];
    for (const content of none)
      assert.match(
        await start(content),
        /with 2: ocicrypt-keystore: the file of --tls-client-ca has no certificate in PEM; name the certificate/,
      );
    assert.match(await start(authority.replace(/^/gm, " ")), /has no certificate in PEM/); // TLS skips what is indented
    const damaged = [
      ["1", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"],
      ["1", authority.slice(0, 200)],
      ["1", authority.replace(/\n.{9}/, "\n!")],
      ["2", authority + other.slice(0, 200)],
      ["1", other.slice(0, 200) + authority],
    ] as const;
    for (const [place, content] of damaged)
      assert.match(
        await start(content),
        new RegExp(`with 2: ocicrypt-keystore: certificate ${place} in the file of --tls-client-ca is damaged; `),
      );
    for (const content of [
      authority,
      authority + other,
      `text\r\n${authority.replaceAll("\n", "\r\n")}`,
      readFileSync(key, "utf8") + authority,
    ])
      assert.is(await start(content), "ended with 0");
  },
);

testWith(
  openssl,
  "openssl",
  "a client is recorded with its common name, else with its certificate's whole fingerprint",
  async () => {
    const authority = makeAuthority();
    const server = authority.issue("server");
    const audit = join(temporaryFolder(), "audit");
    const started = await startServer(store, {
      listen: "localhost:0",
      args: ["--tls-cert", server.cert, "--tls-key", server.key, "--tls-client-ca", authority.ca, "--audit", audit],
    });
    const expected: string[] = [];
    for (const [index, subject] of [
      "/CN=node 7",
      "/O=nobody",
      "/",
      `/CN=${"x".repeat(64)}`,
      "/CN=first/CN=second",
    ].entries()) {
      const { cert, key } = authority.issue(`client${index}`, subject);
      await grpcWrap(
        started.address,
        ["alice"],
        credentials.createSsl(
          ...([authority.ca, key, cert].map((file) => readFileSync(file)) as [Buffer, Buffer, Buffer]),
        ),
      );
      expected.push(/CN=([^/]*)/.exec(subject)?.[1] ?? new X509Certificate(readFileSync(cert)).fingerprint256);
    }
    assert.is(await started.stop(), 0);
    assert.equal(
      readFileSync(audit, "utf8")
        .trimEnd()
        .split("\n")
        .map((line) => (JSON.parse(line) as { client: string }).client),
      expected,
    );
    assert.equal(started.log().match(/(?<=^keywrap .* ms ).*$/gm), expected);
  },
);

test("of several that are started at once for one socket, one serves and the others say why not", async () => {
  const path = join(temporaryFolder(), "socket");
  await (await startServer(store, { listen: `unix:${path}` })).stop("SIGKILL"); // a stale one to fight for
  const started = await Promise.allSettled(
    Array.from({ length: 4 }, async () => await startServer(store, { listen: `unix:${path}` })),
  );
  const live = started.filter((one) => one.status === "fulfilled");
  assert.is(live.length, 1);
  for (const one of started)
    if (one.status === "rejected") assert.match(String(one.reason), /another server listens there/);
  assert.is(
    await grpcUnwrap(live[0]?.value.address ?? "", await grpcWrap(live[0]?.value.address ?? "", ["alice"])),
    OPTSDATA,
  );
  await live[0]?.value.stop();
});

test("the lock of a server that ended is taken over; what is no file in its place is refused, and stays", async () => {
  const path = join(temporaryFolder(), "socket");
  const secret = join(temporaryFolder(), "secret");
  writeFileSync(secret, "c2VjcmV0");
  symlinkSync(secret, `${path}.lock`);
  const line = assertFailure(run(["serve", "--keystore", store, "--listen", `unix:${path}`]), 1);
  assert.match(line, /socket\.lock is in the way of the lock: it is not a regular file; move it away/);
  assert.ok(lstatSync(`${path}.lock`).isSymbolicLink());
  rmSync(`${path}.lock`);
  writeFileSync(`${path}.lock`, JSON.stringify({ pid: spawnSync("true").pid }));
  const server = await startServer(store, { listen: `unix:${path}` });
  assert.not(existsSync(`${path}.lock`));
  assert.is(await grpcUnwrap(server.address, await grpcWrap(server.address, ["alice"])), OPTSDATA);
  await server.stop();
});

test("--help says how", () => {
  assert.match(succeed(["serve", "--help"]), /unix:PATH or HOST:PORT/);
});

test.run();
