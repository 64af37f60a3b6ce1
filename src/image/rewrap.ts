// Changes who can open an image, without touching its layers: new annotations, new manifests, new indexes above them.

import { KeystoreError } from "../errors.ts";
import { isObject, member } from "../json.ts";
import { familyOf } from "../jwe/alg/algorithms.ts";
import { parseJwe } from "../jwe/gate.ts";
import type { PrivateKeys, Recipient } from "../jwe/key.ts";
import { open } from "../jwe/open.ts";
import { seal } from "../jwe/seal.ts";
import { annotationName, annotationValue, isEncrypted, isJweScheme, keyAnnotations, partRecipients, type PartRecipient } from "./annotations.ts";
import { damaged, digestOf, LIMITS, REFERENCE_DIGEST, type Descriptor, type Document } from "./documents.ts";
import { editJson, type Edit } from "./edit.ts";
import { limitedReading, readDocument } from "./image.ts";
import type { ImageSource, NewDocument } from "./source/source.ts";

/** What to change: everybody (`to`), or some (`add`, `remove`). */
export interface RewrapRequest {
  readonly to: readonly Recipient[] | undefined;
  readonly add: readonly Recipient[];
  /** kids */
  readonly remove: ReadonlySet<string>;
  /** The scheme to open; every one that opens where none is named. */
  readonly from: string | undefined;
  /** The scheme to write; each its own where none is named. */
  readonly as: string | undefined;
}

/** Who could open a layer by one scheme before, and who can after. */
export interface LayerChange {
  readonly layer: string;
  readonly scheme: string;
  readonly before: readonly PartRecipient[];
  readonly after: readonly PartRecipient[];
  /** The scheme was not opened and stays as it is: whoever could open the layer by it still can. */
  readonly kept: boolean;
}

/** What is to be written. Nothing was yet. */
export interface RewrapPlan {
  readonly changes: readonly LayerChange[];
  readonly documents: readonly NewDocument[];
  readonly root: string;
  /** Old digest → new digest of every document that changes. */
  readonly renamed: ReadonlyMap<string, string>;
}

/**
 * Plans the change of an image: reads its documents, opens and seals the annotations, and makes the new documents.
 *
 * @throws KeystoreError `foreign` (exit code 3) if an encrypted layer stays unopened, `image` if it is damaged or would
 * be left without any recipient
 */
export async function planRewrap(store: ImageSource, request: RewrapRequest, keys: PrivateKeys): Promise<RewrapPlan> {
  const changes: LayerChange[] = [];
  const documents: NewDocument[] = [];
  const renamed = new Map<string, string>();
  const unopened: string[] = [];
  const done = new Map<string, { digest: string; size: number }>();
  const reading = limitedReading();

  const layerEdits = async (layer: Descriptor, path: readonly (string | number)[]): Promise<Edit[]> => {
    if (!isEncrypted(layer)) return [];
    const changed = await rewrapLayer(layer, request, keys);
    if (changed === undefined) {
      unopened.push(layer.digest);
      return [];
    }
    changes.push(...changed.changes);
    return changed.annotations.map(([name, value]) => ({ path: [...path, "annotations", name], value }));
  };

  const rewrite = async (document: Document, selected: ReadonlySet<number> | undefined, depth: number): Promise<string> => {
    if (document.kind === "manifest") {
      reading.layers(document.layers);
      const edits = [];
      for (const [place, layer] of document.layers.entries()) edits.push(...(await layerEdits(layer, ["layers", place])));
      return editJson(document.text, edits);
    }
    const edits: Edit[] = [];
    for (const [place, descriptor] of document.manifests.entries()) {
      if (selected !== undefined && !selected.has(place)) continue;
      const { digest, size } = await rewriteAt(descriptor, depth + 1);
      if (digest === descriptor.digest) continue;
      edits.push({ path: ["manifests", place, "digest"], value: digest }, { path: ["manifests", place, "size"], value: size });
      edits.push({ path: ["manifests", place, "data"], value: undefined }); // an embedded copy of the old document (image-spec, descriptor.md)
    }
    for (const [place, { annotations }] of document.manifests.entries()) {
      const follows = renamed.get(annotations.get(REFERENCE_DIGEST) ?? ""); // an attestation names its sibling
      if (follows !== undefined) edits.push({ path: ["manifests", place, "annotations", REFERENCE_DIGEST], value: follows });
    }
    return editJson(document.text, edits);
  };

  const rewriteAt = async (descriptor: Descriptor, depth: number): Promise<{ digest: string; size: number }> => {
    if (depth > LIMITS.nesting) throw damaged(`document ${descriptor.digest}`, "is nested too deep");
    const known = done.get(descriptor.digest);
    if (known !== undefined) return known;
    reading.document(descriptor);
    const document = await readDocument(store, descriptor);
    const text = await rewrite(document, undefined, depth);
    const bytes = Buffer.from(text);
    const digest = text === document.text ? descriptor.digest : digestOf(bytes, descriptor.digest.split(":")[0]);
    const result = { digest, size: bytes.length };
    done.set(descriptor.digest, result);
    if (digest !== descriptor.digest) {
      documents.push({ digest, mediaType: descriptor.mediaType, bytes });
      renamed.set(descriptor.digest, digest);
    }
    return result;
  };

  const { document, selected } = await store.root();
  const root = await rewrite(document, document.kind === "index" ? new Set(selected) : undefined, 0);
  if (unopened.length > 0) throw unopenedError(unopened, request.from);
  if (root !== document.text && store.digest !== undefined) renamed.set(store.digest, digestOf(Buffer.from(root)));
  return { changes, documents, root, renamed };
}

function unopenedError(layers: readonly string[], from: string | undefined): KeystoreError {
  return new KeystoreError(
    "foreign",
    `no key of the store opens ${layers.length === 1 ? `layer ${layers[0] ?? ""}` : `${layers.length} encrypted layers, ${layers[0] ?? ""} first`}${from === undefined ? "" : ` by ${from}`}`,
    "nothing was written; see ocicrypt-keystore inspect for who can, and name their store with --keystore",
    3,
  );
}

interface RewrappedLayer {
  readonly changes: readonly LayerChange[];
  readonly annotations: readonly (readonly [name: string, value: string | undefined])[];
}

interface OpenedAnnotation {
  readonly scheme: string;
  readonly parts: readonly Buffer[];
  readonly plaintext: Buffer;
}

/** The layer's new annotations, undefined if no key opens it. */
async function rewrapLayer(layer: Descriptor, request: RewrapRequest, keys: PrivateKeys): Promise<RewrappedLayer | undefined> {
  const present = new Map(keyAnnotations(layer).map(({ scheme, parts }) => [scheme, parts]));
  const opened: OpenedAnnotation[] = [];
  for (const [scheme, parts] of present) {
    if (!isJweScheme(scheme) || (request.from !== undefined && scheme !== request.from)) continue;
    const plaintext = await openAny(parts, keys);
    if (plaintext !== undefined) opened.push({ scheme, parts, plaintext });
  }
  if (opened.length === 0) return undefined;

  const after = new Map<string, readonly Buffer[]>(opened.map(({ scheme }) => [scheme, []]));
  for (const target of new Set(opened.map(({ scheme }) => request.as ?? scheme))) {
    const sources = opened.filter(({ scheme }) => (request.as ?? scheme) === target);
    const beside = opened.some(({ scheme }) => scheme === target) ? [] : (present.get(target) ?? []);
    const parts = await newParts([...beside, ...sources.flatMap((source) => source.parts)], sources[0]?.plaintext ?? Buffer.alloc(0), request);
    refuseForScheme(target, parts);
    after.set(target, parts);
  }
  // Nobody's key is needed to take somebody off, where the parts tell whom they are for.
  if (request.remove.size > 0 && request.from === undefined) {
    for (const [scheme, parts] of present) if (!after.has(scheme) && parts.every(namesAll)) after.set(scheme, withoutRecipients(parts, request.remove));
  }
  const remaining = [...present.keys()].filter((scheme) => !after.has(scheme));
  if (remaining.length === 0 && [...after.values()].every((parts) => parts.length === 0)) throw noRecipientLeft(layer);
  return {
    changes: [...after, ...remaining.map((scheme) => [scheme, present.get(scheme) ?? []] as const)].map(([scheme, parts]) => ({
      layer: layer.digest,
      scheme,
      before: (present.get(scheme) ?? []).flatMap(partRecipients),
      after: parts.flatMap(partRecipients),
      kept: !after.has(scheme),
    })),
    annotations: [...after].map(([scheme, parts]) => [annotationName(scheme), parts.length === 0 ? undefined : annotationValue(parts)] as const),
  };
}

async function newParts(parts: readonly Buffer[], plaintext: Buffer, { to, add, remove }: RewrapRequest): Promise<Buffer[]> {
  if (to !== undefined) return [await seal(plaintext, to)];
  const rest = withoutRecipients(parts, remove);
  return add.length === 0 ? rest : [...rest, await seal(plaintext, add)];
}

async function openAny(parts: readonly Buffer[], keys: PrivateKeys): Promise<Buffer | undefined> {
  for (const part of parts) {
    try {
      return await open(part, keys);
    } catch (error) {
      if (!(error instanceof KeystoreError)) throw error;
    }
  }
  return undefined;
}

/** The parts without some recipients. A JWE's recipients can be taken off one by one: none is part of what is authenticated. */
function withoutRecipients(parts: readonly Buffer[], kids: ReadonlySet<string>): Buffer[] {
  if (kids.size === 0) return [...parts];
  return parts.flatMap((part) => {
    const written = partRecipients(part);
    if (!namesAll(part)) {
      throw new KeystoreError("image", "a recipient without a readable kid cannot be told from the one to remove", "nothing was written; say who is to remain with --to");
    }
    if (!written.some(({ kid }) => kid !== undefined && kids.has(kid))) return [part];
    const { protected: protectedHeader, aad, iv, ciphertext, tag, recipients } = parseJwe(part);
    const rest = recipients.filter(({ header }) => !kids.has(String(member(header, "kid"))));
    if (rest.length === 0) return [];
    // Every header but the protected one is the recipient's own from here on.
    const shared = protectedNames(protectedHeader);
    const jwe = {
      ...(protectedHeader === "" ? {} : { protected: protectedHeader }),
      recipients: rest.map(({ header, encryptedKey }) => ({
        header: Object.fromEntries(Object.entries(header).filter(([name]) => !shared.includes(name))),
        encrypted_key: encryptedKey.toString("base64url"),
      })),
      ...(aad === undefined ? {} : { aad }),
      iv,
      ciphertext,
      tag,
    };
    return [Buffer.from(JSON.stringify(jwe))];
  });
}

/** Whether a part tells the kid of everybody it is for. */
function namesAll(part: Buffer): boolean {
  const written = partRecipients(part);
  return written.length > 0 && written.every(({ kid }) => kid !== undefined);
}

function protectedNames(protectedHeader: string): string[] {
  if (protectedHeader === "") return [];
  const header: unknown = JSON.parse(Buffer.from(protectedHeader, "base64url").toString());
  return isObject(header) ? Object.keys(header) : [];
}

/** go-jose refuses a whole JWE for one alg that it does not list: a symmetric key cannot be a recipient of the built-in jwe. */
function refuseForScheme(scheme: string, parts: readonly Buffer[]): void {
  const symmetric = scheme === "jwe" ? parts.flatMap(partRecipients).find(({ alg }) => familyOf(alg)?.builtIn !== true) : undefined;
  if (symmetric === undefined) return;
  throw new KeystoreError("image", `ocicrypt's built-in jwe opens no annotation with a recipient of alg ${symmetric.alg}`, "nothing was written; leave symmetric keys out, or write --as provider:NAME");
}

function noRecipientLeft({ digest }: Descriptor): KeystoreError {
  return new KeystoreError("image", `layer ${digest} would be left without any recipient`, "nothing was written; nobody could open it any more");
}
