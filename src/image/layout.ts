// An image in an OCI layout directory: oci:DIR[:TAG].

import { closeSync, constants, existsSync, fstatSync, openSync, readSync } from "node:fs";
import { join } from "node:path";
import { errorCode, KeystoreError } from "../errors.ts";
import { removeFile, writeFileSafely } from "../keystore/files.ts";
import type { ImageStore } from "./image.ts";
import { damaged, LIMITS, parseDocument, type Document } from "./oci.ts";

const REF_NAME = "org.opencontainers.image.ref.name";
const FILE = 0o644;

/** The image `tag` of a layout, or all of its images. */
export function openLayout(dir: string, tag: string | undefined): ImageStore {
  const indexPath = join(dir, "index.json");
  const blobPath = (digest: string): string => join(dir, "blobs", digest.replace(":", "/"));
  return {
    root: async () => layoutRoot(readDocument(indexPath), tag, dir),
    read: async ({ digest }) => readDocument(blobPath(digest)),
    write: async (documents, root) => {
      for (const { digest, bytes } of documents) if (!existsSync(blobPath(digest))) writeFileSafely(blobPath(digest), bytes, FILE, "replace");
      writeFileSafely(indexPath, root, FILE, "replace"); // from here on the image is the new one
    },
    prune: async (digests) => {
      for (const digest of digests) removeFile(blobPath(digest));
    },
  };
}

/** index.json as the root, with the entries that the tag selects. @throws KeystoreError `image` if there is no such tag */
export function layoutRoot(bytes: Buffer, tag: string | undefined, where: string): { document: Document; selected: readonly number[] } {
  const document = parseDocument(bytes, `index.json of ${where}`);
  if (document.kind !== "index") throw damaged(`index.json of ${where}`, "is no index");
  const selected = document.manifests.flatMap(({ annotations }, place) => (tag === undefined || annotations.get(REF_NAME) === tag ? [place] : []));
  if (selected.length > 0) return { document, selected };
  const tags = document.manifests.map(({ annotations }) => annotations.get(REF_NAME)).filter((one) => one !== undefined);
  throw new KeystoreError("image", `no image ${tag ?? ""} in ${where}`, tags.length === 0 ? "it has no tags: name it without one" : `it has ${tags.slice(0, 5).join(", ")}`);
}

/** Reads a document; layers are never read, so anything larger than a document may be is refused. */
function readDocument(path: string): Buffer {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    throw new KeystoreError("image", `cannot read ${path}: ${errorCode(error) ?? "unknown error"}`, "nothing was written; check that it is a complete OCI layout");
  }
  try {
    const { size } = fstatSync(fd);
    if (size > LIMITS.documentBytes) throw damaged(path, "is larger than 4 MiB");
    const bytes = Buffer.alloc(size);
    let length = 0;
    for (let count = -1; count !== 0; length += count) count = readSync(fd, bytes, length, size - length, null);
    return bytes.subarray(0, length);
  } finally {
    closeSync(fd);
  }
}
