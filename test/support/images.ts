// A small real OCI image layout, made without any tool, and a look at its layers.

import { createCipheriv, createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";

/** What to make. */
export interface ImageOptions {
  /** `latest` by default. */
  readonly tag?: string;
  /** How many: 1 by default. */
  readonly layers?: number;
  /** Size of the one file in each layer, in bytes: 4,096 by default. */
  readonly layerBytes?: number;
  /**
   * `gzip` by default. skopeo compresses plain layers on their way, unless told
   * `--dest-oci-accept-uncompressed-layers`.
   */
  readonly compression?: keyof typeof COMPRESSIONS;
  /** Of the content of its files: 0 by default. Images of different seeds share no layer. */
  readonly seed?: number;
}

/** A layer as its manifest describes it. */
export interface Layer {
  readonly mediaType: string;
  readonly digest: string;
  /** In bytes. */
  readonly size: number;
  readonly annotations: Readonly<Record<string, string>>;
}

interface Descriptor extends Omit<Layer, "annotations"> {
  readonly annotations?: Readonly<Record<string, string>>;
}

interface Manifest {
  readonly manifests?: readonly Descriptor[];
  readonly layers?: readonly Descriptor[];
}

const OCI = "application/vnd.oci.image";
/** What stands behind a layer's media type, and how its bytes are made. */
const COMPRESSIONS = {
  gzip: { suffix: "+gzip", compress: (tarball: Buffer): Buffer => gzipSync(tarball) },
  zstd: { suffix: "+zstd", compress: (tarball: Buffer): Buffer => zstdCompressSync(tarball) },
  none: { suffix: "", compress: (tarball: Buffer): Buffer => tarball },
} as const;
const REF_NAME = "org.opencontainers.image.ref.name";
const CREATED = "1970-01-01T00:00:00Z"; // the same options make the same digests
const ARCHITECTURES: Partial<Record<string, string>> = { x64: "amd64" };

/** Makes an image layout in `dir`, parents included, with one image for this machine's architecture. */
export function makeImage(
  dir: string,
  { tag = "latest", layers = 1, layerBytes = 4096, compression = "gzip", seed = 0 }: ImageOptions = {},
): void {
  const { suffix, compress } = COMPRESSIONS[compression];
  mkdirSync(join(dir, "blobs/sha256"), { recursive: true });
  const tars = Array.from({ length: layers }, (_, index) => tar(`layer-${index}.bin`, noise(seed + index, layerBytes)));
  const config = {
    created: CREATED,
    architecture: ARCHITECTURES[process.arch] ?? process.arch,
    os: "linux",
    config: { Cmd: ["/layer-0.bin"] },
    rootfs: { type: "layers", diff_ids: tars.map(digest) },
    history: tars.map((_, index) => ({ created: CREATED, created_by: `layer ${index}` })),
  };
  const manifest = {
    schemaVersion: 2,
    mediaType: `${OCI}.manifest.v1+json`,
    config: addBlob(dir, `${OCI}.config.v1+json`, json(config)),
    layers: tars.map((bytes) => addBlob(dir, `${OCI}.layer.v1.tar${suffix}`, compress(bytes))),
  };
  const entry = { ...addBlob(dir, manifest.mediaType, json(manifest)), annotations: { [REF_NAME]: tag } };
  writeFileSync(
    join(dir, "index.json"),
    json({ schemaVersion: 2, mediaType: `${OCI}.index.v1+json`, manifests: [entry] }),
  );
  writeFileSync(join(dir, "oci-layout"), json({ imageLayoutVersion: "1.0.0" }));
}

/** The layers of the image `tag`, or of the first one; of a multi-platform image, those of its first platform. */
export function manifestLayers(dir: string, tag?: string): Layer[] {
  let document = readManifest(join(dir, "index.json"));
  let wanted = tag;
  while (document.manifests !== undefined) {
    const entry = document.manifests.find(
      ({ annotations }) => wanted === undefined || annotations?.[REF_NAME] === wanted,
    );
    if (entry === undefined) throw new Error(`no image ${tag ?? ""} in ${dir}`);
    document = readManifest(blobPath(dir, entry.digest));
    wanted = undefined;
  }
  return (document.layers ?? []).map(({ annotations = {}, ...layer }) => ({ ...layer, annotations }));
}

/** The digests of {@link manifestLayers}. */
export function layerDigests(dir: string, tag?: string): string[] {
  return manifestLayers(dir, tag).map((layer) => layer.digest);
}

function readManifest(path: string): Manifest {
  return JSON.parse(readFileSync(path, "utf8")) as Manifest;
}

function addBlob(dir: string, mediaType: string, bytes: Buffer): Descriptor {
  const descriptor = { mediaType, digest: digest(bytes), size: bytes.length };
  writeFileSync(blobPath(dir, descriptor.digest), bytes);
  return descriptor;
}

function blobPath(dir: string, name: string): string {
  return join(dir, "blobs", name.replace(":", "/"));
}

function digest(bytes: Buffer): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}

function noise(seed: number, length: number): Buffer {
  const key = createHash("sha256").update(`layer ${seed}`).digest();
  return createCipheriv("aes-256-ctr", key, Buffer.alloc(16)).update(Buffer.alloc(length));
}

// A ustar archive of one file: header and content in blocks of 512 bytes, two empty ones at the end.
function tar(name: string, content: Buffer): Buffer {
  const header = Buffer.alloc(512);
  const octal = (value: number, at: number, digits: number): number =>
    header.write(value.toString(8).padStart(digits, "0"), at);
  header.write(name, 0);
  octal(0o644, 100, 7); // mode; owner, group and time of change follow
  octal(0, 108, 7);
  octal(0, 116, 7);
  octal(content.length, 124, 11);
  octal(0, 136, 11);
  header.write("        0", 148); // the checksum counts as spaces; type 0 is a regular file
  header.write("ustar\u000000", 257);
  octal(
    header.reduce((sum, byte) => sum + byte, 0),
    148,
    6,
  );
  header[154] = 0;
  return Buffer.concat([header, content, Buffer.alloc(1024 + ((512 - (content.length % 512)) % 512))]);
}
