// An image in an OCI layout directory: oci:DIR[:TAG].

import { closeSync, openSync, realpathSync, type Stats } from "node:fs";
import { join } from "node:path";
import { imageError } from "../../errors.ts";
import { readSmallFile, type SmallFile } from "../../fs/read.ts";
import { removeFile, writeFileSafely } from "../../fs/write.ts";
import { withLock } from "../../fs/lock.ts";
import { changedMeanwhile, damagedImage, IMAGE_LIMITS, parseDocument } from "../documents.ts";
import type { ImageSource, Root } from "./source.ts";
import { keepOwner } from "./owner.ts";

const REF_NAME = "org.opencontainers.image.ref.name";
const SHARED = 0o644; // of a file where there was none

/** The image `tag` of a layout, or all of its images. */
export function openLayout(folder: string, tag: string | undefined): ImageSource {
  const indexPath = join(folder, "index.json");
  const blobPath = (digest: string): string => join(folder, "blobs", digest.replace(":", "/"));
  let seen: Buffer = Buffer.alloc(0); // the index.json that the change starts from
  const change = async (work: (index: Stats) => void): Promise<void> =>
    await withLock(join(folder, ".ocicrypt-keystore.lock"), () => {
      const { bytes, stat } = readFile(indexPath);
      if (!bytes.equals(seen)) throw changedMeanwhile(indexPath);
      work(stat);
    });
  return {
    root: async () => layoutRoot((seen = readFile(indexPath).bytes), tag, folder),
    read: async ({ digest }) => readSmallFile(blobPath(digest), IMAGE_LIMITS.documentBytes)?.bytes,
    write: async (documents, root) =>
      await change((index) => {
        for (const { digest, bytes } of documents) {
          writeFileSafely(blobPath(digest), bytes, SHARED, "replace", IMAGE_LIMITS.documentBytes);
          makeLike(blobPath(digest), index);
        }
        // From here on the image is the new one. Keep a symlink: replace its target.
        writeFileSafely(realpathSync(indexPath), root, SHARED, "replace", IMAGE_LIMITS.documentBytes);
      }),
    prune: async (digests) =>
      await change(() => {
        for (const digest of digests) removeFile(blobPath(digest));
      }),
  };
}

/**
 * index.json as the root, with the entries that the tag selects.
 *
 * @throws KeystoreError `image` if there is no such tag
 */
export function layoutRoot(bytes: Buffer, tag: string | undefined, where: string): Root {
  const document = parseDocument(bytes, `index.json of ${where}`);
  if (document.kind !== "index") throw damagedImage(`index.json of ${where}`, "is no index");
  const names = document.manifests.map(({ annotations }) => annotations.get(REF_NAME));
  const selected = [...names.entries()].flatMap(([place, name]) => (isMeant(place, name, tag) ? [place] : []));
  if (selected.length > 0) return { document, selected };
  const tags = names.filter((name) => name !== undefined);
  const hint = tags.length === 0 ? "it has no tags: name it without one" : `it has ${tags.slice(0, 5).join(", ")}`;
  throw imageError(`no image ${tag ?? ""} in ${where}`, hint);
}

/** skopeo's rule: `@N` is the image at place N, counted from 0, whatever its name. */
function isMeant(place: number, name: string | undefined, tag: string | undefined): boolean {
  const [, number] = /^@(\d+)$/.exec(tag ?? "") ?? [];
  return number === undefined ? tag === undefined || name === tag : place === Number(number);
}

function makeLike(path: string, index: Stats): void {
  const fd = openSync(path, "r");
  try {
    keepOwner(fd, index);
  } finally {
    closeSync(fd);
  }
}

/** Reads a document; layers are never read, so anything larger than a document may be is refused. */
function readFile(path: string): SmallFile {
  const file = readSmallFile(path, IMAGE_LIMITS.documentBytes);
  if (file !== undefined) return file;
  const hint = "check the path, and that it is a complete OCI layout";
  throw imageError(`cannot read ${path}: ENOENT`, hint);
}
