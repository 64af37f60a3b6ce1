// doctor IMAGE: the one reason why an image does not open here, beside a real skopeo with the same configuration.

import { spawnSync } from "node:child_process";
import { cpSync, readFileSync, renameSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { secretFiles } from "../../src/at-rest/secret-files.ts";
import { diagnoseImage } from "../../src/doctor/doctor.ts";
import { digestOf } from "../../src/image/documents.ts";
import { openStore } from "../../src/keystore/store.ts";
import { configFile, entry, programs } from "../support/checks.ts";
import { copy, encryptedLayer, HandMade, skopeo } from "../support/encrypted-images.ts";
import { temporaryFolder } from "../support/folders.ts";
import { makeImage } from "../support/images.ts";
import { sampled, testWith } from "../support/parts.ts";
import { assertFailure, BINARY, run, shellLine, succeed } from "../support/program.ts";
import { startServer } from "../support/server.ts";
import { commands, lock, makeStore } from "../support/stores.ts";

process.execPath = BINARY; // doctor knows itself by its path, and need not look into the file
const store = makeStore("alice");
const plain = join(temporaryFolder(), "plain");
makeImage(plain, { layerBytes: 16 });
const args = (dir: string, provider = "keystore"): string[] => ["--keystore", dir, "--provider", provider];
const conf = (dir = store, name = "keystore", path = BINARY): string =>
  configFile({ [name]: entry(args(dir, name), path) });

/** What doctor says in this process: status, message and hint, and the exit code. */
async function diagnose(
  image: string,
  config: string | undefined,
  dir = store,
  PATH = "",
): Promise<{ said: string; exitCode: number }> {
  const before = process.env["PATH"];
  process.env["PATH"] = PATH;
  if (config !== undefined) process.env["OCICRYPT_KEYPROVIDER_CONFIG"] = config;
  try {
    const { findings, exitCode } = await diagnoseImage(image, openStore(dir, secretFiles({})), {});
    assert.is(findings.length, 1, "one reason");
    const [{ id, status, message, hint } = { id: "", status: "", message: "" }] = findings;
    assert.is(id, "image");
    return { said: `${status} ${message}; ${hint ?? ""}`, exitCode };
  } finally {
    process.env["PATH"] = before;
    delete process.env["OCICRYPT_KEYPROVIDER_CONFIG"];
  }
}

testWith(skopeo, "a skopeo with ocicrypt 1.1 or later", "names the reason, and agrees with skopeo", async (tool) => {
  const folder = temporaryFolder();
  const encrypted = `oci:${folder}/encrypted`;
  const { ok, stderr } = copy(tool, store, "--encryption-key", "provider:keystore:alice", `oci:${plain}`, encrypted);
  assert.ok(ok, stderr);
  const jwe = `oci:${folder}/jwe`;
  cpSync(`${folder}/encrypted`, `${folder}/jwe`, { recursive: true });
  commands(store)("rewrap", jwe, "--as", "jwe", "--to", "alice");
  const stranger = makeStore("bob");
  const locked = `${store}-locked`;
  cpSync(store, locked, { recursive: true });
  const secret = lock(locked);
  const withSecret = configFile({ keystore: entry([...args(locked), "--master-key-file", secret]) });
  const server = await startServer(store);
  const grpc = configFile({ keystore: { grpc: server.address } });
  const missing = join(folder, "none.conf");
  const noScript = join(programs("wrapper", `exec ${shellLine([BINARY, ...args(store)])}\n`), "wrapper");
  const rows = [
    [
      encrypted,
      conf(),
      store,
      0,
      /^ok .*1 encrypted layer opens through provider:keystore; .*--decryption-key provider:keystore/,
    ],
    [encrypted, grpc, store, 0, /^ok .* opens through provider:keystore/],
    [encrypted, configFile({ keystore: entry(args(store)), other: entry([], "/none") }), store, 0, /^ok /],
    [encrypted, withSecret, locked, 0, /^ok /],
    [`oci:${plain}`, conf(), store, 0, /^warn .*has no encrypted layer: it needs no key/],
    [
      encrypted,
      conf(store, "simplecrypt"),
      store,
      1,
      /encrypted under the provider keystore, but \S+ names simplecrypt.*missing private key.*rewrap \S+ --from provider:keystore --as provider:simplecrypt --to alice/,
    ],
    [encrypted, missing, store, 1, /finds? no provider in \S+none\.conf.*config --provider keystore/],
    [encrypted, configFile("{"), store, 1, /no provider in/],
    [encrypted, conf(stranger), stranger, 3, /no private key of the store opens this annotation/],
    [encrypted, conf(stranger), store, 3, /provider keystore of \S+: .*no private key of the store/],
    [encrypted, conf(locked), locked, 3, /is locked/],
    [encrypted, conf(store, "keystore", "/none/x"), store, 1, /\/none\/x is not there/],
    [encrypted, conf(store, "keystore", noScript), store, 1, /neither a program nor a script.*#!\/bin\/sh/],
    [encrypted, conf(store, "keystore", "/bin/true"), store, 1, /answer that is empty/],
    [encrypted, configFile({ keystore: {} }), store, 1, /has neither cmd nor grpc/],
    [encrypted, configFile({ keystore: { grpc: "unix:///none/socket" } }), store, 1, /no server answers there/],
    [
      jwe,
      conf(),
      store,
      1,
      /built-in jwe.*export alice --private --format pem.*rewrap \S+ --from jwe --as provider:keystore --to alice/,
    ],
    [jwe, conf(stranger), stranger, 3, /jwe: no private key of the store/],
  ] as const;
  const compared: readonly unknown[] = sampled(rows, 3);
  for (const row of rows) {
    const [image, config, dir, exit, said] = row;
    const found = await diagnose(image, config, dir);
    assert.match(found.said, said);
    assert.is(found.exitCode, exit, found.said);
    if (!compared.includes(row)) continue;
    const [file = "", ...prefix] = tool.command;
    const words = ["copy", "-q", "--decryption-key", "provider:keystore", image, `oci:${temporaryFolder()}/x`];
    const env = { PATH: "/usr/bin:/bin", OCICRYPT_KEYPROVIDER_CONFIG: config };
    const result = spawnSync(file, [...prefix, ...words], { env, encoding: "utf8" });
    assert.is(result.status === 0, exit === 0, `${found.said}\n${result.stderr}`);
  }
  await server.stop();
  const unset = await diagnose(encrypted, undefined);
  assert.match(unset.said, /the key of \S+ is here, but OCICRYPT_KEYPROVIDER_CONFIG is not set/);
  assert.is(unset.exitCode, 1);

  // Only skopeo, podman, buildah and CRI-O decrypt a media type that is not OCI's.
  const docker = `oci:${folder}/docker`;
  cpSync(`${folder}/encrypted`, `${folder}/docker`, { recursive: true });
  retype(`${folder}/docker`, "application/vnd.docker.image.rootfs.diff.tar.gzip+encrypted");
  const nobody = await diagnose(docker, conf());
  assert.match(
    nobody.said,
    /^fail .*media type application\/vnd\.docker\S+, which containerd, nerdctl, .* do not decrypt/,
  );
  assert.is(nobody.exitCode, 1);
  const here = temporaryFolder();
  symlinkSync(tool.command.at(-2) ?? "", join(here, "skopeo"));
  const able = await diagnose(docker, conf(), store, here);
  assert.match(able.said, /^warn .*media type/);
  assert.is(able.exitCode, 0);
});

test("tells other schemes and a layer without a wrapped key from a missing key", async () => {
  for (const [scheme, exit, said] of [
    ["pgp", 3, /is encrypted for pgp, which no key provider opens/],
    [
      "provider.x;reboot",
      1,
      /under the provider "x;reboot", whose name cannot be typed; encrypt the image again under/,
    ],
    ["none", 1, /is encrypted and has no wrapped key: nobody can open it/],
  ] as const) {
    const image = new HandMade();
    const layer = encryptedLayer(store, ["alice"], scheme).replace("enc.keys.none", "enc.other");
    const manifest = image.blob(
      `{"schemaVersion":2,"config":{"mediaType":"application/x",${image.blob("{}")}},"layers":[${layer}]}`,
    );
    const type = "application/vnd.oci.image.manifest.v1+json";
    const path = image.index(`{"schemaVersion":2,"manifests":[{"mediaType":"${type}",${manifest}}]}`);
    const found = await diagnose(path, conf());
    assert.match(found.said, said);
    assert.is(found.exitCode, exit);
  }
});

test("tells that the image lacks the manifest for this machine", async () => {
  const image = new HandMade();
  const type = "application/vnd.oci.image.manifest.v1+json";
  const manifests = ["amd64", "arm64"].map((architecture, at) => ({
    mediaType: type,
    digest: `sha256:${String(at).repeat(64)}`,
    size: 2,
    platform: { os: "linux", architecture },
  }));
  const inner = image.blob(JSON.stringify({ schemaVersion: 2, manifests }));
  const path = image.index(`{"manifests":[{"mediaType":"application/vnd.oci.image.index.v1+json",${inner}}]}`);
  const found = await diagnose(path, conf());
  const here = process.arch === "x64" ? "amd64" : process.arch;
  assert.match(found.said, new RegExp(`^fail \\S+ lacks its manifest for linux/${here}; copy the image again`));
  assert.is(found.exitCode, 1);
});

test("prints one line, or JSON, and exits with the reason's code", () => {
  const env = { PATH: "", OCICRYPT_KEYPROVIDER_CONFIG: conf() };
  const line = succeed(["doctor", `oci:${plain}`, "--keystore", store], { env });
  assert.match(line, /^warn {2}image: oci:\S+ has no encrypted layer: it needs no key; .*\n$/);
  const { checks } = JSON.parse(succeed(["doctor", `oci:${plain}`, "--json", "--keystore", store], { env })) as {
    checks: object[];
  };
  assert.is(checks.length, 1);
  assertFailure(run(["doctor", "oci:/none", "--keystore", store], { env }), 1);
  assertFailure(run(["doctor", "somewhere", "--keystore", store], { env }), 2);
  assert.match(assertFailure(run(["doctor", `oci:${plain}`, "--fix"], { env }), 2), /--fix is not for an image/);
});

/** Gives the layer of an image another media type. */
function retype(dir: string, mediaType: string): void {
  const read = (path: string): Record<string, unknown> & { manifests: { digest: string; size: number }[] } =>
    JSON.parse(readFileSync(path, "utf8")) as never;
  const index = read(join(dir, "index.json"));
  const [manifest] = index.manifests;
  if (manifest === undefined) throw new Error("no manifest");
  const blob = (digest: string): string => join(dir, "blobs", digest.replace(":", "/"));
  const document = JSON.parse(readFileSync(blob(manifest.digest), "utf8")) as { layers: { mediaType: string }[] };
  for (const layer of document.layers) layer.mediaType = mediaType;
  const bytes = Buffer.from(JSON.stringify(document));
  const digest = digestOf(bytes);
  renameSync(blob(manifest.digest), blob(digest));
  writeFileSync(blob(digest), bytes);
  Object.assign(manifest, { digest, size: bytes.length });
  writeFileSync(join(dir, "index.json"), JSON.stringify(index));
}

test.run();
