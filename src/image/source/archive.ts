// An image in a tar file of an OCI layout: oci-archive:FILE[:TAG]. A change writes a new file and renames it.

import { randomBytes } from "node:crypto";
import {
  closeSync,
  createWriteStream,
  fstatSync,
  openSync,
  readSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  type Stats,
} from "node:fs";
import { dirname } from "node:path";
import { pipeline } from "node:stream/promises";
import { pack } from "tar-stream";
import { imageError, KeystoreError } from "../../errors.ts";
import { syncFolder } from "../../fs/write.ts";
import { changedMeanwhile, damagedImage, IMAGE_LIMITS } from "../documents.ts";
import { chunksOf, compressionOf, unpack, type Compression } from "./compression.ts";
import type { ImageSource } from "./source.ts";
import { layoutRoot } from "./layout.ts";
import { keepOwner } from "./owner.ts";
import { readTar, type TarEntry } from "./tar.ts";

const INDEX = "index.json";
const SIGNALS = ["SIGHUP", "SIGINT", "SIGTERM"] as const;

/** An archive as it was read. */
interface Archive {
  readonly file: string;
  readonly stat: Stats;
  readonly entries: readonly TarEntry[];
  /** If it is compressed: how, and the descriptor of the tar that was unpacked. */
  readonly unpacked: { readonly compression: Compression; readonly fd: number } | undefined;
}

/** Opens the image `tag` of an archive, or all of its images. */
export async function openArchive(path: string, tag: string | undefined): Promise<ImageSource> {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined) throw imageError(`there is no archive ${path}`, "check the path");
  if (stat.isDirectory())
    throw imageError(`${path} is not a regular file`, `for a layout in a folder, use oci:${path}`);
  if (!stat.isFile()) throw damagedImage(path, "is not a regular file");
  if (stat.size === 0) throw damagedImage(path, "is empty"); // files of /proc say so too, and some never end
  const file = realpathSync(path); // keep a symlink: replace its target
  const archive = await readArchive(file);
  const files = new Map(archive.entries.filter(({ kind }) => kind === "file").map((entry) => [entry.name, entry]));
  const index = files.get(INDEX);
  if (index === undefined && files.has("manifest.json")) throw dockerArchive(`oci-archive:${path}`, path);
  if (index === undefined) throw damagedImage(file, "has no index.json: it is no OCI archive");
  return {
    root: async () => layoutRoot(await readContent(archive, index), tag, file),
    read: async ({ digest }) => {
      const entry = files.get(blobName(digest));
      return entry && (await readContent(archive, entry));
    },
    write: async (documents, newRoot) => {
      const added = new Map(documents.map(({ digest, bytes }) => [blobName(digest), bytes]));
      await rewriteArchive(archive, added.set(INDEX, Buffer.from(newRoot)), new Set());
    },
    prune: async (digests) => {
      await rewriteArchive(archive, new Map(), new Set(digests.map(blobName)));
    },
  };
}

function blobName(digest: string): string {
  return `blobs/${digest.replace(":", "/")}`;
}

/** docker save's own format has no media types and no annotations, so no place for wrapped keys. */
function dockerArchive(image: string, path: string): KeystoreError {
  const message = `${image} is a docker archive, which cannot hold encrypted layers`;
  return imageError(message, `convert it with skopeo copy docker-archive:${path} oci:DIR, and encrypt that`);
}

async function readArchive(file: string): Promise<Archive> {
  const fail = (reason: string): Error => badTar(file, reason);
  const fd = openSync(file, "r");
  try {
    const stat = fstatSync(fd);
    const compression = compressionOf(fd, file);
    if (compression === undefined) return { file, stat, entries: readTar(fd, fail), unpacked: undefined };
    const unpacked = { compression, fd: await unpack(fd, file, compression) };
    refuseOther(file, statSync(file), stat);
    return { file, stat, entries: readTar(unpacked.fd, fail), unpacked };
  } finally {
    closeSync(fd);
  }
}

function badTar(file: string, reason: string): KeystoreError {
  const rule = "an OCI archive is a tar of plain files and folders, each of them once";
  return imageError(`${file} ${reason}`, `${rule}: fetch it again, or write it with skopeo copy`);
}

/**
 * Works with the tar.
 *
 * @throws KeystoreError `image` if the archive was replaced meanwhile
 */
async function withTar<T>({ file, stat, unpacked }: Archive, work: (fd: number) => T | Promise<T>): Promise<T> {
  if (unpacked !== undefined) return await work(unpacked.fd);
  const fd = openSync(file, "r");
  try {
    refuseOther(file, fstatSync(fd), stat);
    return await work(fd);
  } finally {
    closeSync(fd);
  }
}

/** The bytes of a document. @throws KeystoreError `image` if it is larger than one may be */
async function readContent(archive: Archive, { name, content, size }: TarEntry): Promise<Buffer> {
  if (size > IMAGE_LIMITS.documentBytes) throw damagedImage(`${name} of ${archive.file}`, "is larger than 4 MiB");
  const bytes = Buffer.alloc(size);
  return await withTar(archive, (fd) => {
    for (let at = 0, count = -1; at < size && count !== 0; at += count) {
      count = readSync(fd, bytes, at, size - at, content + at);
    }
    return bytes;
  });
}

function refuseOther(file: string, now: Stats, read: Stats): void {
  if (now.ino !== read.ino || now.mtimeMs !== read.mtimeMs || now.size !== read.size) throw changedMeanwhile(file);
}

type Entries = ReadonlyMap<string, Buffer>;

/**
 * Copies the archive with new entries in place of the old, and renames the copy over it.
 *
 * @throws KeystoreError `image` if the archive is no longer the one that was read
 */
async function rewriteArchive(archive: Archive, added: Entries, pruned: ReadonlySet<string>): Promise<void> {
  const { file, stat, unpacked } = archive;
  const temporary = `${file}.tmp-${randomBytes(8).toString("hex")}`;
  await withTemporary(temporary, async () => {
    const fd = openSync(temporary, "wx", 0o600);
    const output = createWriteStream(temporary, { fd, flush: true });
    keepOwner(fd, stat);
    await withTar(archive, async (tar) => {
      const bytes = newArchive(tar, archive.entries, added, pruned);
      if (unpacked === undefined) await pipeline(bytes, output);
      else await pipeline(bytes, unpacked.compression.compress(), output); // as it was
    });
    refuseOther(file, statSync(file), stat);
    renameSync(temporary, file);
    syncFolder(dirname(file));
  });
}

/** The tar with some entries replaced or left out. All else is copied as it is, with extension headers. */
async function* newArchive(
  fd: number,
  entries: readonly TarEntry[],
  added: Entries,
  pruned: ReadonlySet<string>,
): AsyncGenerator {
  let start = 0; // global headers and what stands between entries stay, too
  for (const entry of entries) {
    if (!added.has(entry.name) && !pruned.has(entry.name)) continue;
    yield* chunksOf(fd, start, entry.start);
    start = entry.end;
  }
  yield* chunksOf(fd, start, entries.at(-1)?.end ?? 0);
  const fresh = pack();
  for (const [name, bytes] of added) fresh.entry({ name, size: bytes.length, mode: 0o644 }, bytes);
  fresh.finalize(); // which writes the end of the archive
  yield* fresh;
}

/** Removes a temporary file where the work fails, and where a signal ends this process meanwhile. */
async function withTemporary(path: string, work: () => Promise<void>): Promise<void> {
  const end = (signal: NodeJS.Signals): void => {
    rmSync(path, { force: true });
    process.kill(process.pid, signal); // nobody listens to it any more
  };
  for (const signal of SIGNALS) process.once(signal, end);
  try {
    await work();
  } catch (error) {
    rmSync(path, { force: true });
    throw error;
  } finally {
    for (const signal of SIGNALS) process.off(signal, end);
  }
}
