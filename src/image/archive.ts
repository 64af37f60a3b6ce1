// An image in a tar file of an OCI layout: oci-archive:FILE[:TAG]. It is read once, and written anew beside itself.

import { createReadStream, createWriteStream, existsSync, renameSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import { pipeline } from "node:stream/promises";
import { extract, pack, type Header, type Pack } from "tar-stream";
import { KeystoreError } from "../errors.ts";
import { syncFolder } from "../keystore/files.ts";
import type { ImageStore } from "./image.ts";
import { layoutRoot } from "./layout.ts";
import { damaged, LIMITS } from "./oci.ts";

const BRACE = 0x7b; // what a document starts with, and no compressed layer does

/** Opens the image `tag` of an archive, or all of its images. */
export async function openArchive(file: string, tag: string | undefined): Promise<ImageStore> {
  if (!existsSync(file)) throw new KeystoreError("image", `there is no archive ${file}`, "check the path");
  const documents = await readDocuments(file);
  const index = documents.get("index.json");
  if (index === undefined) throw damaged(file, "has no index.json: it is no OCI archive");
  const pruned = new Set<string>();
  return {
    root: async () => layoutRoot(index, tag, file),
    read: async ({ digest }) => documents.get(blobName(digest)) ?? missing(file, digest),
    write: async (fresh, root) => {
      const added = new Map([...fresh.map(({ digest, bytes }) => [blobName(digest), bytes] as const), ["index.json", Buffer.from(root)] as const]);
      await rewriteArchive(file, added, pruned);
    },
    prune: async (digests) => {
      for (const digest of digests) pruned.add(blobName(digest));
      await rewriteArchive(file, new Map(), pruned);
    },
  };
}

function blobName(digest: string): string {
  return `blobs/${digest.replace(":", "/")}`;
}

function missing(file: string, digest: string): never {
  throw damaged(file, `has no document ${digest}`);
}

/** Everything in the archive that may be a document, by its normalized name. */
async function readDocuments(file: string): Promise<Map<string, Buffer>> {
  const documents = new Map<string, Buffer>();
  const entries = extract();
  const reading = pipeline(createReadStream(file), entries).catch(() => {
    throw damaged(file, "is no tar file");
  });
  try {
    for await (const entry of entries) {
      const chunks: Buffer[] = [];
      let wanted = (entry.header.size ?? 0) <= LIMITS.documentBytes;
      for await (const chunk of entry) {
        if (!Buffer.isBuffer(chunk)) continue;
        wanted &&= chunks.length > 0 || chunk[0] === BRACE;
        if (wanted) chunks.push(chunk);
      }
      if (wanted && chunks.length > 0) documents.set(entryName(entry.header), Buffer.concat(chunks));
    }
  } finally {
    await reading;
  }
  return documents;
}

function entryName({ name }: Header): string {
  return name.replace(/^\.\//, "");
}

/** Copies the archive with new entries in place of the old, and puts it in place by rename. */
async function rewriteArchive(file: string, added: ReadonlyMap<string, Buffer>, pruned: ReadonlySet<string>): Promise<void> {
  const temporary = `${file}.tmp-${process.pid}`;
  const archive = pack();
  const writing = pipeline(archive, createWriteStream(temporary, { flags: "wx", flush: true }));
  try {
    const entries = extract();
    const reading = pipeline(createReadStream(file), entries);
    for await (const entry of entries) {
      const name = entryName(entry.header);
      if (added.has(name) || pruned.has(name)) entry.resume();
      else await pipeline(entry, archive.entry(entry.header));
    }
    await reading;
    for (const [name, bytes] of added) await addEntry(archive, name, bytes);
    archive.finalize();
    await writing;
    renameSync(temporary, file);
    syncFolder(dirname(file));
  } catch (error) {
    archive.destroy();
    await writing.catch(() => undefined);
    rmSync(temporary, { force: true });
    throw error;
  }
}

async function addEntry(archive: Pack, name: string, bytes: Buffer): Promise<void> {
  await new Promise<void>((resolve, reject) => archive.entry({ name, size: bytes.length, mode: 0o644 }, bytes, (error) => (error ? reject(error) : resolve())));
}
