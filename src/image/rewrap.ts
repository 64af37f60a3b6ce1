// Changes who can open an image, without touching its layers: new annotations, new manifests, new indexes above them.

import { foreignError, imageError, KeystoreError } from "../errors.ts";
import { familyOf } from "../jwe/alg/algorithms.ts";
import type { PrivateKeys, Recipient } from "../jwe/key.ts";
import { seal } from "../jwe/seal.ts";
import { annotationName, annotationValue, isEncrypted, isJweScheme, keyAnnotations } from "./annotations.ts";
import { digestOf, type Descriptor, type Manifest } from "./documents.ts";
import type { Edit } from "./edit.ts";
import { ociType } from "./media-types.ts";
import { namesAll, openAny, partRecipients, withoutRecipients, type PartRecipient } from "./parts.ts";
import type { ImageSource, NewDocument } from "./source/source.ts";
import { changeTree, loadTree, nodesOf, type LeftEntry, type Node } from "./tree.ts";

/** What to change: everybody (`to`), or some (`add`, `remove`). */
export interface RewrapRequest {
  readonly to: readonly Recipient[] | undefined;
  readonly add: readonly Recipient[];
  /** kids */
  readonly remove: ReadonlySet<string>;
  /** The scheme to open; default: every one that opens. */
  readonly from: string | undefined;
  /** The scheme to write; default: each annotation keeps its scheme. */
  readonly as: string | undefined;
  /** Gives what has docker's media types OCI's in their place. */
  readonly fixMediaTypes: boolean;
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

/** What is to be written; planning writes nothing. */
export interface RewrapPlan {
  readonly changes: readonly LayerChange[];
  readonly documents: readonly NewDocument[];
  readonly root: string;
  /** Old digest → new digest of every document that changes. */
  readonly renamed: ReadonlyMap<string, string>;
  /** The entries that stay as they are: they are absent, or neither a manifest nor an index. */
  readonly left: readonly LeftEntry[];
  /** Old media type → new one of manifests and encrypted layers. */
  readonly retyped: ReadonlyMap<string, string>;
}

/**
 * Plans the change of an image: reads its documents, opens and seals the annotations, and makes the new documents.
 *
 * @throws KeystoreError `foreign` (exit code 3) if an encrypted layer stays unopened, `image` if it is damaged or would
 * be left without any recipient
 */
export async function planRewrap(source: ImageSource, request: RewrapRequest, keys: PrivateKeys): Promise<RewrapPlan> {
  const tree = await loadTree(source);
  const changes: LayerChange[] = [];
  const unopened: string[] = [];
  const edits = new Map<Node, readonly Edit[]>();
  const left = new Map<string, LeftEntry>();
  const retyped = new Map<string, string>();
  const nodes = nodesOf(tree);
  for (const node of nodes) {
    for (const entry of node.left) left.set(entry.descriptor.digest, entry);
    if (node.document.kind !== "manifest") continue;
    const layerEdits = request.fixMediaTypes ? mediaTypeEdits(node, node.document, retyped) : [];
    const rewraps = request.to !== undefined || request.add.length > 0 || request.remove.size > 0;
    for (const [place, layer] of node.document.layers.entries()) {
      if (!rewraps || !isEncrypted(layer)) continue;
      const changed = await rewrapLayer(layer, request, keys);
      if (changed === undefined) {
        unopened.push(layer.digest);
        continue;
      }
      changes.push(...changed.changes);
      for (const [name, value] of changed.annotations) {
        layerEdits.push({ path: ["layers", place, "annotations", name], value });
      }
    }
    edits.set(node, layerEdits);
  }
  const none = [...nodes].every(({ document }) => document.kind === "index");
  if (none && [...left.values()].some(({ state }) => state === "absent")) {
    throw imageError("the image lacks every manifest that it names", "copy all of it there: skopeo copy --all");
  }
  if (unopened.length > 0) throw unopenedError(unopened, request.from);
  const { root, renamed } = changeTree(tree, edits);
  const digests = new Map([...renamed].map(([former, { digest }]) => [former, digest]));
  if (source.digest !== undefined && root !== tree.document.text) {
    digests.set(source.digest, digestOf(Buffer.from(root)));
  }
  return { changes, documents: [...renamed.values()], root, renamed: digests, left: [...left.values()], retyped };
}

/** The edits that make a manifest with encrypted layers one of OCI's. No client needs them for other manifests. */
function mediaTypeEdits({ descriptor }: Node, manifest: Manifest, retyped: Map<string, string>): Edit[] {
  const { config, layers } = manifest;
  if (!layers.some(isEncrypted)) return [];
  const edits: Edit[] = [];
  const retype = (path: Edit["path"], mediaType = "", shown: boolean): void => {
    const value = ociType(mediaType);
    if (value === undefined) return;
    edits.push({ path, value });
    if (shown) retyped.set(mediaType, value);
  };
  retype(["mediaType"], manifest.mediaType ?? descriptor?.mediaType, true);
  retype(["config", "mediaType"], config?.mediaType, false);
  for (const [place, layer] of layers.entries()) {
    retype(["layers", place, "mediaType"], layer.mediaType, isEncrypted(layer));
  }
  return edits;
}

function unopenedError(layers: readonly string[], from: string | undefined): KeystoreError {
  const [first = ""] = layers;
  const which = layers.length === 1 ? `layer ${first}` : `${layers.length} encrypted layers, ${first} first`;
  const message = `no key of the store opens ${which}${from === undefined ? "" : ` by ${from}`}`;
  const hint = "see ocicrypt-keystore inspect for who can, and name their store with --keystore";
  return foreignError(message, hint);
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
async function rewrapLayer(
  layer: Descriptor,
  request: RewrapRequest,
  keys: PrivateKeys,
): Promise<RewrappedLayer | undefined> {
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
    const former = [...beside, ...sources.flatMap(({ parts }) => parts)];
    const parts = await newParts(former, sources[0]?.plaintext ?? Buffer.alloc(0), request);
    refuseForScheme(target, parts);
    after.set(target, parts);
  }
  // Removing a recipient needs no private key if every recipient has a kid.
  if (request.remove.size > 0 && request.from === undefined) {
    for (const [scheme, parts] of present) {
      if (!after.has(scheme) && parts.every(namesAll)) after.set(scheme, withoutRecipients(parts, request.remove));
    }
  }
  const remaining = [...present.keys()].filter((scheme) => !after.has(scheme));
  if (remaining.length === 0 && [...after.values()].every((parts) => parts.length === 0)) throw noRecipientLeft(layer);
  const all = [...after, ...remaining.map((scheme) => [scheme, present.get(scheme) ?? []] as const)];
  return {
    changes: all.map(([scheme, parts]) => ({
      layer: layer.digest,
      scheme,
      before: (present.get(scheme) ?? []).flatMap(partRecipients),
      after: parts.flatMap(partRecipients),
      kept: !after.has(scheme),
    })),
    annotations: [...after].map(([scheme, parts]) => [
      annotationName(scheme),
      parts.length === 0 ? undefined : annotationValue(parts),
    ]),
  };
}

async function newParts(
  parts: readonly Buffer[],
  plaintext: Buffer,
  { to, add, remove }: RewrapRequest,
): Promise<Buffer[]> {
  if (to !== undefined) return [await seal(plaintext, to)];
  const rest = withoutRecipients(parts, remove);
  return add.length === 0 ? rest : [...rest, await seal(plaintext, add)];
}

/**
 * go-jose refuses a whole JWE for one alg that it does not list: a symmetric key cannot be a recipient of the built-in
 * jwe.
 */
function refuseForScheme(scheme: string, parts: readonly Buffer[]): void {
  if (scheme !== "jwe") return;
  const symmetric = parts.flatMap(partRecipients).find(({ alg }) => familyOf(alg)?.builtIn !== true);
  if (symmetric === undefined) return;
  const message = `ocicrypt's built-in jwe opens no annotation with a recipient of alg ${symmetric.alg}`;
  throw imageError(message, "leave symmetric keys out, or write --as provider:NAME");
}

function noRecipientLeft({ digest }: Descriptor): KeystoreError {
  const hint = "nobody could open it any longer; add another recipient with --add";
  return imageError(`layer ${digest} would be left without any recipient`, hint);
}
