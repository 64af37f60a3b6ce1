// Images in a registry: Debian's docker-registry on loopback, with and without a password.

import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { assertDecrypts, copy, onlyPrivate, skopeo } from "../../support/encrypted-images.ts";
import { temporaryFolder } from "../../support/folders.ts";
import { makeImage } from "../../support/images.ts";
import { testWith } from "../../support/parts.ts";
import { assertFailure, run, type Result } from "../../support/program.ts";
import { freePort, startRegistry } from "../../support/registry.ts";
import { kidOf, makeStore } from "../../support/stores.ts";

const registry =
  existsSync("/usr/bin/docker-registry") &&
  spawnSync("htpasswd", ["-nbB", "a", "b"]).status === 0 &&
  skopeo !== undefined
    ? skopeo
    : undefined;
const NONE = "docker-registry, htpasswd and a skopeo that knows provider:";
const store = makeStore("alice", "bob:--type rsa --bits 2048");
const plain = join(temporaryFolder(), "plain");
makeImage(plain, { layers: 2 });

const cli = (env: NodeJS.ProcessEnv, ...args: readonly string[]): Result =>
  run([...args, "--tls-verify=false", "--keystore", store], { env });

testWith(
  registry,
  NONE,
  "rewraps in a registry by its manifests alone, and skopeo decrypts with the new key",
  async (tool) => {
    const { host, log } = await startRegistry();
    const image = `docker://${host}/team/app:1`;
    assert.ok(
      copy(tool, store, "--dest-tls-verify=false", "--encryption-key", "provider:keystore:alice", `oci:${plain}`, image)
        .ok,
    );
    await sleep(300); // its log comes by a pipe, read when this process is idle
    const before = log().length;
    const { code, stderr } = cli({}, "rewrap", image, "--to", "bob");
    assert.is(code, 0, stderr);
    await sleep(300);
    const asked = [
      ...log()
        .slice(before)
        .matchAll(/"(GET|PUT|HEAD|POST|PATCH) (\S+) HTTP/g),
    ].map(([, method = "", path = ""]) => `${method} ${path}`);
    assert.ok(asked.length >= 2);
    assert.equal(
      asked.filter((one) => one.includes("/blobs/")),
      [],
    );
    const bob = onlyPrivate(store, kidOf(store, "bob"));
    assertDecrypts(tool, bob, image, plain, "--src-tls-verify=false", "--decryption-key", "provider:keystore");
    const alice = onlyPrivate(store, kidOf(store, "alice"));
    assert.not.ok(
      copy(
        tool,
        alice,
        "--src-tls-verify=false",
        "--decryption-key",
        "provider:keystore",
        image,
        `oci:${temporaryFolder()}/x`,
      ).ok,
    );
    const inspected = JSON.parse(cli({}, "inspect", image, "--json", "--verify").stdout) as {
      manifests: { digest: string; layers: { annotations: { parts: { opens: boolean }[] }[] }[] }[];
    };
    assert.match(inspected.manifests[0]?.digest ?? "", /^sha256:/);
    assert.ok(inspected.manifests[0]?.layers.every(({ annotations }) => annotations[0]?.parts[0]?.opens));
    const byDigest = cli({}, "inspect", `docker://${host}/team/app@${inspected.manifests[0]?.digest ?? ""}`);
    assert.is(byDigest.code, 0, byDigest.stderr);
  },
);

testWith(
  registry,
  NONE,
  "logs in with auth.json, a credential helper, or says that the password is wrong",
  async (tool) => {
    const { host } = await startRegistry("right");
    const image = `docker://${host}/app`;
    const login = (password: string): string => {
      const file = join(temporaryFolder(), "auth.json");
      writeFileSync(
        file,
        JSON.stringify({ auths: { [host]: { auth: Buffer.from(`user:${password}`).toString("base64") } } }),
        { mode: 0o600 },
      );
      return file;
    };
    assert.ok(
      copy(
        tool,
        store,
        "--dest-tls-verify=false",
        "--dest-creds",
        "user:right",
        "--encryption-key",
        "provider:keystore:alice",
        `oci:${plain}`,
        image,
      ).ok,
    );
    const right = cli({ REGISTRY_AUTH_FILE: login("right") }, "rewrap", image, "--to", "bob");
    assert.is(right.code, 0, right.stderr);

    const helper = temporaryFolder();
    writeFileSync(
      join(helper, "docker-credential-test"),
      `#!/bin/sh\ncat > "$0.asked"\necho '{"Username":"user","Secret":"right"}'\n`,
      { mode: 0o755 },
    );
    writeFileSync(join(helper, "config.json"), JSON.stringify({ credHelpers: { [host]: "test" } }));
    const helped = cli({ DOCKER_CONFIG: helper, HOME: helper, PATH: `${helper}:/usr/bin:/bin` }, "inspect", image);
    assert.is(helped.code, 0, helped.stderr);
    assert.is(readFileSync(join(helper, "docker-credential-test.asked"), "utf8"), host);

    for (const [env, why] of [
      [{ REGISTRY_AUTH_FILE: login("wrong") }, `${host} refused the credentials of .*/auth\\.json`],
      [{ HOME: temporaryFolder() }, `no credentials for ${host} in .*/auth\\.json, .*/config\\.json, .*/\\.dockercfg`],
    ] as const) {
      const line = assertFailure(cli(env, "rewrap", image, "--to", "alice"), 1);
      assert.match(line, new RegExp(`${why} \\(HTTP 401\\); log in with skopeo login ${host}`));
      assert.not.match(line, "wrong");
    }
  },
);

testWith(registry, NONE, "says that an image is not there, and that nobody answers", async () => {
  const { host } = await startRegistry();
  assert.match(assertFailure(cli({}, "inspect", `docker://${host}/none:1`), 1), /no image 1 at http:\/\/localhost/);
  assert.match(
    assertFailure(cli({}, "inspect", `docker://localhost:${await freePort()}/x`), 1),
    /cannot reach localhost:\d+: ECONNREFUSED/,
  );
});

for (const [image, line] of [
  ["docker://EXAMPLE.org/App:1", /is no image reference/],
  ["docker://example.org/a/../b", /is no image reference/],
  ["docker://example.org/a@sha256:00", /is no image reference/],
  ["docker://user:s3cret@example.org/a", /"docker:\/\/…@example.org\/a" is no image reference: its host is not valid/],
  ["dir:/x", /dir:\/x is a folder in skopeo's own format/],
] as const) {
  test(`refuses ${image} before anything is sent`, () => {
    assert.match(assertFailure(cli({}, "inspect", image), 2), line);
  });
}

test.run();
