// The documents of an OCI image (image-spec: image-layout, image-index, manifest), checked as far as they are used.

import { createHash } from "node:crypto";
import { imageError, KeystoreError, printable } from "../errors.ts";
import { isObject, member, type Fail, type JsonObject } from "../json.ts";
import { parseDocumentJson } from "./json.ts";

/**
 * Limits on documents: registries keep to 4 MiB, and no tool nests indexes deeper than two or three. `documents`,
 * `bytes`, `layers` and `parts` are totals of an image.
 */
export const IMAGE_LIMITS = {
  documentBytes: 4 * 1024 * 1024,
  jsonDepth: 64,
  nesting: 8,
  documents: 10_000,
  bytes: 256 * 1024 * 1024,
  layers: 100_000,
  layerParts: 1000,
  parts: 100_000,
} as const;

/** What a document points to (image-spec, descriptor.md). */
export interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  /** In bytes. */
  readonly size: number;
  readonly annotations: ReadonlyMap<string, string>;
  /** os/architecture[/variant], where it is given. */
  readonly platform: string | undefined;
}

/** An index or a manifest: its text as it is, and where it points. */
export type Document = Index | Manifest;

interface AnyDocument {
  readonly text: string;
  readonly mediaType: string | undefined;
}

/** An index, or a layout's index.json. */
export interface Index extends AnyDocument {
  readonly kind: "index";
  readonly manifests: readonly Descriptor[];
}

/** A manifest. */
export interface Manifest extends AnyDocument {
  readonly kind: "manifest";
  readonly config: Descriptor | undefined;
  readonly layers: readonly Descriptor[];
}

/** The annotation of an entry of a layout's index.json that holds its tag. */
export const REF_NAME = "org.opencontainers.image.ref.name";
/** The annotation that ties an attestation to its sibling (BuildKit). */
export const REFERENCE_DIGEST = "vnd.docker.reference.digest";
const REFERENCE_TYPE = "vnd.docker.reference.type";

/** Parses an index or a manifest. @throws KeystoreError `image` if it is neither; the message names it as `what` */
export function parseDocument(bytes: Buffer, what: string): Document {
  const fail: Fail = (reason) => damagedImage(what, reason);
  const document = parseDocumentJson(bytes, IMAGE_LIMITS.jsonDepth, fail);
  if (!isObject(document)) throw fail("is not a JSON object");
  refuseSpellings(document, fail);
  const text = bytes.toString("utf8");
  const stated = member(document, "mediaType");
  const mediaType = typeof stated === "string" && stated !== "" ? stated : undefined;
  const layers = descriptors(document, "layers", fail);
  const manifests = descriptors(document, "manifests", fail) ?? emptyList(document, "manifests", layers);
  if (manifests !== undefined) {
    // image-spec, manifest.md and image-index.md (CVE-2021-41190): ambiguous, clients disagree on which it is.
    const both = ["config", "layers"].some((name) => (member(document, name) ?? undefined) !== undefined);
    if (both) throw fail("is both an index and a manifest");
    return { kind: "index", text, mediaType, manifests };
  }
  const some = layers ?? emptyList(document, "layers", undefined);
  if (some === undefined) throw fail("is neither an index nor a manifest");
  const stating = member(document, "config") ?? undefined;
  const config = stating === undefined ? undefined : parseDescriptor(stating, fail);
  return { kind: "manifest", text, mediaType, config, layers: some };
}

/** Go writes a list without elements as null. */
function emptyList(document: JsonObject, name: string, other: unknown): Descriptor[] | undefined {
  return member(document, name) === null && other === undefined ? [] : undefined;
}

function descriptors(document: JsonObject, name: string, fail: Fail): Descriptor[] | undefined {
  const list = member(document, name);
  if (list === undefined || list === null) return undefined;
  if (!Array.isArray(list)) throw fail(`has ${name} that are not a list`);
  return list.map((one) => parseDescriptor(one, fail));
}

function parseDescriptor(value: unknown, fail: Fail): Descriptor {
  if (!isObject(value)) throw fail("has a descriptor that is not an object");
  refuseSpellings(value, fail);
  const [mediaType, digest, size] = ["mediaType", "digest", "size"].map((name) => member(value, name) ?? undefined);
  if (typeof digest !== "string" || !isAnyDigest(digest)) throw fail("has a descriptor without a valid digest");
  if (mediaType !== undefined && typeof mediaType !== "string") throw fail("has a descriptor without a media type");
  if (size !== undefined && !(typeof size === "number" && Number.isSafeInteger(size) && size >= 0)) {
    throw fail("has a descriptor without a size");
  }
  const annotations = member(value, "annotations") ?? {};
  if (!isObject(annotations)) throw fail("has annotations that are not an object");
  const pairs = Object.entries(annotations).filter((pair): pair is [string, string] => typeof pair[1] === "string");
  const platform = platformOf(member(value, "platform"));
  return { mediaType: mediaType ?? "", digest, size: size ?? 0, annotations: new Map(pairs), platform };
}

// The members that clients read (image-spec: image-index.md, manifest.md, descriptor.md).
const MEMBERS =
  "schemaVersion mediaType artifactType manifests config layers subject annotations digest size urls data platform";
const SPELLINGS = new Map(MEMBERS.split(" ").map((name) => [folded(name), name]));

function folded(name: string): string {
  return name.toUpperCase().toLowerCase();
}

/** Go reads member names in any case (Unicode's simple folding), and the last of several counts. We read one. */
function refuseSpellings(object: JsonObject, fail: Fail): void {
  const names = Object.keys(object).filter((name) => SPELLINGS.has(folded(name)));
  if (new Set(names.map(folded)).size !== names.length) throw fail("has a member in two spellings");
  const odd = names.find((name) => (SPELLINGS.get(folded(name)) ?? name) !== name);
  if (odd !== undefined) throw fail(`has a member that is spelled "${printable(odd, 32)}"`);
}

function platformOf(value: unknown): string | undefined {
  if (!isObject(value)) return undefined;
  const members = ["os", "architecture", "variant"].map((name) => member(value, name));
  const parts = members.filter((part) => typeof part === "string");
  return parts.length === 0 ? undefined : printable(parts.join("/"), 64);
}

/** Whether text is a digest that clients check; it may become part of a path or an address. */
export function isDigest(text: string): boolean {
  return /^sha256:[0-9a-f]{64}$|^sha384:[0-9a-f]{96}$|^sha512:[0-9a-f]{128}$/.test(text);
}

/** Whether text is a digest of any algorithm (image-spec, descriptor.md): one that is not read here may be unknown. */
function isAnyDigest(text: string): boolean {
  if (/^sha(256|384|512):/.test(text)) return isDigest(text);
  return text.length <= 256 && /^[a-z0-9]+([+._-][a-z0-9]+)*:[A-Za-z0-9=_-]+$/.test(text);
}

/** The sha256 digest of bytes, or with another digest's algorithm. */
export function digestOf(bytes: Uint8Array, algorithm = "sha256"): string {
  return `${algorithm}:${createHash(algorithm).update(bytes).digest("hex")}`;
}

/** Checks a document's bytes against its descriptor. @throws KeystoreError `image` if they differ */
export function verify(bytes: Buffer, { digest, size }: Descriptor, what: string): Buffer {
  if (bytes.length === size && digestOf(bytes, digest.split(":")[0]) === digest) return bytes;
  throw damagedImage(what, `is not what its digest ${digest} says`);
}

/** A manifest that says it is BuildKit's attestation. What counts is whether its layers are {@link isStatement}s. */
export function isAttestation(manifest: Descriptor): boolean {
  return manifest.annotations.get(REFERENCE_TYPE) === "attestation-manifest";
}

/** An in-toto statement: clients never encrypt those. */
export function isStatement(layer: Descriptor): boolean {
  return layer.mediaType === "application/vnd.in-toto+json";
}

/** An image that cannot be worked with. */
export function damagedImage(what: string, reason: string): KeystoreError {
  return imageError(`${what} ${reason}`, "fetch or build the image again");
}

/** The image that was read is not the one that is there now: a change of somebody else would be lost. */
export function changedMeanwhile(where: string): KeystoreError {
  const hint = "the image is theirs, untouched; run the same command again";
  return imageError(`${where} was changed by somebody else meanwhile`, hint);
}
