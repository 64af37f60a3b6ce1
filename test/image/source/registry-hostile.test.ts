// Registries that lie, stall or send elsewhere, played by small servers on loopback; and how credentials are guarded.

import { once } from "node:events";
import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from "node:http";
import { createHash } from "node:crypto";
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { encryptedLayer } from "../../support/encrypted-images.ts";
import { temporaryFolder } from "../../support/folders.ts";
import { endurance } from "../../support/parts.ts";
import { assertFailure, BINARY, type Result } from "../../support/program.ts";
import { makeStore } from "../../support/stores.ts";

const store = makeStore("alice", "bob");
const MANIFEST = "application/vnd.oci.image.manifest.v1+json";
const manifest = `{"layers":[${encryptedLayer(store, ["alice"])}]}`;
const digest = (text: string): string => `sha256:${createHash("sha256").update(text).digest("hex")}`;

const servers: Server[] = [];
test.after(() => {
  for (const server of servers) server.close().closeAllConnections();
});

/** Starts a server; its host, and what it was asked with which Authorization. */
async function start(
  answer: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<{ host: string; asked: string[] }> {
  const asked: string[] = [];
  const listener: RequestListener = (request, response) => {
    asked.push(`${request.method} ${request.url} ${request.headers.authorization ?? "-"}`);
    request.resume().on("end", () => answer(request, response));
  };
  const server = createServer(listener).listen(0, "127.0.0.1");
  servers.push(server);
  await once(server, "listening");
  const address = server.address();
  return { host: `127.0.0.1:${typeof address === "object" ? address?.port : 0}`, asked };
}

/** Runs the binary beside this process, which is the registry. */
async function cli(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Result> {
  const child = spawn(BINARY, [...args, "--tls-verify=false", "--keystore", store], {
    env,
    timeout: 60_000,
    killSignal: "SIGKILL",
  });
  const result = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const)
    child[name].setEncoding("utf8").on("data", (text: string) => (result[name] += text));
  const [code] = (await once(child, "close")) as [number | null];
  return { code, ...result };
}

const SECRET = "s3cret-Pass";
/** An environment with credentials for these hosts. */
function login(...hosts: readonly string[]): NodeJS.ProcessEnv {
  const file = join(temporaryFolder(), "auth.json");
  const auth = Buffer.from(`user:${SECRET}`).toString("base64");
  writeFileSync(file, JSON.stringify({ auths: Object.fromEntries(hosts.map((host) => [host, { auth }])) }));
  return { REGISTRY_AUTH_FILE: file };
}

const send = (response: ServerResponse, text: string, type = MANIFEST): unknown =>
  response.writeHead(200, { "content-type": type }).end(text);

test("believes no answer that is not what its digest says, at the top or below", async () => {
  const { host } = await start((_, response) => send(response, manifest));
  const other = `docker://${host}/app@${digest("other")}`;
  const again = /is not what its digest sha256:\w+ says; fetch or build the image again$/;
  assert.match(assertFailure(await cli(["inspect", other]), 1), again);
  assert.match(assertFailure(await cli(["rewrap", other, "--to", "bob"]), 1), /says; nothing was written; fetch/);
  const { code, stderr } = await cli(["inspect", `docker://${host}/app@${digest(manifest)}`]);
  assert.is(code, 0, stderr);
  const index = `{"manifests":[{"mediaType":"${MANIFEST}","digest":"${digest("other")}","size":${manifest.length}}]}`;
  const nested = await start(({ url }, response) => send(response, url?.endsWith("latest") ? index : manifest));
  assert.match(
    assertFailure(await cli(["inspect", `docker://${nested.host}/app`]), 1),
    /is not what its digest sha256:\w+ says/,
  );
});

test("tells a web page from an image", async () => {
  const { host } = await start((_, response) => send(response, "<html>Log in</html>", "text/html; charset=utf-8"));
  assert.match(
    assertFailure(await cli(["inspect", `docker://${host}/app`]), 1),
    /127\.0\.0\.1:\d+ answers with a web page, as no registry does; check the host and the port/,
  );
});

test("reads each document once, however often an image points to it", async () => {
  const entry = `{"mediaType":"${MANIFEST}","digest":"${digest(manifest)}","size":${manifest.length}}`;
  const index = `{"manifests":[${Array<string>(50).fill(entry).join(",")}]}`;
  for (const [command = "", ...args] of [["inspect"], ["rewrap", "--to", "bob", "--dry-run"]]) {
    const { host, asked } = await start(({ url }, response) =>
      send(response, url?.endsWith("latest") ? index : manifest),
    );
    const { code, stdout, stderr } = await cli([command, `docker://${host}/app`, ...args]);
    assert.is(code, 0, stderr);
    assert.equal(asked, [
      "GET /v2/ -",
      ...["latest", digest(manifest)].map((name) => `GET /v2/app/manifests/${name} -`),
    ]);
    assert.is(stdout.match(/alice/g)?.length, command === "inspect" ? 50 : 1);
  }
});

test("gives no password to a realm without TLS elsewhere, nor to where a redirect leads", async () => {
  const other = await start((_, response) => send(response, '{"token":"t"}'));
  for (const realm of [
    `http://example.invalid/token`,
    `ftp://127.0.0.1/`,
    `http://user:${SECRET}@127.0.0.1.example.invalid/`,
  ]) {
    const { host } = await start((_, response) =>
      response.writeHead(401, { "www-authenticate": `Bearer realm="${realm}",service="s"` }).end(),
    );
    const line = assertFailure(await cli(["inspect", `docker://${host}/app`], login(host)), 1);
    assert.match(line, /sends credentials to .*, which has no TLS/);
    assert.not.match(line, SECRET);
  }
  const redirecting = await start(({ url, headers }, response) => {
    if (headers.authorization === undefined) response.writeHead(401, { "www-authenticate": "Basic realm=x" }).end();
    else response.writeHead(307, { location: `http://${other.host}${url}` }).end();
  });
  await cli(["inspect", `docker://${redirecting.host}/app`], login(redirecting.host, other.host));
  assert.ok(redirecting.asked.some((line) => line.includes("Basic ")));
  assert.ok(other.asked.length > 0);
  assert.not.ok(
    other.asked.some((line) => line.includes("Basic ")),
    other.asked.join("\n"),
  );
});

test("writes where it was told and nowhere else, whatever the registry answers", async () => {
  const other = await start((_, response) => response.writeHead(201).end());
  const { host, asked } = await start(({ method, url }, response) =>
    method === "GET"
      ? send(response, manifest)
      : response.writeHead(307, { location: `http://${other.host}${url}` }).end(),
  );
  assert.match(assertFailure(await cli(["rewrap", `docker://${host}/app`, "--to", "bob"]), 1), /answered HTTP 307/);
  assert.ok(asked.some((line) => line.startsWith("PUT")));
  assert.equal(other.asked, []);
});

test("asks for the right to write only where it writes", async () => {
  const realm: { host: string; asked: string[] } = await start((_, response) => send(response, '{"token":"t"}'));
  const { host, asked } = await start(({ method, headers }, response) => {
    const allowed = method === "GET" ? /^Bearer t/ : /^Bearer t2?$/;
    if (
      !allowed.test(headers.authorization ?? "") ||
      (method !== "GET" && !realm.asked.some((line) => line.includes("push")))
    ) {
      response
        .writeHead(401, {
          "www-authenticate": `Bearer realm="http://${realm.host}/token",service="a b",scope="repository:other:*"`,
        })
        .end();
    } else if (method === "GET") send(response, manifest);
    else response.writeHead(201).end();
  });
  const inspected = await cli(["inspect", `docker://${host}/team/app`], login(host));
  assert.is(inspected.code, 0, inspected.stderr);
  assert.equal(realm.asked, [
    `GET /token?account=user&scope=repository%3Ateam%2Fapp%3Apull&service=a+b Basic ${Buffer.from(`user:${SECRET}`).toString("base64")}`,
  ]);
  assert.not.ok(
    asked.some((line) => line.includes("Basic")),
    "the password goes to the realm only",
  );
  const rewrapped = await cli(["rewrap", `docker://${host}/team/app`, "--to", "bob"], login(host));
  assert.is(rewrapped.code, 0, rewrapped.stderr);
  assert.ok(realm.asked.some((line) => line.includes("pull%2Cpush")));
});

test("prints no credentials, whatever goes wrong with them", async () => {
  for (const [status, body] of [
    [200, `{"token":"${SECRET}\\u0001\\n"}`],
    [200, SECRET],
    [403, SECRET],
    [200, `{"token":["${SECRET}"]}`],
  ] as const) {
    const realm = await start((_, response) => response.writeHead(status).end(body));
    const { host } = await start((_, response) =>
      response.writeHead(401, { "www-authenticate": `Bearer realm="http://${realm.host}/${SECRET}"` }).end(SECRET),
    );
    assert.not.match(assertFailure(await cli(["inspect", `docker://${host}/app`], login(host)), 1), SECRET);
  }
});

test("ends where an answer breaks off, never ends, or is a failure without an end", async () => {
  const drip = (response: ServerResponse): void => {
    const timer = setInterval(() => response.write(" ".repeat(100_000)), 5);
    response.on("close", () => clearInterval(timer));
  };
  for (const [answer, line] of [
    [
      (response: ServerResponse) =>
        response.writeHead(200, { "content-length": 1000 }).write("{", () => response.destroy()),
      /cannot reach 127.0.0.1:\d+: /,
    ],
    [(response: ServerResponse) => response.destroy(), /cannot reach/],
    [(response: ServerResponse) => drip(response.writeHead(200)), /is larger than 4 MiB/],
    [(response: ServerResponse) => drip(response.writeHead(404)), /no image latest/],
    [(response: ServerResponse) => drip(response.writeHead(500)), /answered HTTP 500/],
    [
      (response: ServerResponse) => drip(response.writeHead(401, { "www-authenticate": "Basic" })),
      /no credentials for 127.0.0.1:\d+ in /,
    ],
  ] as const) {
    const { host } = await start((_, response) => void answer(response));
    const started = Date.now();
    assert.match(assertFailure(await cli(["inspect", `docker://${host}/app`]), 1), line);
    assert.ok(Date.now() - started < 10_000, `${line.source} took ${Date.now() - started} ms`);
  }
});

if (endurance(100) === 100) {
  // Half a minute of waiting.
  test("gives up on an answer that stalls", async () => {
    const { host } = await start((_, response) => void response.writeHead(200).write("{"));
    const started = Date.now();
    assert.match(
      assertFailure(await cli(["inspect", `docker://${host}/app`]), 1),
      /cannot reach .*: no whole answer within 30 s/,
    );
    assert.ok(Date.now() - started < 40_000);
  });
}

test("leaves a tag that was moved meanwhile as it is", async () => {
  let reads = 0;
  const { host, asked } = await start(({ method, url }, response) => {
    if (method === "GET") send(response, url === "/v2/" || reads++ === 0 ? manifest : manifest.replace("}]}", "}] }"));
    else response.writeHead(201).end();
  });
  assert.match(
    assertFailure(await cli(["rewrap", `docker://${host}/app`, "--to", "bob"]), 1),
    /was changed by somebody else meanwhile/,
  );
  assert.not.ok(asked.some((line) => line.startsWith("PUT /v2/app/manifests/latest")));
});

test("refuses --prune before it writes", async () => {
  const { host, asked } = await start((_, response) => send(response, manifest));
  assert.match(
    assertFailure(await cli(["rewrap", `docker://${host}/app`, "--to", "bob", "--prune"]), 2),
    /--prune does not work in a registry/,
  );
  assert.not.ok(asked.some((line) => line.startsWith("PUT")));
});

test("pushes with the media type that the manifest itself states", async () => {
  const typed = manifest.replace("{", `{"mediaType":"${MANIFEST}",`);
  const types: (string | undefined)[] = [];
  const { host } = await start(({ method, headers }, response) => {
    if (method === "GET") return send(response, typed, "application/json; charset=utf-8");
    types.push(headers["content-type"]);
    return response.writeHead(201).end();
  });
  const { code, stderr } = await cli(["rewrap", `docker://${host}/app`, "--to", "bob"]);
  assert.is(code, 0, stderr);
  assert.equal(types, [MANIFEST]);
});

test("works on an index of which a platform was deleted, if the registry takes the new one", async () => {
  const INDEX = "application/vnd.oci.image.index.v1+json";
  const [gone, other] = ["1", "2"].map((digit) => `sha256:${digit.repeat(64)}`);
  const left =
    `{"mediaType":"${MANIFEST}","digest":"${gone}","size":9,"platform":{"os":"linux","architecture":"arm64"}},` +
    `{"mediaType":"application/vnd.other+json","digest":"${other}","size":9}`;
  const own = `{"mediaType":"${MANIFEST}","digest":"${digest(manifest)}","size":${manifest.length}}`;
  const index = `{"mediaType":"${INDEX}","manifests":[${left},${own}]}`;
  for (const [status, absent] of [
    [201, 404],
    [400, 404],
    [201, 406],
  ] as const) {
    const put: string[] = [];
    const { host } = await start((request, response) => {
      const name = request.url?.split("/").at(-1) ?? "";
      if (request.method === "PUT") {
        put.push(name);
        response.writeHead(name === "latest" ? status : 201).end();
      } else if (name === "latest") send(response, index, INDEX);
      else if (name === digest(manifest)) send(response, manifest);
      else response.writeHead(absent).end();
    });
    const inspected = await cli(["inspect", `docker://${host}/app`]);
    assert.is(inspected.code, 0, inspected.stderr);
    assert.match(
      inspected.stdout,
      `  linux/arm64  not in this image  ${gone}\n  other  ${other}  application/vnd.other`,
    );
    const rewrapped = await cli(["rewrap", `docker://${host}/app`, "--to", "bob"]);
    assert.is(put.length, 2);
    if (status === 201) {
      assert.is(rewrapped.code, 0, rewrapped.stderr);
      assert.match(rewrapped.stderr, `linux/arm64 ${gone} is not in this image: its entry stays as it is\n`);
    } else {
      assert.match(
        assertFailure(rewrapped, 1),
        /refuses the new index \(HTTP 400\), the old one is as it was; .*push those platforms again/,
      );
    }
  }
});

test("does not wait for a credential helper that hangs, nor ask one whose name is a path", async () => {
  const { host } = await start((_, response) => response.writeHead(401, { "www-authenticate": "Basic" }).end());
  const dir = temporaryFolder();
  writeFileSync(join(dir, "docker-credential-evil"), `#!/bin/sh\ntouch ${dir}/ran\n`, { mode: 0o755 });
  writeFileSync(
    join(dir, "config.json"),
    JSON.stringify({
      credHelpers: { [host]: `../..${dir}/docker-credential-evil` },
      credsStore: `x/../../..${dir}/evil`,
    }),
  );
  assert.match(
    assertFailure(
      await cli(["inspect", `docker://${host}/app`], { DOCKER_CONFIG: dir, HOME: dir, PATH: "/usr/bin" }),
      1,
    ),
    /docker-credential-..\/...*, which .*config.json names, is no name of a program/,
  );
});

test.run();
