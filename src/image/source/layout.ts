// An image in an OCI layout directory: oci:DIR[:TAG].

import { closeSync, openSync, realpathSync, statSync, type Stats } from "node:fs";
import { join } from "node:path";
import { imageError, printable, usageError } from "../../errors.ts";
import { readSmallFile, type SmallFile } from "../../fs/read.ts";
import { removeFile, writeFileSafely } from "../../fs/write.ts";
import { withLock } from "../../fs/lock.ts";
import { changedMeanwhile, damagedImage, IMAGE_LIMITS, parseDocument, REF_NAME } from "../documents.ts";
import type { ImageSource, Root } from "./source.ts";
import { keepOwner } from "./owner.ts";

const SHARED = 0o644; // of a file where there was none

/** The image `tag` of a layout, or all of its images. */
export function openLayout(folder: string, tag: string | undefined): ImageSource {
  if (statSync(folder, { throwIfNoEntry: false })?.isFile() === true) {
    throw usageError(`${folder} is a file`, `if it is an archive of an OCI layout, name it as oci-archive:${folder}`);
  }
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
 * @throws KeystoreError `image` if there is no such image
 */
export function layoutRoot(bytes: Buffer, tag: string | undefined, where: string): Root {
  const document = parseDocument(bytes, `index.json of ${where}`);
  if (document.kind !== "index") throw damagedImage(`index.json of ${where}`, "is no index");
  const names = document.manifests.map(({ annotations }) => annotations.get(REF_NAME));
  const selected = [...names.entries()].flatMap(([place, name]) => (isMeant(place, name, tag) ? [place] : []));
  if (selected.length > 0) return { document, selected };
  if (names.length === 0) throw imageError(`there is no image in ${where}`, "its index.json is empty: copy one there");
  const places = names.length === 1 ? "its only image is @0" : `its images are @0 to @${names.length - 1}`;
  const hint = tag?.startsWith("@") === true ? places : choices(names);
  throw imageError(`no image ${printable(tag ?? "", 128)} in ${where}`, hint);
}

/** What can be named instead: the tags, and the places of the images that have none. */
function choices(names: readonly (string | undefined)[]): string {
  const tags = names.flatMap((name) => (name === undefined ? [] : [printable(name, 128)])).slice(0, 5);
  const places = names.flatMap((name, place) => (name === undefined ? [`@${place}`] : [])).slice(0, 5);
  if (places.length === 0) return `it has ${tags.join(", ")}`;
  if (tags.length > 0) return `it has ${tags.join(", ")} and, without a tag, ${places.join(", ")}`;
  if (names.length === 1) return "it has no tags: name it without one";
  return `it has no tags: name an image by its place, from @0 to @${names.length - 1}`;
}

/** skopeo's rule: `@N` is the image at place N, counted from 0, whatever its name. */
function isMeant(place: number, name: string | undefined, tag: string | undefined): boolean {
  if (tag?.startsWith("@") !== true) return tag === undefined || name === tag;
  const [, number] = /^@\+?(\d+)$/.exec(tag) ?? [];
  if (number === undefined) throw usageError(`${printable(tag, 64)} is no place of an image`, "use @N, from @0 on");
  return place === Number(number);
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
