// Entries of an index that are not there, or are no images: they are shown and left alone, and nothing is claimed of them.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { errorLine } from "../../src/errors.ts";
import { inspectImage, type ManifestReport } from "../../src/image/inspect.ts";
import { planRewrap } from "../../src/image/rewrap.ts";
import { openImage } from "../../src/image/source/open.ts";
import { openStore } from "../../src/keystore/store.ts";
import { encryptedLayer, entry, HandMade, INDEX, MANIFEST, tag } from "../support/encrypted-images.ts";
import { assertFailure, run } from "../support/program.ts";
import { kidOf, makeStore, noSecrets } from "../support/stores.ts";

const store = makeStore("alice", "bob");
const cli = (...args: readonly string[]): { code: number | null; stdout: string; stderr: string } =>
  run([...args, "--keystore", store]);
const absent = (digit: string): string => `"digest":"sha256:${digit.repeat(64)}","size":9`;
const platform = (architecture: string, variant = ""): string =>
  `,"platform":{"os":"linux","architecture":"${architecture}"${variant === "" ? "" : `,"variant":"${variant}"`}}`;
const inspected = async (reference: string): Promise<ManifestReport[]> =>
  await inspectImage(await openImage(reference), { nameOf: () => undefined });

/** A layout as docker save leaves it: an index of which one platform is there. `more` are its other entries. */
function saved(...more: readonly string[]): { image: HandMade; reference: string } {
  const image = new HandMade();
  const manifest = image.blob(`{"layers":[${encryptedLayer(store, ["alice"])}]}`);
  const inner = image.blob(`{"manifests":[${[...more, entry(manifest, platform("amd64"))].join(",")}]}`);
  return { image, reference: image.index(`{"manifests":[${entry(inner, "", INDEX)}]}`) };
}

const DATA = '<?xml version="1.0"?>';
const others = (image: HandMade): string[] => [
  entry(image.blob(DATA), platform("s390x"), "application/xml"),
  entry(absent("7"), "", "application/vnd.example+json"),
  entry('"digest":"sha256:' + "8".repeat(64) + '","size":999999999999', "", "text/plain"),
];

test("shows a platform that is not in the image, and says so in JSON", async () => {
  const { reference } = saved(entry(absent("1"), platform("arm64", "v8")), entry(absent("2"), "", INDEX));
  const { code, stdout } = cli("inspect", reference);
  assert.is(code, 0);
  assert.match(stdout, /^ {2}linux\/arm64\/v8 {2}not in this image {2}sha256:1{64}$/m);
  assert.match(stdout, /^ {2}manifest {2}not in this image {2}sha256:2{64}$/m);
  assert.match(stdout, /^ {2}linux\/amd64 {2}sha256:\w+$/m);
  const [arm, index, amd] = await inspected(reference);
  assert.equal(arm, { digest: `sha256:${"1".repeat(64)}`, platform: "linux/arm64/v8", absent: true, layers: [] });
  assert.equal(index, { digest: `sha256:${"2".repeat(64)}`, absent: true, layers: [] });
  assert.equal([amd?.absent, amd?.layers.length], [undefined, 1]);
});

test("--require-encrypted cannot tell of what is not there", () => {
  const { reference } = saved(entry(absent("1"), platform("arm64")));
  const { code, stderr } = cli("inspect", reference, "--require-encrypted");
  assert.is(code, 1);
  assert.match(stderr, /^ocicrypt-keystore: cannot tell whether oci:.* is encrypted: it does not have linux\/arm64; /);
  assert.is(cli("inspect", saved().reference, "--require-encrypted").code, 0);
});

test("rewraps what is there, leaves the entries of the rest byte for byte and says so", async () => {
  const odd = ` { "size" : 9, "digest":"sha256:${"1".repeat(64)}", "x":1.0, "mediaType":"${MANIFEST}"${platform("arm64")}} `;
  const { image, reference } = saved(odd);
  const { code, stderr } = cli("rewrap", reference, "--to", "bob");
  assert.is(code, 0, stderr);
  assert.match(stderr, `linux/arm64 sha256:${"1".repeat(64)} is not in this image: its entry stays as it is`);
  const digest = /sha256:\w+/.exec(image.read())?.[0];
  assert.ok(image.read(digest).startsWith(`{"manifests":[${odd},`));
  assert.match(cli("inspect", reference).stdout, /bob/);
});

test("refuses a layout in which nothing is there that was named", () => {
  const image = new HandMade();
  const there = entry(image.blob(`{"layers":[${encryptedLayer(store, ["alice"])}]}`));
  const reference = image.index(`{"manifests":[${entry(absent("3"), tag("a"))},${there}]}`);
  for (const name of [`${reference}:a`, `${reference}:@0`]) {
    assert.match(assertFailure(cli("inspect", name), 1), /cannot read blobs\/sha256\/3{64}: ENOENT; .*not complete/);
  }
  assert.is(cli("inspect", reference).code, 0);
});

test("does not call an image unencrypted whose manifests are all absent", async () => {
  const image = new HandMade();
  const inner = image.blob(`{"manifests":[${entry(absent("5"), platform("arm64"))}]}`);
  const source = await openImage(image.index(`{"manifests":[${entry(inner, "", INDEX)}]}`));
  const remove = new Set([kidOf(store, "bob")]);
  const request = { to: undefined, add: [], remove, from: undefined, as: undefined, fixMediaTypes: false };
  const error: unknown = await planRewrap(source, request, openStore(store, noSecrets)).catch((one: unknown) => one);
  assert.match(errorLine(error), /lacks every manifest that it names; copy all of it there: skopeo copy --all/);
});

test("tells several images of a layout apart, by what names them", async () => {
  const image = new HandMade();
  const manifest = (layers: string): string => entry(image.blob(`{"layers":[${layers}]}`), platform("amd64"));
  const tagged = entry(absent("4"), tag("v1"));
  const inner = image.blob(`{"manifests":[${manifest("")},${entry(absent("5"))}]}`);
  const reference = image.index(
    `{"manifests":[${manifest(encryptedLayer(store, ["alice"]))},${tagged},${entry(inner, "", INDEX)}]}`,
  );
  const names = (reports: readonly ManifestReport[]): unknown[] => reports.map(({ name }) => name);
  assert.equal(names(await inspected(reference)), ["@0", "v1", "@2", "@2"]);
  assert.equal(names(await inspected(`${reference}:@2`)), [undefined, undefined]);
  assert.match(cli("inspect", reference).stdout, /^ {2}linux\/amd64 {2}sha256:\w+ {2}:@0$[^]*sha256:5{64} {2}:@2$/m);
});

test("lists entries of other media types as such, reads nothing of them and leaves them alone", async () => {
  const { image } = saved();
  const manifest = image.blob(`{"layers":[${encryptedLayer(store, ["alice"])}]}`);
  const entries = others(image);
  const reference = image.index(`{"manifests":[${[...entries, entry(manifest)].join(",")}]}`);
  const before = cli("inspect", reference, "--require-encrypted");
  assert.is(before.code, 0, before.stderr);
  assert.match(before.stdout, /^ {2}other {2}sha256:\w+ {2}application\/xml {2}:@0$/m);
  const [xml] = await inspected(reference);
  assert.equal([xml?.other, xml?.mediaType, xml?.platform, xml?.layers], [true, "application/xml", "linux/s390x", []]);
  const rewrapped = cli("rewrap", reference, "--to", "bob", "--prune");
  assert.is(rewrapped.code, 0, rewrapped.stderr);
  assert.match(rewrapped.stderr, /sha256:8{64} is of the media type text\/plain: its entry stays as it is/);
  assert.ok(image.read().startsWith(`{"manifests":[${entries.join(",")},`));
  assert.is(image.read(/sha256:\w+/.exec(entries[0] ?? "")?.[0]), DATA);
});

test("--require-encrypted is not misled by a manifest of another media type: a registry's client goes by the content", () => {
  const { image } = saved();
  const manifest = image.blob(`{"layers":[${encryptedLayer(store, ["alice"])}]}`);
  const plain = `{"layers":[{"mediaType":"x","digest":"sha256:${"9".repeat(64)}","size":1}]}`;
  for (const hidden of [plain, `{"manifests":[${entry(image.blob(plain))}]}`]) {
    const disguised = entry(image.blob(hidden), platform("amd64"), "application/vnd.other+json");
    const reference = image.index(`{"manifests":[${disguised},${entry(manifest)}]}`);
    const { code, stderr } = cli("inspect", reference, "--require-encrypted");
    assert.is(code, 1);
    assert.match(stderr, /cannot tell whether .*: some clients take linux\/amd64 for an image; .*vnd\.other\+json/);
  }
});

test("--require-encrypted is not misled by one of docker's first manifests, which some clients still run", async () => {
  const { image } = saved();
  const old = "application/vnd.docker.distribution.manifest.v1+prettyjws";
  const first = entry(image.blob('{"schemaVersion":1,"fsLayers":[]}'), platform("amd64"), old);
  const [report] = await inspected(image.index(`{"manifests":[${first},${entry(absent("1"))}]}`));
  assert.equal([report?.other, report?.disguised], [true, true]);
});

test.run();
