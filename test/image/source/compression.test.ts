// Compressed archives: read, changed and written back as they were; bounded, and nothing is left behind.

import { spawnSync } from "node:child_process";
import { closeSync, fstatSync, openSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync, gzipSync, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { errorLine } from "../../../src/errors.ts";
import { inspectImage, type ManifestReport } from "../../../src/image/inspect.ts";
import { planRewrap } from "../../../src/image/rewrap.ts";
import { compressionOf, unpack, UNPACK_LIMITS } from "../../../src/image/source/compression.ts";
import { openImage } from "../../../src/image/source/open.ts";
import { openStore } from "../../../src/keystore/store.ts";
import { encryptedLayer, HandMade } from "../../support/encrypted-images.ts";
import { temporaryFolder } from "../../support/folders.ts";
import { makeStore, noSecrets } from "../../support/stores.ts";

const dir = makeStore("alice", "bob");
const store = openStore(dir, noSecrets);
const layout = new HandMade();
const manifest = layout.blob(`{"layers":[${encryptedLayer(dir, ["alice"])}]}`);
layout.index(`{"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json",${manifest}}]}`);
layout.blob("a layer ".repeat(100_000));
const packed = spawnSync("tar", ["-c", "-C", layout.dir, "."], { maxBuffer: 1e8 }).stdout;
const halves = [packed.subarray(0, 5000), packed.subarray(5000)];
// The magic number of a skippable frame, its length and its content.
const SKIPPABLE = Buffer.from([0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4]);

function archive(bytes: Buffer): string {
  const file = join(temporaryFolder(), "an image.tar.gz");
  writeFileSync(file, bytes);
  return file;
}

const inspected = async (file: string): Promise<ManifestReport[]> =>
  await inspectImage(await openImage(`oci-archive:${file}`), { nameOf: () => undefined, verifyWith: store });

async function rewrap(file: string): Promise<void> {
  const image = await openImage(`oci-archive:${file}`);
  const to = [await store.recipient("bob")];
  const request = { to, add: [], remove: new Set<string>(), from: undefined, as: undefined, fixMediaTypes: false };
  const { documents, root, renamed } = await planRewrap(image, request, store);
  await image.write(documents, root);
  await (await openImage(`oci-archive:${file}`)).prune?.([...renamed.keys()]);
}

const failure = async (work: Promise<unknown>): Promise<string> =>
  errorLine(
    await work.then(
      () => new Error("it did not fail"),
      (error: unknown) => error,
    ),
  );

for (const [name, bytes, decompress] of [
  ["gzip", gzipSync(packed), gunzipSync],
  [
    "gzip in two streams, with zeros behind them",
    Buffer.concat([...halves.map((half) => gzipSync(half)), Buffer.alloc(9999)]),
    gunzipSync,
  ],
  ["zstd", zstdCompressSync(packed), zstdDecompressSync],
  [
    "zstd in frames, some of which are to be skipped",
    Buffer.concat([SKIPPABLE, ...halves.map((half) => zstdCompressSync(half)), SKIPPABLE]),
    zstdDecompressSync,
  ],
] as const) {
  test(`reads an archive that is compressed with ${name}, and writes it back so`, async () => {
    const file = archive(bytes);
    const kids = async (): Promise<(string | undefined)[]> =>
      (await inspected(file)).flatMap(({ layers }) =>
        layers.flatMap(({ annotations }) =>
          annotations.flatMap(({ parts }) => parts.flatMap(({ recipients }) => recipients.map(({ kid }) => kid))),
        ),
      );
    assert.equal(await kids(), store.kidsOf("alice")?.slice(0, 1));
    await rewrap(file);
    assert.equal(await kids(), store.kidsOf("bob")?.slice(0, 1));
    const unpacked = temporaryFolder();
    const tar = decompress(readFileSync(file));
    assert.is(spawnSync("tar", ["-x", "-C", unpacked], { input: tar }).status, 0);
    assert.is(readdirSync(join(unpacked, "blobs/sha256")).length, 2); // the old manifest is pruned
    assert.equal(readdirSync(join(file, "..")), ["an image.tar.gz"]);
  });
}

test("refuses what is damaged, cut off or compressed in another way, and says what to do", async () => {
  const [gzip, zstd] = [gzipSync(packed), zstdCompressSync(packed)];
  const damaged = Buffer.from(gzip);
  damaged.fill(7, 1000, 1100);
  for (const [bytes, line] of [
    [gzip.subarray(0, -4), /an image\.tar\.gz is cut off; /],
    [zstd.subarray(0, -100), /is cut off; /],
    [damaged, /cannot be decompressed \(Z_DATA_ERROR\); /],
    [Buffer.concat([gzip, Buffer.from("more")]), /cannot be decompressed \(Z_DATA_ERROR\); /],
    [Buffer.concat([zstd, gzip]), /has something after its end; /],
    [gzipSync(gzip), /is no tar file; /],
    [gzipSync(""), /is no tar file; /],
    [Buffer.from("BZh91AY&SY"), /is compressed with bzip2, which is not read here; decompress it first: bzip2 -d/],
    [Buffer.from("fd377a585a000004", "hex"), /is compressed with xz, .*: xz -d/],
  ] as const) {
    const file = archive(bytes);
    assert.match(await failure(inspected(file)), line);
    assert.match(await failure(rewrap(file)), line);
    assert.ok(readFileSync(file).equals(bytes));
  }
});

test("refuses a file that unpacks to more than the limit for its size, or has too many streams", async () => {
  const zeros = Buffer.alloc(3 * 1024 * 1024);
  const limits = { bytes: 1024 * 1024, times: 2, parts: 3 };
  for (const bytes of [
    gzipSync(zeros),
    zstdCompressSync(zeros),
    Buffer.concat([zstdCompressSync(zeros.subarray(0, 700_000)), zstdCompressSync(zeros.subarray(0, 700_000))]),
  ]) {
    const fd = openSync(archive(bytes), "r");
    const compression = compressionOf(fd, "it");
    assert.ok(compression);
    assert.match(
      await failure(unpack(fd, "it", compression, limits)),
      /it decompresses to more than 1 MiB, the limit for its size; .*decompress it yourself: (gzip|zstd) -d/,
    );
    const unpacked = await unpack(fd, "it", compression, { ...limits, bytes: zeros.length });
    assert.is(fstatSync(unpacked).nlink, 0); // nothing of it is left when this process ends
    closeSync(unpacked);
    closeSync(fd);
  }
  const fd = openSync(archive(Buffer.concat(Array.from({ length: 4 }, () => SKIPPABLE))), "r");
  const compression = compressionOf(fd, "it");
  assert.ok(compression);
  assert.match(await failure(unpack(fd, "it", compression, limits)), /more than 3 compressed streams/);
  closeSync(fd);
  assert.ok(UNPACK_LIMITS.bytes >= 1024 ** 3);
});

test.run();
