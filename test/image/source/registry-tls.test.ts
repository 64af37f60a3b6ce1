// Debian's docker-registry with TLS and with token authentication: certificates by openssl, tokens by a small server here.

import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { createPrivateKey, randomUUID, sign, X509Certificate } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer as createPlainServer } from "node:http";
import { createServer, get } from "node:https";
import type { Server as TcpServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { selfSigned } from "../../support/certificates.ts";
import { onlyPrivate, skopeo } from "../../support/encrypted-images.ts";
import { temporaryFolder } from "../../support/folders.ts";
import { layerDigests, makeImage } from "../../support/images.ts";
import { testWith } from "../../support/parts.ts";
import { assertFailure, BINARY, type Result } from "../../support/program.ts";
import { freePort } from "../../support/registry.ts";
import { kidOf, makeStore } from "../../support/stores.ts";

const tool =
  existsSync("/usr/bin/docker-registry") && spawnSync("openssl", ["version"]).status === 0 ? skopeo : undefined;
const NONE = "docker-registry, openssl and a skopeo that knows provider:";
const store = makeStore("alice", "bob:--type rsa --bits 2048");
const SERVICE = "test-service";
const [USER, PASSWORD] = ["user", "pass:word"];

const running: (ChildProcess | TcpServer)[] = [];
test.after(() => {
  for (const one of running) {
    if ("kill" in one) one.kill();
    else one.close();
  }
});

interface TokenServer {
  readonly realm: string;
  readonly scopes: string[];
}

/** Who knows the password gets what is asked for; anybody else may pull public/. */
async function startTokenServer({ cert, key }: { cert: string; key: string }): Promise<TokenServer> {
  const [certPem, keyPem] = [readFileSync(cert), readFileSync(key)];
  const scopes: string[] = [];
  const server = createServer({ cert: certPem, key: keyPem }, ({ url = "", headers }, response) => {
    const { searchParams } = new URL(url, "https://localhost");
    const [scope, service] = [searchParams.get("scope") ?? "", searchParams.get("service")];
    scopes.push(scope);
    const [type = "", name = "", actions = ""] = scope.split(":");
    const known = headers.authorization === `Basic ${Buffer.from(`${USER}:${PASSWORD}`).toString("base64")}`;
    if (headers.authorization !== undefined && !known) return response.writeHead(401).end();
    const granted = known ? actions.split(",") : name.startsWith("public/") ? ["pull"] : [];
    const now = Math.floor(Date.now() / 1000);
    const claims = {
      iss: "test-issuer",
      sub: "",
      aud: service,
      exp: now + 300,
      nbf: now - 10,
      iat: now,
      jti: randomUUID(),
      access: [{ type, name, actions: granted }],
    };
    const header = { typ: "JWT", alg: "RS256", x5c: [new X509Certificate(certPem).raw.toString("base64")] };
    const text = [header, claims].map((part) => Buffer.from(JSON.stringify(part)).toString("base64url")).join(".");
    return response.end(
      JSON.stringify({
        token: `${text}.${sign("sha256", Buffer.from(text), createPrivateKey(keyPem)).toString("base64url")}`,
      }),
    );
  }).listen(0, "127.0.0.1");
  running.push(server);
  await once(server, "listening");
  const address = server.address();
  return { realm: `https://localhost:${typeof address === "object" ? address?.port : 0}/token`, scopes };
}

/** A registry with TLS, and with the token server where there is one. */
async function startRegistry({ cert, key }: { cert: string; key: string }, tokens?: TokenServer): Promise<string> {
  const dir = temporaryFolder();
  const port = await freePort();
  mkdirSync(join(dir, "data"));
  const auth =
    tokens === undefined
      ? ""
      : `auth:\n  token:\n    realm: ${tokens.realm}\n    service: ${SERVICE}\n    issuer: test-issuer\n    rootcertbundle: ${cert}\n`;
  writeFileSync(
    join(dir, "config.yml"),
    `version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: ${dir}/data\nhttp:\n  addr: 127.0.0.1:${port}\n  tls:\n    certificate: ${cert}\n    key: ${key}\n${auth}`,
  );
  const server = spawn("docker-registry", ["serve", join(dir, "config.yml")], { stdio: ["ignore", "ignore", "pipe"] });
  running.push(server);
  let log = "";
  server.stderr.setEncoding("utf8").on("data", (text: string) => (log += text));
  for (let tries = 0; tries < 100; tries++) {
    const answers = await new Promise((resolve) =>
      get(`https://localhost:${port}/v2/`, { rejectUnauthorized: false }, (response) => resolve(response.resume())).on(
        "error",
        () => resolve(undefined),
      ),
    );
    if (answers !== undefined) return `localhost:${port}`;
    await sleep(50);
  }
  throw new Error(`docker-registry does not start: ${log}`);
}

/** Runs a program beside this process, which is the token server. */
async function start(file: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<Result> {
  const child = spawn(file, args, { env, timeout: 60_000, killSignal: "SIGKILL" });
  const result = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const)
    child[name].setEncoding("utf8").on("data", (text: string) => (result[name] += text));
  const [code] = (await once(child, "close")) as [number | null];
  return { code, ...result };
}

const cli = async (env: NodeJS.ProcessEnv, ...args: readonly string[]): Promise<Result> =>
  await start(BINARY, [...args, "--keystore", store], env);

async function copy(env: NodeJS.ProcessEnv, keys: string, ...args: readonly string[]): Promise<Result> {
  const conf = join(temporaryFolder(), "ocicrypt.conf");
  writeFileSync(
    conf,
    JSON.stringify({ "key-providers": { keystore: { cmd: { path: BINARY, args: ["--keystore", keys] } } } }),
  );
  const [file = "", ...prefix] = tool?.command ?? [];
  return await start(file, [...prefix, "copy", "-q", ...args], {
    PATH: process.env["PATH"],
    ...env,
    OCICRYPT_KEYPROVIDER_CONFIG: conf,
  });
}

function login(host: string, password = PASSWORD): string {
  const file = join(temporaryFolder(), "auth.json");
  writeFileSync(
    file,
    JSON.stringify({ auths: { [host]: { auth: Buffer.from(`${USER}:${password}`).toString("base64") } } }),
    { mode: 0o600 },
  );
  return file;
}

function succeeded({ code, stdout, stderr }: Result): string {
  assert.is(code, 0, stderr);
  return stdout;
}

/** Encrypts for alice, rewraps for bob, and lets skopeo decrypt as bob. */
async function rewraps(image: string, env: NodeJS.ProcessEnv): Promise<void> {
  const plain = join(temporaryFolder(), "plain");
  makeImage(plain, { layers: 2 });
  succeeded(await copy(env, store, "--encryption-key", "provider:keystore:alice", `oci:${plain}`, image));
  assert.match(succeeded(await cli(env, "rewrap", image, "--to", "bob")), /alice +bob/);
  assert.match(succeeded(await cli(env, "inspect", image, "--verify", "--require-encrypted")), /bob .* opens/);
  const target = join(temporaryFolder(), "image");
  succeeded(
    await copy(
      env,
      onlyPrivate(store, kidOf(store, "bob")),
      "--decryption-key",
      "provider:keystore",
      image,
      `oci:${target}:x`,
    ),
  );
  assert.equal(layerDigests(target), layerDigests(plain));
}

testWith(tool, NONE, "rewraps in a registry with TLS whose authority the system trusts, and only then", async () => {
  const pair = selfSigned();
  const host = await startRegistry(pair);
  await rewraps(`docker://${host}/team/app:1`, { SSL_CERT_FILE: pair.cert });
  assert.match(
    assertFailure(await cli({}, "inspect", `docker://${host}/team/app:1`), 1),
    new RegExp(`cannot reach ${host}: DEPTH_ZERO_SELF_SIGNED_CERT; .*certificate`),
  );
  succeeded(await cli({}, "inspect", `docker://${host}/team/app:1`, "--tls-verify=false"));
  const named = await cli(
    { SSL_CERT_FILE: pair.cert },
    "inspect",
    `docker://${host.replace("localhost", "127.0.0.1")}/team/app:1`,
  );
  assert.match(assertFailure(named, 1), /ERR_TLS_CERT_ALTNAME_INVALID/);
});

testWith(tool, NONE, "logs in at a token server: with a password, without one, with a wrong one", async () => {
  const pair = selfSigned();
  const tokens = await startTokenServer(pair);
  const host = await startRegistry(pair, tokens);
  const anonymous = { SSL_CERT_FILE: pair.cert, HOME: temporaryFolder() };
  const known = { ...anonymous, REGISTRY_AUTH_FILE: login(host) };
  await rewraps(`docker://${host}/team/app:1`, known);
  await rewraps(`docker://${host}/public/app:1`, known);
  assert.ok(tokens.scopes.includes("repository:team/app:pull,push"));

  assert.match(succeeded(await cli(anonymous, "inspect", `docker://${host}/public/app:1`)), /bob/);
  const none = new RegExp(`no credentials for ${host} in .* \\(HTTP 401\\); log in with skopeo login ${host}`);
  assert.match(assertFailure(await cli(anonymous, "inspect", `docker://${host}/team/app:1`), 1), none);
  assert.match(assertFailure(await cli(anonymous, "rewrap", `docker://${host}/public/app:1`, "--to", "bob"), 1), none);
  const line = assertFailure(
    await cli({ ...anonymous, REGISTRY_AUTH_FILE: login(host, "wrong-one") }, "inspect", `docker://${host}/team/app:1`),
    1,
  );
  assert.match(line, new RegExp(`${host} refused the credentials of .*auth\\.json \\(HTTP 401\\); log in with skopeo`));
  assert.not.match(line, "wrong-one");
});

testWith(tool, NONE, "follows no redirect from TLS to none", async () => {
  const pair = selfSigned();
  const server = createServer({ cert: readFileSync(pair.cert), key: readFileSync(pair.key) }, (_, response) => {
    response.writeHead(302, { location: `http://localhost:${port}/manifest` }).end();
  }).listen(0, "127.0.0.1");
  running.push(server);
  await once(server, "listening");
  const other = createPlainServer((_, response) => response.end('{"layers":[]}')).listen(0, "127.0.0.1");
  running.push(other);
  await once(other, "listening");
  const [address, target] = [server.address(), other.address()];
  const port = typeof target === "object" ? target?.port : 0;
  const host = `localhost:${typeof address === "object" ? address?.port : 0}`;
  assert.match(
    assertFailure(await cli({ SSL_CERT_FILE: pair.cert }, "inspect", `docker://${host}/app`), 1),
    /leads to an address without TLS/,
  );
});

test.run();
