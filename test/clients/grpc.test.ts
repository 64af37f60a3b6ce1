// Real clients of the server: skopeo, and ocicrypt's own Go code for what skopeo is too old for, TLS with a client certificate.

import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { credentials, status, type ServiceError } from "@grpc/grpc-js";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { makeAuthority, openssl } from "../support/certificates.ts";
import { temporaryFolder } from "../support/folders.ts";
import { findGoClient } from "../support/go-client.ts";
import { layerDigests, makeImage, manifestLayers } from "../support/images.ts";
import { testWith } from "../support/parts.ts";
import { succeed, type Result } from "../support/program.ts";
import { OPTSDATA, unwrap, wrap } from "../support/requests.ts";
import { grpcUnwrap, grpcWrap, startServer } from "../support/server.ts";
import { findSkopeo } from "../support/skopeo.ts";
import { kidOf, makeStore } from "../support/stores.ts";

const skopeo = findSkopeo({ download: false, say: () => {} });
const go = findGoClient();
const GO = "the Go client: run test/support/go-client.ts";

/** The file that `config` prints for an address. */
function configFile(address: string, ...args: readonly string[]): string {
  const path = join(temporaryFolder(), "ocicrypt.conf");
  writeFileSync(path, succeed(["config", "--provider", "keyvault", "--grpc", address, ...args]));
  return path;
}

for (const listen of [undefined, "localhost:0"]) {
  testWith(
    skopeo,
    "a skopeo with ocicrypt 1.1 or later: run test/support/skopeo.ts",
    `skopeo encrypts and decrypts through ${listen === undefined ? "a unix socket" : "localhost"}`,
    async ({ command }) => {
      const store = makeStore("alice");
      const server = await startServer(store, { ...(listen && { listen }) });
      const dir = temporaryFolder();
      makeImage(join(dir, "alpine"), { layers: 8 });
      const env = { OCICRYPT_KEYPROVIDER_CONFIG: configFile(server.address) };
      const copy = (...args: readonly string[]): Result => {
        const [file = "", ...words] = command;
        const {
          status: code,
          stdout,
          stderr,
        } = spawnSync(file, [...words, "copy", ...args], { cwd: dir, env, encoding: "utf8", timeout: 60_000 });
        return { code, stdout, stderr };
      };
      // Not spawned side by side with the server's own process: it is another one, and answers while this one waits.
      assert.is(copy("--encryption-key", "provider:keyvault:alice", "oci:alpine", "oci:encrypted").code, 0);
      assert.ok(manifestLayers(join(dir, "encrypted")).every(({ mediaType }) => mediaType.endsWith("+encrypted")));
      const decrypted = copy("--decryption-key", "provider:keyvault:extra-params", "oci:encrypted", "oci:decrypted");
      assert.is(decrypted.code, 0, decrypted.stderr);
      assert.equal(layerDigests(join(dir, "decrypted")), layerDigests(join(dir, "alpine")));
      assert.match(
        copy("--encryption-key", "provider:keyvault:bob", "oci:alpine", "oci:nobody").stderr,
        /desc = ocicrypt-keystore: unknown recipient \\"bob\\": no such name or kid in .*; see ocicrypt-keystore list/,
      );
      assert.is(await server.stop(), 0);
      assert.is(server.log().match(/^key(un)?wrap .* ok /gm)?.length, 16);
    },
  );
}

function runGo(
  client: string,
  config: string,
  args: readonly string[],
  input: string | Buffer,
): { code: number | null; stdout: Buffer; stderr: string } {
  const {
    status: code,
    stdout,
    stderr,
  } = spawnSync(client, args, { input, env: { OCICRYPT_KEYPROVIDER_CONFIG: config }, timeout: 60_000 });
  return { code, stdout, stderr: stderr.toString() };
}

testWith(
  go,
  GO,
  "the Go client of ocicrypt 1.3 wraps and unwraps through a unix socket and localhost",
  async (client) => {
    const store = makeStore("alice");
    for (const listen of [undefined, "127.0.0.1:0"]) {
      const server = await startServer(store, { ...(listen && { listen }) });
      const config = configFile(server.address);
      const wrapped = runGo(client, config, ["wrap", "keyvault", "alice"], OPTSDATA);
      assert.is(wrapped.code, 0, wrapped.stderr);
      assert.is(unwrap(store, wrapped.stdout), OPTSDATA);
      assert.is(runGo(client, config, ["unwrap", "keyvault"], wrap(store, ["alice"])).stdout.toString(), OPTSDATA);
      await server.stop();
      assert.match(runGo(client, config, ["unwrap", "keyvault"], wrapped.stdout).stderr, /Unavailable|connection/);
    }
  },
);

testWith(
  go && openssl,
  `${GO}, and openssl`,
  "the Go client with its certificate is answered over TLS; without, with another authority's, or without TLS it is refused",
  async () => {
    const store = makeStore("alice");
    const [ours, others] = [makeAuthority(), makeAuthority()];
    const [serverPair, clientPair, strangerPair] = [
      ours.issue("keystore-server"),
      ours.issue("node-17"),
      others.issue("stranger"),
    ];
    const audit = join(temporaryFolder(), "audit");
    const server = await startServer(store, {
      listen: "0.0.0.0:0",
      args: ["--tls-cert", serverPair.cert, "--tls-key", serverPair.key, "--tls-client-ca", ours.ca, "--audit", audit],
    });
    const address = server.address.replace("0.0.0.0", "localhost");
    const tls = (ca: string, { cert, key }: { cert: string; key: string }): string =>
      configFile(address, "--tls-ca", ca, "--tls-cert", cert, "--tls-key", key);
    const good = tls(ours.ca, clientPair);
    const wrapped = runGo(go ?? "", good, ["wrap", "keyvault", "alice"], OPTSDATA);
    assert.is(wrapped.code, 0, wrapped.stderr);
    assert.is(runGo(go ?? "", good, ["unwrap", "keyvault"], wrapped.stdout).stdout.toString(), OPTSDATA);

    const withoutCertificate = join(temporaryFolder(), "ocicrypt.conf");
    writeFileSync(
      withoutCertificate,
      JSON.stringify({ "key-providers": { keyvault: { grpc: address, "grpc-tls": { "root-ca-file": ours.ca } } } }),
    );
    for (const config of [
      withoutCertificate,
      tls(ours.ca, strangerPair),
      tls(others.ca, clientPair),
      configFile(address),
    ]) {
      const { code, stderr } = runGo(go ?? "", config, ["unwrap", "keyvault"], wrapped.stdout);
      assert.is(code, 1);
      assert.match(stderr, /code = Unavailable/);
    }
    await server.stop();
    assert.is(server.log().match(/^key/gm)?.length, 2, "nobody else got to a method");
    assert.match(server.log(), new RegExp(`^keyunwrap - ${kidOf(store, "alice")} ok \\d+\\.\\d ms node-17$`, "m"));
    assert.match(readFileSync(audit, "utf8"), /"client":"node-17"/);
  },
);

testWith(
  openssl,
  "openssl",
  "any gRPC client with its certificate is answered over TLS, and none without",
  async () => {
    const authority = makeAuthority();
    const [serverPair, clientPair] = [authority.issue("server"), authority.issue("client")];
    const server = await startServer(makeStore("alice"), {
      listen: "localhost:0",
      args: ["--tls-cert", serverPair.cert, "--tls-key", serverPair.key, "--tls-client-ca", authority.ca],
    });
    const ca = readFileSync(authority.ca);
    const channel = credentials.createSsl(ca, readFileSync(clientPair.key), readFileSync(clientPair.cert));
    assert.is(await grpcUnwrap(server.address, await grpcWrap(server.address, ["alice"], channel), channel), OPTSDATA);
    for (const without of [credentials.createSsl(ca), credentials.createInsecure()]) {
      const error: unknown = await grpcWrap(server.address, ["alice"], without).catch((reason: unknown) => reason);
      assert.is((error as ServiceError).code, status.UNAVAILABLE, String(error));
    }
    await server.stop();
  },
);

test.run();
