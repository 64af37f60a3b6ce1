// Changing an image in a registry, and waiting for one: conditions on a PUT, HTTP 429, IPv6, and what registries.conf says
// of the place that is changed.

import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type RequestListener, type Server } from "node:http";
import { mkdirSync, writeFileSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import type { AddressInfo } from "node:net";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { asKeystoreError, KeystoreError } from "../../../src/errors.ts";
import { openRegistry } from "../../../src/image/source/registry.ts";
import type { ImageSource } from "../../../src/image/source/source.ts";
import { temporaryFolder } from "../../support/folders.ts";
import { testWith } from "../../support/parts.ts";
import { assertFailure, runBeside } from "../../support/program.ts";
import { makeStore } from "../../support/stores.ts";

const MANIFEST = "application/vnd.oci.image.manifest.v1+json";
const OLD = '{"layers":[]}';
const NEW = '{"layers": []}';
const MOVED = '{ "layers":[]}';
const digest = (text: string): string => `sha256:${createHash("sha256").update(text).digest("hex")}`;
const IPV6 = Object.values(networkInterfaces()).some((list) => list?.some(({ address }) => address === "::1"));

const home = temporaryFolder();
process.env = { HOME: home, PATH: process.env["PATH"] };
const servers: Server[] = [];
test.after(() => {
  for (const server of servers) server.close().closeAllConnections();
});

/** Starts a registry without TLS. */
async function start(listener: RequestListener, address = "127.0.0.1"): Promise<string> {
  const server = createServer(listener).listen(0, address);
  servers.push(server);
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return `${address.includes(":") ? `[${address}]` : address}:${port}`;
}

const open = async (image: string, change = true): Promise<ImageSource> =>
  await openRegistry(image, { tlsVerify: false, certDir: undefined, change });

/** What is thrown: message and hint. */
async function failure(work: Promise<unknown>): Promise<string> {
  const error = await work.then(
    () => new Error("it did not fail"),
    (reason: unknown) => asKeystoreError(reason),
  );
  return error instanceof KeystoreError ? `${error.message}; ${error.hint}` : error.message;
}

/** A registry with one tag that gives it this ETag; what each PUT had as If-Match. */
async function tagged(
  etag: string | undefined,
  status = 201,
  moved = false,
): Promise<{ host: string; puts: string[] }> {
  const puts: string[] = [];
  let reads = 0;
  const host = await start((request, response) => {
    if (request.url === "/v2/") return response.end();
    if (request.method === "PUT") {
      puts.push(`${request.url?.split("/").at(-1)} ${request.headers["if-match"] ?? "-"}`);
      return response.writeHead(status).end();
    }
    const headers = { "content-type": MANIFEST, ...(etag === undefined ? {} : { etag }) };
    return response.writeHead(200, headers).end(moved && reads++ > 0 ? MOVED : OLD);
  });
  return { host, puts };
}

for (const [name, etag, condition] of [
  ["the ETag that it has", `"${digest(OLD)}"`, `"${digest(OLD)}"`],
  ["no condition where there is no ETag", undefined, "-"],
  ["no condition where the ETag is weak", 'W/"1"', "-"],
  ["no condition where the ETag is none", "1", "-"],
] as const) {
  test(`changes a tag with ${name}`, async () => {
    const { host, puts } = await tagged(etag);
    const child = { digest: digest("{}"), mediaType: MANIFEST, bytes: Buffer.from("{}") };
    await (await open(`${host}/app:1`)).write([child], NEW);
    assert.equal(puts, [`${digest("{}")} -`, `1 ${condition}`]);
  });
}

test("changes no tag that somebody moved, as seen before the PUT or by the registry", async () => {
  const before = await tagged(undefined, 201, true);
  assert.match(await failure((await open(`${before.host}/app:1`)).write([], NEW)), /was changed by somebody else/);
  assert.equal(before.puts, []);
  const during = await tagged('"1"', 412);
  assert.match(await failure((await open(`${during.host}/app:1`)).write([], NEW)), /was changed by somebody else/);
  assert.equal(during.puts, ['1 "1"']);
});

test("puts a new digest beside an old one without a condition", async () => {
  const { host, puts } = await tagged('"1"');
  await (await open(`${host}/app@${digest(OLD)}`)).write([], NEW);
  assert.equal(puts, [`${digest(NEW)} -`]);
});

test("waits as long as a registry with too much to do says, for at most a minute", async () => {
  const asked: (string | undefined)[] = [];
  const busy = (times: number, after: string): RequestListener => {
    let left = times;
    return ({ url, method }: IncomingMessage, response) => {
      asked.push(`${method} ${url}`);
      if (left-- > 0) return response.writeHead(429, { "retry-after": after }).end();
      return response.writeHead(method === "PUT" ? 201 : 200, { "content-type": MANIFEST }).end(OLD);
    };
  };
  const started = Date.now();
  await (await open(`${await start(busy(1, "1"))}/app:1`)).write([], NEW);
  assert.equal(asked, ["GET /v2/", "GET /v2/", ...["GET", "GET", "PUT"].map((one) => `${one} /v2/app/manifests/1`)]);
  assert.ok(Date.now() - started > 900);
  await open(`${await start(busy(2, "0"))}/app:1`);
  await open(`${await start(busy(1, new Date(Date.now() + 1500).toUTCString()))}/app:1`);
  for (const after of ["61", new Date(Date.now() + 3_600_000).toUTCString()]) {
    const host = await start(busy(1, after));
    const line = await failure(open(`${host}/app:1`));
    assert.match(
      line,
      /has too many requests, and wants the next one in \d+ s \(HTTP 429\); wait that long, or log in/,
    );
  }
  asked.length = 0;
  const host = await start(busy(100, "0"));
  assert.match(
    await failure(open(`${host}/app:1`)),
    /answered HTTP 429 \(too many requests\); wait a while, or log in/,
  );
  assert.is(asked.length, 5);
});

test("asks once more with the scope that a registry says is missing", async () => {
  const asked: string[] = [];
  const host: string = await start(({ url = "", headers }, response) => {
    asked.push(`${url} ${headers.authorization ?? "-"}`);
    if (url.startsWith("/token"))
      return response.end(JSON.stringify({ token: url.includes("extra") ? "more" : "less" }));
    if (headers.authorization === "Bearer more") return response.end(OLD);
    const missing = url === "/v2/" ? "" : ',error="insufficient_scope",scope="repository:extra:pull"';
    return response.writeHead(401, { "www-authenticate": `Bearer realm="http://${host}/token"${missing}` }).end();
  });
  await open(`${host}/app:1`);
  const scope = (name: string): string => `scope=repository%3A${name}%3Apull`;
  assert.equal(asked, [
    "/v2/ -",
    `/token?${scope("app")} -`,
    "/v2/app/manifests/1 Bearer less",
    `/token?${scope("app")}&${scope("extra")} -`,
    "/v2/app/manifests/1 Bearer more",
  ]);
});

test("reads from a server that answers no ping, with what a manifest's answer asks for", async () => {
  const asked: string[] = [];
  const host = await start(({ url = "", headers }, response) => {
    asked.push(`${url} ${headers.authorization ?? "-"}`);
    if (url === "/v2/") response.writeHead(404).end();
    else if (headers.authorization === undefined) response.writeHead(401, { "www-authenticate": "Basic" }).end();
    else response.end(OLD);
  });
  await open(`${host}/app:1`);
  assert.equal(asked, ["/v2/ -", "/v2/app/manifests/1 -", "/v2/app/manifests/1 Basic Og=="]);
});

test("answers a registry that lets everybody ping, and asks for credentials to read or to write", async () => {
  for (const asking of ["GET", "PUT"]) {
    const asked: string[] = [];
    const host = await start(({ url = "", method = "", headers: { authorization } }, response) => {
      asked.push(`${method} ${authorization ?? "-"}`);
      if (url === "/v2/") response.end();
      else if (method === asking && authorization === undefined)
        response.writeHead(401, { "www-authenticate": "Basic" }).end();
      else response.writeHead(method === "PUT" ? 201 : 200).end(OLD);
    });
    await (await open(`${host}/app:1`)).write([], NEW);
    assert.is(asked.at(-1), "PUT Basic Og==");
  }
});

test("says that a registry refuses without asking for credentials: none were sent", async () => {
  const auth = Buffer.from("u:p").toString("base64");
  for (const status of [401, 403]) {
    const host = await start(({ url }, response) => response.writeHead(url === "/v2/" ? 200 : status).end());
    process.env["REGISTRY_AUTH_FILE"] = join(temporaryFolder(), "auth.json");
    writeFileSync(process.env["REGISTRY_AUTH_FILE"], JSON.stringify({ auths: { [host]: { auth } } }));
    const line = await failure(open(`${host}/app:1`));
    delete process.env["REGISTRY_AUTH_FILE"];
    assert.match(line, new RegExp(`refuses this without asking for credentials \\(HTTP ${status}\\); check the name`));
  }
});

test("takes 202 for a manifest that was written, as skopeo does: older Quay answers so", async () => {
  const { host, puts } = await tagged(undefined, 202);
  await (await open(`${host}/app:1`)).write([], NEW);
  assert.is(puts.length, 1);
});

testWith(IPV6 ? true : undefined, "IPv6", "reads from an IPv6 address", async () => {
  const host = await start((_, response) => response.end(OLD), "::1");
  assert.is((await open(`${host}/a/b`)).digest, digest(OLD));
  assert.match(await failure(open(`[::1]x/a/b`)), /its host is not valid/);
  assert.match(await failure(open(`[::g]:5000/a/b`)), /its host is not valid/);
});

test("changes an image where its name says, not at a mirror or another location", async () => {
  const [named, other] = [await tagged(undefined), await tagged(undefined)];
  mkdirSync(join(home, ".config/containers"), { recursive: true });
  const conf = join(home, ".config/containers/registries.conf");
  const mirrored = (prefix: string): string =>
    `[[registry]]\nprefix = "${prefix}"\nlocation = "${other.host}"\n[[registry.mirror]]\nlocation = "${other.host}/m"\n`;
  writeFileSync(conf, mirrored(named.host));
  await (await open(`${named.host}/app:1`)).write([], NEW);
  assert.equal([named.puts, other.puts], [["1 -"], []]);
  writeFileSync(conf, mirrored("localhost:1"));
  const line = await failure(open("localhost:1/app:1"));
  assert.match(
    line,
    new RegExp(`ECONNREFUSED; .*registries.conf reads it from ${other.host}/m/app: name that to change it`),
  );
  writeFileSync(conf, `[[registry]]\nlocation = "${named.host}"\nblocked = true\n`);
  assert.match(await failure(open(`${named.host}/app:1`)), /is blocked in .*registries\.conf/);
  writeFileSync(conf, "");
});

test("reads the file that $CONTAINERS_REGISTRIES_CONF names, which must be there", async () => {
  const { host } = await tagged(undefined);
  const conf = join(home, "own.conf");
  process.env["CONTAINERS_REGISTRIES_CONF"] = conf;
  assert.match(
    await failure(open(`${host}/app:1`)),
    /there is no .*own\.conf, which \$CONTAINERS_REGISTRIES_CONF names/,
  );
  writeFileSync(conf, `[[registry]]\nlocation = "${host}"\nblocked = true\n`);
  assert.match(await failure(open(`${host}/app:1`)), /is blocked in .*own\.conf/);
  delete process.env["CONTAINERS_REGISTRIES_CONF"];
});

test("asks docker's own stores for what skopeo has no credentials for, and tells of those that fail", async () => {
  const seen: string[] = [];
  const host = await start(({ url, headers }, response) => {
    if (headers.authorization !== undefined)
      seen.push(Buffer.from(headers.authorization.slice(6), "base64").toString());
    const allowed = url !== "/v2/" && seen.at(-1) === "d:s";
    return response.writeHead(allowed ? 200 : 401, { "www-authenticate": "Basic" }).end(OLD);
  });
  const bin = temporaryFolder();
  const helper = (name: string, script: string): void =>
    writeFileSync(join(bin, `docker-credential-${name}`), `#!/bin/sh\n${script}\n`, { mode: 0o700 });
  helper("desktop", `read -r host; [ "$host" = "${host}" ] && echo '{"Username":"d","Secret":"s"}'`);
  helper("sealed", "echo the vault is sealed; exit 1");
  helper("leaky", `echo '{"Secret":"s3cret"}'; echo no vault >&2; exit 1`);
  const docker = join(home, ".docker");
  mkdirSync(docker, { recursive: true });
  const path = process.env["PATH"];
  process.env["PATH"] = `${bin}:${path}`;
  const store = (credsStore: string): void =>
    writeFileSync(join(docker, "config.json"), JSON.stringify({ auths: { [host]: {} }, credsStore }));
  store("desktop");
  await open(`${host}/app:1`);
  for (const [name, words] of [
    ["sealed", "docker-credential-sealed, which .+config.json names, failed: the vault is sealed"],
    ["leaky", "docker-credential-leaky, which .+config.json names, failed: no vault"],
    ["missing", "docker-credential-missing, which .+config.json names, is not on PATH.*"],
  ] as const) {
    store(name);
    const line = await failure(open(`${host}/app:1`));
    assert.match(line, new RegExp(`no credentials for ${host} in .* \\(HTTP 401\\); ${words}; log in`));
    assert.not.match(line, "s3cret");
  }
  process.env["PATH"] = path;
});

test("gives one line whatever Node's variables are", async () => {
  const store = makeStore("alice");
  const env = { NODE_TLS_REJECT_UNAUTHORIZED: "0", NODE_EXTRA_CA_CERTS: "/dev/null", HOME: home };
  const host = await start((_, response) => response.end(OLD));
  const result = await runBeside(["inspect", `docker://${host}/app`, "--keystore", store], { env });
  assert.match(assertFailure(result, 1), /: EPROTO; it may have no TLS: if so, add --tls-verify=false/);
  const plain = await runBeside(["inspect", `docker://${host}/app`, "--tls-verify=false", "--keystore", store], {
    env,
  });
  assert.equal([plain.code, plain.stderr], [0, ""]);
});

test.run();
