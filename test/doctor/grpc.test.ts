// doctor calls the gRPC servers that a configuration names, as a client would.

import { cpSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { makeAuthority, openssl } from "../support/certificates.ts";
import { assertCheck, configFile, examine, examineHere } from "../support/checks.ts";
import { temporaryFolder } from "../support/folders.ts";
import { testWith } from "../support/parts.ts";
import { startServer } from "../support/server.ts";
import { makeStore } from "../support/stores.ts";

const store = makeStore("alice");

test("doctor calls a server as a client would, and says what clients would get", async () => {
  const server = await startServer(store);
  const checks = (): ReturnType<typeof examine> =>
    examine(store, [], { OCICRYPT_KEYPROVIDER_CONFIG: configFile({ kv: { grpc: server.address } }) });
  const answered = checks();
  assertCheck(answered, "config.grpc", "ok", /^kv answers at unix:\/\//);
  assertCheck(answered, "config.provider", "ok", /^provider kv is the server at/);
  assert.is(await server.stop(), 0);
  assert.match(server.log(), /^keywrap kv .* ok [^]*^keyunwrap - .* ok /m);
  assertCheck(
    checks(),
    "config.grpc",
    "fail",
    /provider kv at unix:.*: no server answers there, or it does not accept this TLS: /,
  );
});

test("doctor takes a server that only wraps or only unwraps, and tells what another cannot", async () => {
  const empty = join(temporaryFolder(), "store");
  cpSync(store, empty, {
    recursive: true,
    filter: (path) => !/\/(private|names)\/./.test(path) && !path.endsWith("default"),
  });
  for (const [dir, args, status, message] of [
    [store, ["--allow", "wrap"], "ok", /answers/],
    [store, ["--allow", "unwrap"], "ok", /answers/],
    [empty, [], "fail", /it says: no (default|private) key/],
  ] as const) {
    const server = await startServer(dir, { args });
    assertCheck(
      await examineHere(store, [], { OCICRYPT_KEYPROVIDER_CONFIG: configFile({ kv: { grpc: server.address } }) }),
      "config.grpc",
      status,
      message,
    );
    await server.stop();
  }
});

testWith(openssl, "openssl", "doctor calls a server with the certificates of the configuration", async () => {
  const [authority, other] = [makeAuthority(), makeAuthority()];
  const [serverPair, clientPair] = [authority.issue("server"), authority.issue("client")];
  const server = await startServer(store, {
    listen: "localhost:0",
    args: ["--tls-cert", serverPair.cert, "--tls-key", serverPair.key, "--tls-client-ca", authority.ca],
  });
  const tls = { "root-ca-file": authority.ca, "cert-file": clientPair.cert, "key-file": clientPair.key };
  const asked = (grpcTls: object | undefined): ReturnType<typeof examineHere> =>
    examineHere(store, [], {
      OCICRYPT_KEYPROVIDER_CONFIG: configFile({ kv: { grpc: server.address, "grpc-tls": grpcTls } }),
    });
  assertCheck(await asked(tls), "config.grpc", "ok", /answers/);
  assertCheck(
    await asked({ ...tls, "insecure-skip-verify": true }),
    "config.grpc",
    "warn",
    /takes any server's certificate/,
  );
  assertCheck(
    await asked({ ...tls, "root-ca-file": other.ca }),
    "config.grpc",
    "fail",
    /no server answers there, or it does not accept this TLS/,
  );
  assertCheck(
    await asked({ "root-ca-file": authority.ca }),
    "config.grpc",
    "fail",
    /no server answers there, or it does not accept this TLS/,
  );
  assertCheck(
    await asked({ ...tls, "cert-file": "/none" }),
    "config.grpc",
    "fail",
    /cannot read cert-file \/none: ENOENT/,
  );
  assertCheck(await asked(undefined), "config.grpc", "fail", /no server answers there/);
  await server.stop();
});

test.run();
