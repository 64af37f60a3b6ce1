// The tree of an image's documents: one walk, which reads each document once, and what else goes by that tree.

import { imageError, KeystoreError } from "../errors.ts";
import { countParts } from "./annotations.ts";
import {
  damagedImage,
  digestOf,
  isDigest,
  IMAGE_LIMITS,
  parseDocument,
  REFERENCE_DIGEST,
  verify,
  type Descriptor,
  type Document,
  type Manifest,
} from "./documents.ts";
import { editJson, type Edit } from "./edit.ts";
import { isDocumentType, isIndexType, isOldManifestType, OCI_MANIFEST, ociType } from "./media-types.ts";
import type { ImageSource, NewDocument } from "./source/source.ts";

/** A document of a tree. A document that several others point to is one node. */
export interface Node {
  /** What pointed to it first; undefined for the root. */
  readonly descriptor: Descriptor | undefined;
  readonly document: Document;
  /** What an index points to, as far as it is part of the image that is meant. */
  readonly children: readonly Child<Node>[];
  /** The other entries of an index that are part of the image that is meant. */
  readonly left: readonly LeftEntry[];
}

/** An entry of an index that nothing is read from, and that stays as it is. */
export interface LeftEntry {
  readonly place: number;
  readonly descriptor: Descriptor;
  /** `absent`: not in this image, such as a platform that was not copied along. `other`: not a manifest or an index. */
  readonly state: "absent" | "other";
  /** Its content is a manifest or an index, whatever its media type says, or one that only some clients still read. */
  readonly disguised: boolean;
}

/** What an entry of an index points to: a node, or whatever else the walk made of it. */
export interface Child<T> {
  /** The entry's place in the index. */
  readonly place: number;
  readonly descriptor: Descriptor;
  readonly node: T;
}

/** A manifest as an index points to it; without a descriptor it is the root. */
export interface ManifestEntry {
  readonly state: "present";
  /** The place in the root that it is below; undefined for the root. */
  readonly top: number | undefined;
  readonly descriptor: Descriptor | undefined;
  readonly document: Manifest;
}

/** Throws where an image has more than {@link IMAGE_LIMITS} allow. */
export interface Counter {
  readonly document: (size: number) => void;
  readonly layers: (layers: readonly Descriptor[]) => void;
}

/** Counts the documents and the layers of an image. */
export function limitCounter(): Counter {
  let [documents, bytes, count, parts] = [0, 0, 0, 0];
  return {
    document: (size) => {
      if (++documents > IMAGE_LIMITS.documents)
        throw damagedImage("the image", `has more than ${IMAGE_LIMITS.documents} documents`);
      if ((bytes += size) <= IMAGE_LIMITS.bytes) return;
      throw damagedImage("the image", `has documents of more than ${IMAGE_LIMITS.bytes / 1024 / 1024} MiB`);
    },
    layers: (layers) => {
      if ((count += layers.length) > IMAGE_LIMITS.layers)
        throw damagedImage("the image", `has more than ${IMAGE_LIMITS.layers} layers`);
      parts = layers.reduce((sum, layer) => sum + countParts(layer), parts);
      if (parts > IMAGE_LIMITS.parts)
        throw damagedImage("the image", `has more than ${IMAGE_LIMITS.parts} wrapped keys`);
    },
  };
}

/** What a node is made of. */
interface Parts<T> {
  readonly descriptor: Descriptor | undefined;
  readonly document: Document;
  readonly children: readonly Child<T>[];
  readonly left: readonly LeftEntry[];
}

/** What the walk made of a document, and how many levels are below it. */
interface Made<T> {
  readonly node: T;
  readonly height: number;
}

/** Reads the tree of the image that is meant. @throws KeystoreError `image` if it is damaged or beyond a limit */
export async function loadTree(source: ImageSource): Promise<Node> {
  const tree = await walk<Node>(source, "image", (parts) => parts);
  const [first] = tree.left;
  const none = tree.children.length === 0 && tree.left.every(({ state }) => state === "absent");
  if (source.digest !== undefined || first === undefined || !none) return tree;
  const message = `cannot read blobs/${first.descriptor.digest.replace(":", "/")}: ENOENT`;
  throw imageError(message, "the image is not complete: fetch or build it again");
}

/**
 * The one walk: reads and verifies each document once, and makes something of it and of what was made of its children.
 *
 * @param scope `image`: what is meant, within the limits. An entry may be absent; what is there must be readable.
 * `everything`: all that the root points to, but for what cannot be read and is no index
 */
async function walk<T>(source: ImageSource, scope: "image" | "everything", make: (parts: Parts<T>) => T): Promise<T> {
  const counter = scope === "image" ? limitCounter() : undefined;
  const known = new Map<string, Made<T> | undefined>(); // by digest and size; undefined: it is absent or unreadable

  const visit = async (descriptor: Descriptor, depth: number): Promise<Made<T> | undefined> => {
    const key = `${descriptor.digest} ${descriptor.size}`;
    const before = known.get(key);
    if (counter !== undefined && depth + (before?.height ?? 0) > IMAGE_LIMITS.nesting) {
      throw damagedImage(`document ${descriptor.digest}`, "is nested too deep");
    }
    if (known.has(key)) return before;
    counter?.document(descriptor.size);
    const document = await readDocument(source, descriptor).catch((error: unknown) => {
      if (scope === "image" || isIndexType(descriptor.mediaType)) throw error;
      return undefined;
    });
    if (document === undefined && scope === "everything" && isIndexType(descriptor.mediaType)) {
      throw damagedImage(`index ${descriptor.digest}`, "is not there");
    }
    const made = document && (await makeOf(document, descriptor, depth));
    known.set(key, made);
    return made;
  };

  const makeOf = async (
    document: Document,
    descriptor: Descriptor | undefined,
    depth: number,
    selected?: ReadonlySet<number>,
  ): Promise<Made<T>> => {
    const children: Child<T>[] = [];
    const left: LeftEntry[] = [];
    let height = 0;
    if (document.kind === "manifest") counter?.layers(document.layers);
    else {
      for (const [place, entry] of document.manifests.entries()) {
        if (selected?.has(place) === false) continue;
        if (scope === "image" && !isDocumentType(entry.mediaType)) {
          counter?.document(isTooLarge(entry) ? 0 : entry.size);
          const disguised = isOldManifestType(entry.mediaType) || (await isDocument(source, entry));
          left.push({ place, descriptor: entry, state: "other", disguised });
          continue;
        }
        const child = await visit(entry, depth + 1);
        if (child === undefined) left.push({ place, descriptor: entry, state: "absent", disguised: false });
        else {
          children.push({ place, descriptor: entry, node: child.node });
          height = Math.max(height, child.height + 1);
        }
      }
    }
    return { node: make({ descriptor, document, children, left }), height };
  };

  const { document, selected } = await source.root();
  return (await makeOf(document, undefined, 0, scope === "image" ? new Set(selected) : undefined)).node;
}

/** The document that a descriptor points to, undefined if it is absent. */
async function readDocument(source: ImageSource, descriptor: Descriptor): Promise<Document | undefined> {
  const what = `document ${descriptor.digest}`;
  const bytes = await readVerified(source, descriptor, what);
  return bytes && parseDocument(bytes, what);
}

function isTooLarge({ size }: Descriptor): boolean {
  return size > IMAGE_LIMITS.documentBytes;
}

/** Whether a descriptor of another media type points to a manifest or an index. */
async function isDocument(source: ImageSource, descriptor: Descriptor): Promise<boolean> {
  if (isTooLarge(descriptor) || !isDigest(descriptor.digest)) return false;
  const bytes = await source.read({ ...descriptor, mediaType: OCI_MANIFEST }); // a registry has them apart from layers
  try {
    if (bytes !== undefined) parseDocument(verify(bytes, descriptor, ""), "");
    return bytes !== undefined;
  } catch (error) {
    if (error instanceof KeystoreError) return false;
    throw error;
  }
}

/**
 * Reads and verifies what a descriptor points to, undefined if it is absent.
 *
 * @throws KeystoreError `image`; the message names it as `what`
 */
export async function readVerified(
  source: ImageSource,
  descriptor: Descriptor,
  what: string,
): Promise<Buffer | undefined> {
  if (isTooLarge(descriptor)) throw damagedImage(what, "is larger than 4 MiB");
  if (!isDigest(descriptor.digest)) throw damagedImage(what, "has a digest of an algorithm that clients do not know");
  const bytes = await source.read(descriptor);
  return bytes && verify(bytes, descriptor, what);
}

/**
 * Every manifest of an image and every entry that is left, in their order, as often as an index points to it: a few
 * documents can point to one another very often, so the limits hold for that count, too.
 */
export function manifestEntries(root: Node): (ManifestEntry | (LeftEntry & Pick<ManifestEntry, "top">))[] {
  const entries: ReturnType<typeof manifestEntries> = [];
  const counter = limitCounter();
  const add = (descriptor: Descriptor | undefined, { document, children, left }: Node, top?: number): void => {
    if (descriptor !== undefined) counter.document(descriptor.size);
    if (document.kind === "manifest") {
      counter.layers(document.layers);
      entries.push({ state: "present", top, descriptor, document });
    }
    for (const entry of [...children, ...left].toSorted((one, other) => one.place - other.place)) {
      if ("node" in entry) add(entry.descriptor, entry.node, top ?? entry.place);
      else {
        counter.document(0); // nothing of it is read
        entries.push({ ...entry, top: top ?? entry.place });
      }
    }
  };
  add(undefined, root);
  return entries;
}

/** Every document of a tree once, each after those it points to. */
export function nodesOf(root: Node, nodes = new Set<Node>()): ReadonlySet<Node> {
  if (nodes.has(root)) return nodes;
  for (const { node } of root.children) nodesOf(node, nodes);
  return nodes.add(root);
}

/** A tree after a change. */
export interface ChangedTree {
  /** The new documents by the digests of those they replace, each after those it points to. */
  readonly renamed: ReadonlyMap<string, NewDocument>;
  /** The text of the root. */
  readonly root: string;
}

/** Makes the edits of manifests, and what follows from them in the indexes above. All else stays byte for byte. */
export function changeTree(root: Node, edits: ReadonlyMap<Node, readonly Edit[]>): ChangedTree {
  const renamed = new Map<string, NewDocument>();
  let text = root.document.text;
  for (const node of nodesOf(root)) {
    const { descriptor, document } = node;
    const changes = document.kind === "manifest" ? (edits.get(node) ?? []) : indexEdits(node, renamed);
    text = editJson(document.text, changes);
    if (descriptor === undefined || text === document.text) continue;
    const bytes = Buffer.from(text);
    const digest = digestOf(bytes, descriptor.digest.split(":")[0]);
    renamed.set(descriptor.digest, { digest, mediaType: newType(changes) ?? descriptor.mediaType, bytes });
  }
  return { renamed, root: text }; // the root comes last
}

/** The media type that edits give a document, undefined if they leave it. */
function newType(edits: readonly Edit[]): string | undefined {
  const value = edits.find(({ path }) => path.length === 1 && path[0] === "mediaType")?.value;
  return value === undefined ? undefined : String(value);
}

function indexEdits({ descriptor: own, document, children }: Node, renamed: ReadonlyMap<string, NewDocument>): Edit[] {
  const edits: Edit[] = [];
  const type = document.mediaType ?? own?.mediaType ?? "";
  const retyped = children.some(({ descriptor }) => {
    const fresh = renamed.get(descriptor.digest);
    return fresh !== undefined && fresh.mediaType !== descriptor.mediaType;
  });
  if (retyped && ociType(type) !== undefined) edits.push({ path: ["mediaType"], value: ociType(type) });
  for (const { place, descriptor } of children) {
    const fresh = renamed.get(descriptor.digest);
    if (fresh === undefined) continue;
    const path = ["manifests", place] as const;
    edits.push({ path: [...path, "digest"], value: fresh.digest });
    edits.push({ path: [...path, "size"], value: fresh.bytes.length });
    if (fresh.mediaType !== descriptor.mediaType) edits.push({ path: [...path, "mediaType"], value: fresh.mediaType });
    edits.push({ path: [...path, "data"], value: undefined }); // a copy of the old document (image-spec, descriptor.md)
  }
  for (const [place, { annotations }] of (document.kind === "index" ? document.manifests : []).entries()) {
    const sibling = renamed.get(annotations.get(REFERENCE_DIGEST) ?? ""); // what an attestation is about
    if (sibling === undefined) continue;
    edits.push({ path: ["manifests", place, "annotations", REFERENCE_DIGEST], value: sibling.digest });
  }
  return edits;
}

/**
 * Those of the digests that nothing in the image points to, whatever its tags.
 *
 * @throws KeystoreError `image` if an index of it cannot be read
 */
export async function unreferenced(source: ImageSource, digests: readonly string[]): Promise<string[]> {
  const reached = new Set<string>();
  await walk(source, "everything", ({ document }) => {
    const pointers = document.kind === "index" ? document.manifests : [document.config, ...document.layers];
    for (const pointer of pointers) if (pointer !== undefined) reached.add(pointer.digest);
  });
  return digests.filter((digest) => !reached.has(digest));
}
