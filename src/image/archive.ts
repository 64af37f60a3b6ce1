// An image in a tar file of an OCI layout: oci-archive:FILE[:TAG]. It is read once, and written anew beside itself.

import { randomBytes } from "node:crypto";
import { createReadStream, createWriteStream, realpathSync, renameSync, rmSync, statSync, type Stats } from "node:fs";
import { dirname, posix } from "node:path";
import { pipeline } from "node:stream/promises";
import { extract, pack, type Extract, type Header, type Pack } from "tar-stream";
import { KeystoreError } from "../errors.ts";
import { syncFolder } from "../keystore/files.ts";
import type { ImageStore } from "./image.ts";
import { layoutRoot } from "./layout.ts";
import { changedMeanwhile, damaged, LIMITS } from "./oci.ts";

const DOCUMENT_START = Buffer.from("{ \t\r\n"); // no compressed layer starts with one of these
const MAX_DOCUMENTS = 256 * 1024 * 1024; // bytes of all that may be a document

/** Opens the image `tag` of an archive, or all of its images. */
export async function openArchive(path: string, tag: string | undefined): Promise<ImageStore> {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined) throw new KeystoreError("image", `there is no archive ${path}`, "check the path");
  if (!stat.isFile()) throw damaged(path, "is not a regular file");
  const file = realpathSync(path); // a link to it stays one
  const documents = await readDocuments(file);
  const index = documents.get("index.json");
  if (index === undefined) throw damaged(file, "has no index.json: it is no OCI archive");
  return {
    root: async () => layoutRoot(index, tag, file),
    read: async ({ digest }) => documents.get(blobName(digest)) ?? missing(file, digest),
    write: async (fresh, root) => {
      const added = new Map([...fresh.map(({ digest, bytes }) => [blobName(digest), bytes] as const), ["index.json", Buffer.from(root)] as const]);
      await rewriteArchive(file, stat, added, new Set());
    },
    prune: async (digests) => {
      await rewriteArchive(file, stat, new Map(), new Set(digests.map(blobName)));
    },
  };
}

function blobName(digest: string): string {
  return `blobs/${digest.replace(":", "/")}`;
}

function missing(file: string, digest: string): never {
  throw damaged(file, `has no document ${digest}`);
}

/** Everything in the archive that may be a document, by its normalized name: the last entry of a name counts, as for who unpacks it. */
async function readDocuments(file: string): Promise<Map<string, Buffer>> {
  const documents = new Map<string, Buffer>();
  const entries = extract();
  const reading = pipeline(createReadStream(file), entries).catch(() => {
    throw damaged(file, "is no tar file, or is cut off");
  });
  let total = 0;
  try {
    for await (const entry of entries) {
      const chunks: Buffer[] = [];
      let wanted = isFile(entry.header) && (entry.header.size ?? 0) <= LIMITS.documentBytes;
      for await (const chunk of entry) {
        if (!Buffer.isBuffer(chunk)) continue;
        wanted &&= chunks.length > 0 || DOCUMENT_START.includes(chunk[0] ?? 0);
        if (wanted) chunks.push(chunk);
      }
      const bytes = Buffer.concat(chunks);
      if ((total += bytes.length) > MAX_DOCUMENTS) throw damaged(file, "has too many documents");
      if (bytes.length > 0) documents.set(entryName(entry.header), bytes);
      else documents.delete(entryName(entry.header));
    }
  } catch (error) {
    entries.destroy();
    await reading; // which tells why, where it is the archive's fault
    throw error;
  }
  await reading;
  return documents;
}

function isFile({ type }: Header): boolean {
  return type === "file" || type === "contiguous-file";
}

function entryName({ name }: Header): string {
  return posix.normalize(`/${name}`).slice(1);
}

/** Copies the archive with new entries in place of the old, and puts it in place by rename, unless it is no longer the one that was read. */
async function rewriteArchive(file: string, read: Stats, added: ReadonlyMap<string, Buffer>, pruned: ReadonlySet<string>): Promise<void> {
  const temporary = `${file}.tmp-${randomBytes(8).toString("hex")}`;
  const [entries, archive] = [extract(), pack()];
  const copy = async (): Promise<void> => {
    await copyEntries(entries, archive, (name) => !added.has(name) && !pruned.has(name), file);
    for (const [name, bytes] of added) await addEntry(archive, name, bytes);
    archive.finalize();
  };
  try {
    const output = createWriteStream(temporary, { flags: "wx", flush: true, mode: read.mode & 0o777 });
    await Promise.all([pipeline(createReadStream(file), entries), copy(), pipeline(archive, output)]);
    const { ino, mtimeMs, size } = statSync(file);
    if (ino !== read.ino || mtimeMs !== read.mtimeMs || size !== read.size) throw changedMeanwhile(file);
    renameSync(temporary, file);
    syncFolder(dirname(file));
  } catch (error) {
    entries.destroy();
    archive.destroy();
    rmSync(temporary, { force: true });
    throw error;
  }
}

async function copyEntries(entries: Extract, archive: Pack, wanted: (name: string) => boolean, file: string): Promise<void> {
  for await (const entry of entries) {
    // tar-stream knows no sparse files and would copy the holes away.
    if ((entry.header.type ?? null) === null) throw damaged(file, `has an entry of a kind that cannot be copied, ${entry.header.name}`);
    if (wanted(entryName(entry.header))) await pipeline(entry, archive.entry(entry.header));
    else entry.resume();
  }
}

async function addEntry(archive: Pack, name: string, bytes: Buffer): Promise<void> {
  await new Promise<void>((resolve, reject) => archive.entry({ name, size: bytes.length, mode: 0o644 }, bytes, (error) => (error ? reject(error) : resolve())));
}
