// Media types that some clients do not decrypt: inspect warns, and rewrap --fix-media-types gives OCI's where it can.

import { cpSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { foreignTypes, inspectImage } from "../../src/image/inspect.ts";
import { notDecryptedBy, ociType } from "../../src/image/media-types.ts";
import { planRewrap } from "../../src/image/rewrap.ts";
import { openImage } from "../../src/image/source/open.ts";
import { openStore } from "../../src/keystore/store.ts";
import {
  assertDecrypts,
  copy,
  encryptedLayer,
  entry,
  HandMade,
  MANIFEST,
  skopeo,
  tag,
} from "../support/encrypted-images.ts";
import { temporaryFolder } from "../support/folders.ts";
import { makeImage } from "../support/images.ts";
import { testWith } from "../support/parts.ts";
import { run } from "../support/program.ts";
import { makeStore, noSecrets } from "../support/stores.ts";

const store = makeStore("alice", "bob");
const cli = (...args: readonly string[]): { code: number | null; stdout: string; stderr: string } =>
  run([...args, "--keystore", store]);
const OCI = "application/vnd.oci.image";
const DOCKER = "application/vnd.docker";
const DOCKER_MANIFEST = `${DOCKER}.distribution.manifest.v2+json`;
const DOCKER_LAYER = `${DOCKER}.image.rootfs.diff.tar.gzip+encrypted`;
const CONTAINERS = "skopeo, podman, buildah, CRI-O";
const CONTAINERD = "containerd, nerdctl";
const GUESTS = "the guests of Kata and Confidential Containers";

/** A layout with one manifest, all types as they are given. */
function image(layerTypes: readonly string[], manifestType = MANIFEST, configType = `${OCI}.config.v1+json`): HandMade {
  const made = new HandMade();
  const layers = layerTypes.map((type) =>
    type.endsWith("+encrypted")
      ? encryptedLayer(store, ["alice"]).replace(/(mediaType":")[^"]*/, `$1${type}`)
      : `{"mediaType":"${type}","digest":"sha256:${"1".repeat(64)}","size":1}`,
  );
  const config = `{"mediaType":"${configType}",${made.blob("{}")}}`;
  const manifest = made.blob(
    `{ "mediaType":"${manifestType}", "config":${config},"layers":[${layers.join(",")}], "x":1.0}`,
  );
  made.index(`{"manifests":[{"mediaType":"${manifestType}",${manifest}}]}`);
  return made;
}

for (const [layerType, manifestType, clients, fixed] of [
  [`${OCI}.layer.v1.tar+encrypted`, MANIFEST, [], undefined],
  [`${OCI}.layer.v1.tar+gzip+encrypted`, MANIFEST, [], undefined],
  [`${OCI}.layer.v1.tar+zstd+encrypted`, MANIFEST, [], undefined],
  [`${OCI}.layer.nondistributable.v1.tar+gzip+encrypted`, MANIFEST, [CONTAINERD], undefined],
  [DOCKER_LAYER, MANIFEST, [CONTAINERD, GUESTS], `${OCI}.layer.v1.tar+gzip+encrypted`],
  [`${DOCKER}.image.rootfs.diff.tar+encrypted`, MANIFEST, [CONTAINERD, GUESTS], `${OCI}.layer.v1.tar+encrypted`],
  [
    `${DOCKER}.image.rootfs.diff.tar.zstd+encrypted`,
    MANIFEST,
    [CONTAINERD, GUESTS],
    `${OCI}.layer.v1.tar+zstd+encrypted`,
  ],
  [
    `${DOCKER}.image.rootfs.foreign.diff.tar.gzip+encrypted`,
    MANIFEST,
    [CONTAINERD, GUESTS],
    `${OCI}.layer.nondistributable.v1.tar+gzip+encrypted`,
  ],
  ["application/vnd.wasm.content.layer.v1+wasm+encrypted", MANIFEST, [CONTAINERD, GUESTS], undefined],
  ["application/wasm+encrypted", MANIFEST, [CONTAINERD, GUESTS], undefined],
  [`${OCI}.layer.v1.tar+gzip+encrypted+encrypted`, MANIFEST, [CONTAINERD, GUESTS], undefined],
  [`${OCI}.layer.v1.tar+gzip+encrypted`, DOCKER_MANIFEST, [CONTAINERS], undefined],
  [DOCKER_LAYER, DOCKER_MANIFEST, [CONTAINERS, CONTAINERD, GUESTS], `${OCI}.layer.v1.tar+gzip+encrypted`],
] as const) {
  test(`names who does not decrypt ${layerType} in ${manifestType}`, async () => {
    assert.equal(notDecryptedBy(layerType, manifestType), clients);
    assert.is(ociType(layerType), fixed);
    const opened = await openImage(`oci:${image([layerType, layerType], manifestType).dir}`);
    const found = foreignTypes(await inspectImage(opened, { nameOf: () => undefined }));
    assert.equal(
      found.map((type) => [type.mediaType, type.layers, type.notDecryptedBy]),
      clients.length === 0 ? [] : [[layerType, 2, clients]],
    );
  });
}

test("inspect warns on standard error, and names the command if it helps", () => {
  const fixable = `oci:${image([DOCKER_LAYER, `${OCI}.layer.v1.tar+gzip`]).dir}`;
  const { code, stdout, stderr } = cli("inspect", fixable, "--json");
  assert.is(code, 0);
  assert.is((JSON.parse(stdout) as { manifests: unknown[] }).manifests.length, 1);
  assert.is(
    stderr,
    `warning: 1 layer has the media type ${DOCKER_LAYER}, not decrypted by ${CONTAINERD}, ${GUESTS}; ` +
      `ocicrypt-keystore rewrap ${fixable} --fix-media-types gives OCI's\n`,
  );
  const wasm = cli("inspect", `oci:${image(["application/wasm+encrypted"]).dir}`).stderr;
  assert.match(wasm, /^warning: 1 layer has the media type application\/wasm\+encrypted, not decrypted by [^;]*\n$/);
});

async function fix(made: HandMade, opens = false): Promise<string> {
  const source = await openImage(`oci:${made.dir}`);
  const keys = openStore(opens ? store : makeStore("mallory"), noSecrets);
  const to = opens ? [await keys.recipient("bob")] : undefined;
  const request = { to, add: [], remove: new Set<string>(), from: undefined, as: undefined, fixMediaTypes: true };
  const { documents, root } = await planRewrap(source, request, keys);
  await source.write(documents, root);
  const digest = /sha256:\w+/.exec(made.read())?.[0];
  return made.read(digest);
}

test("--fix-media-types needs no key, changes docker's types in the manifest and above, and nothing else", async () => {
  const wasm = "application/wasm+encrypted";
  const made = image(
    [DOCKER_LAYER, `${DOCKER}.image.rootfs.diff.tar.gzip`, wasm],
    DOCKER_MANIFEST,
    `${DOCKER}.container.image.v1+json`,
  );
  const [before, above] = [made.read(/sha256:\w+/.exec(made.read())?.[0]), made.read()];
  const manifest = await fix(made);
  assert.is(
    manifest,
    before
      .replace(DOCKER_MANIFEST, MANIFEST)
      .replace(`${DOCKER}.container.image.v1+json`, `${OCI}.config.v1+json`)
      .replace(DOCKER_LAYER, `${OCI}.layer.v1.tar+gzip+encrypted`)
      .replace(`${DOCKER}.image.rootfs.diff.tar.gzip`, `${OCI}.layer.v1.tar+gzip`),
  );
  assert.ok(made.read().includes(`{"mediaType":"${MANIFEST}",`), made.read());
  assert.is.not(made.read(), above);
  const plain = image([`${DOCKER}.image.rootfs.diff.tar.gzip`], DOCKER_MANIFEST);
  const untouched = plain.read();
  await fix(plain);
  assert.is(plain.read(), untouched, "an image that is not encrypted stays docker's");
});

test("--fix-media-types makes a list of docker's an index, and goes with --to", async () => {
  const made = image([DOCKER_LAYER], DOCKER_MANIFEST);
  const list = `${DOCKER}.distribution.manifest.list.v2+json`;
  const entries = /\[(.*)\]/.exec(made.read())?.[1] ?? "";
  made.index(
    `{"manifests":[{"mediaType":"${list}",${made.blob(`{"mediaType":"${list}","manifests":[${entries}]}`)}}]}`,
  );
  const index = await fix(made, true);
  assert.match(made.read(), `{"mediaType":"${OCI}.index.v1+json",`);
  assert.ok(index.startsWith(`{"mediaType":"${OCI}.index.v1+json","manifests":[{"mediaType":"${MANIFEST}",`), index);
  assert.match(cli("inspect", `oci:${made.dir}`).stdout, /tar\+gzip\+encrypted .*encrypted\n.*: bob /);
});

test("says what it changed, or that there is nothing to change", () => {
  const made = image([DOCKER_LAYER]);
  const dry = cli("rewrap", `oci:${made.dir}`, "--fix-media-types", "--dry-run");
  assert.is(dry.code, 0, dry.stderr);
  assert.match(dry.stderr, `${DOCKER_LAYER} becomes ${OCI}.layer.v1.tar+gzip+encrypted\n`);
  const { code, stdout, stderr } = cli("rewrap", `oci:${made.dir}`, "--fix-media-types");
  assert.equal([code, stdout], [0, ""]);
  assert.match(stderr, /sha256:\w+ is now sha256:\w+\nsignatures/);
  assert.match(cli("rewrap", `oci:${made.dir}`, "--fix-media-types").stderr, /^nothing to change: no encrypted layer/);
});

testWith(skopeo, "a skopeo that knows provider:", "lets skopeo decrypt an image that it refused before", (tool) => {
  const [plain, dir] = [join(temporaryFolder(), "plain"), join(temporaryFolder(), "encrypted")];
  makeImage(plain, { layers: 2 });
  assert.ok(copy(tool, store, "--encryption-key", "provider:keystore:alice", `oci:${plain}`, `oci:${dir}:latest`).ok);
  const made = new HandMade();
  cpSync(join(dir, "blobs"), join(made.dir, "blobs"), { recursive: true });
  const manifest = new HandMade();
  cpSync(dir, manifest.dir, { recursive: true });
  const text = manifest
    .read(/sha256:\w+/.exec(manifest.read())?.[0])
    .replaceAll(`${OCI}.layer.v1.tar+gzip+encrypted`, DOCKER_LAYER)
    .replace(MANIFEST, DOCKER_MANIFEST)
    .replace(`${OCI}.config.v1+json`, `${DOCKER}.container.image.v1+json`);
  const reference = made.index(
    `{"schemaVersion":2,"manifests":[${entry(made.blob(text), tag("latest"), DOCKER_MANIFEST)}]}`,
  );
  const args = ["--decryption-key", "provider:keystore"];
  assert.not.ok(copy(tool, store, ...args, `${reference}:latest`, `oci:${temporaryFolder()}/x`).ok);
  const { code, stderr } = cli("rewrap", `${reference}:latest`, "--fix-media-types");
  assert.is(code, 0, stderr);
  assertDecrypts(tool, store, `${reference}:latest`, plain, ...args);
});

test.run();
