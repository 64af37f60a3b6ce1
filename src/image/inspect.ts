// Who can open which layer of an image, and what stays readable to everybody.

import { isObject, member, type JsonObject } from "../json.ts";
import type { PrivateKeys } from "../jwe/key.ts";
import { isEncrypted, isJweScheme, keyAnnotations } from "./annotations.ts";
import {
  damagedImage,
  REF_NAME,
  IMAGE_LIMITS,
  isAttestation,
  isStatement,
  type Descriptor,
  type Document,
} from "./documents.ts";
import { parseLooseJson } from "./json.ts";
import { isConfigType, notDecryptedBy, ociType } from "./media-types.ts";
import { openAny, partRecipients, tellsRecipient } from "./parts.ts";
import type { ImageSource } from "./source/source.ts";
import {
  limitCounter,
  loadTree,
  manifestEntries,
  readVerified,
  type LeftEntry,
  type ManifestEntry,
  type Node,
} from "./tree.ts";

/** One part of an annotation: a wrapped key. The member names are those of `inspect --json`. */
export interface PartReport {
  readonly recipients: readonly { readonly alg: string; readonly kid?: string; readonly name?: string }[];
  /** Whether it tells for whom it is: one recipient at least has all that its alg needs. */
  readonly told: boolean;
  /** Whether this store opened it; only where that was asked for. */
  readonly opens?: boolean;
}

/** A layer. */
export interface LayerReport {
  readonly digest: string;
  readonly size: number;
  readonly mediaType: string;
  readonly encrypted: boolean;
  readonly annotations: readonly { readonly scheme: string; readonly parts: readonly PartReport[] }[];
  /** An in-toto statement: clients never encrypt it. */
  readonly attestation?: true;
}

/** A manifest with its layers. */
export interface ManifestReport {
  /** Of several images in a layout or archive: the tag or the place that names the one that it is of. */
  readonly name?: string;
  readonly digest: string;
  readonly platform?: string;
  /** The index names it, and it is not in this image. */
  readonly absent?: true;
  /** An entry of an index that is neither a manifest nor an index. */
  readonly other?: true;
  readonly mediaType?: string;
  /** Its content is a manifest or an index, and its media type says otherwise. */
  readonly disguised?: true;
  readonly layers: readonly LayerReport[];
  /** The names of what its configuration tells everybody. */
  readonly readable?: { readonly env: readonly string[]; readonly labels: readonly string[] };
}

/** How to look: names for kids, and the keys to really open with. */
export interface InspectOptions {
  readonly nameOf: (kid: string) => string | undefined;
  readonly verifyWith?: PrivateKeys | undefined;
}

/**
 * Reports every manifest of an image. Of layers only the descriptors are read.
 *
 * @throws KeystoreError `image` if it is damaged or beyond a limit
 */
export async function inspectImage(source: ImageSource, options: InspectOptions): Promise<ManifestReport[]> {
  const reports = [];
  const configs = limitCounter();
  const tree = await loadTree(source);
  const named = source.digest === undefined && tree.children.length + tree.left.length > 1;
  for (const entry of manifestEntries(tree)) {
    const name = named ? nameIn(tree, entry.top) : {};
    if (entry.state !== "present") {
      reports.push({ ...name, ...reportLeft(entry) });
      continue;
    }
    const { descriptor, document } = entry;
    const layers = [];
    const config = imageConfig(document.config, descriptor);
    for (const layer of document.layers) layers.push(await inspectLayer(layer, config === undefined, options));
    if (config !== undefined) configs.document(config.size);
    reports.push({
      ...name,
      digest: descriptor?.digest ?? source.digest ?? "",
      ...platformIn(descriptor),
      ...typeOf(document, descriptor),
      layers,
      ...(config === undefined ? {} : { readable: readableIn(await readConfig(source, config)) }),
    });
  }
  return reports;
}

/** What follows `oci:DIR:` to name the image that is below a place of index.json. */
function nameIn({ document }: Node, place = 0): { name: string } {
  const entry = document.kind === "index" ? document.manifests[place] : undefined;
  return { name: entry?.annotations.get(REF_NAME) ?? `@${place}` };
}

function reportLeft({ descriptor, state, disguised }: LeftEntry): ManifestReport {
  const { digest, mediaType } = descriptor;
  if (state === "absent") return { digest, ...platformIn(descriptor), absent: true, layers: [] };
  const more = disguised ? { disguised } : {};
  return { digest, ...platformIn(descriptor), other: true, mediaType, ...more, layers: [] };
}

function typeOf(document: Document, descriptor: Descriptor | undefined): { mediaType?: string } {
  const mediaType = document.mediaType ?? descriptor?.mediaType ?? "";
  return mediaType === "" ? {} : { mediaType };
}

function platformIn(descriptor: Descriptor | undefined): { platform?: string } {
  return descriptor?.platform === undefined ? {} : { platform: descriptor.platform };
}

/** The configuration of an image; attestations have an empty one, and artifacts one of their own type. */
function imageConfig(config: Descriptor | undefined, manifest: Descriptor | undefined): Descriptor | undefined {
  if (config === undefined || !isConfigType(config.mediaType)) return undefined;
  return manifest !== undefined && isAttestation(manifest) ? undefined : config;
}

/** @param artifact whether the manifest is no image: only there a statement is an attestation */
async function inspectLayer(
  layer: Descriptor,
  artifact: boolean,
  { nameOf, verifyWith }: InspectOptions,
): Promise<LayerReport> {
  const annotations = [];
  for (const { scheme, parts } of keyAnnotations(layer)) {
    const reports: PartReport[] = [];
    for (const part of parts) {
      const recipients = partRecipients(part).map(({ alg, kid }) => {
        const name = kid === undefined ? undefined : nameOf(kid);
        return { alg, ...(kid === undefined ? {} : { kid }), ...(name === undefined ? {} : { name }) };
      });
      const tried = verifyWith !== undefined && isJweScheme(scheme);
      const told = tellsRecipient(part);
      reports.push({
        recipients,
        told,
        ...(tried ? { opens: (await openAny([part], verifyWith)) !== undefined } : {}),
      });
    }
    annotations.push({ scheme, parts: reports });
  }
  const { digest, size, mediaType } = layer;
  const attestation = artifact && isStatement(layer) ? { attestation: true as const } : {};
  return { digest, size, mediaType, encrypted: isEncrypted(layer), annotations, ...attestation };
}

async function readConfig(source: ImageSource, config: Descriptor): Promise<JsonObject> {
  const what = `configuration ${config.digest}`;
  const bytes = await readVerified(source, config, what);
  if (bytes === undefined) throw damagedImage(what, "is not there");
  const value = parseLooseJson(bytes, IMAGE_LIMITS.jsonDepth, (reason) => damagedImage(what, reason));
  return isObject(value) ? value : {};
}

function readableIn(config: JsonObject): { env: string[]; labels: string[] } {
  const settings = member(config, "config");
  const [env, labels] = isObject(settings) ? [member(settings, "Env"), member(settings, "Labels")] : [];
  return {
    env: Array.isArray(env) ? env.flatMap((pair) => (typeof pair === "string" ? (pair.split("=")[0] ?? "") : [])) : [],
    labels: isObject(labels) ? Object.keys(labels) : [],
  };
}

/** A media type of encrypted layers that some clients do not decrypt. */
export interface ForeignType {
  readonly mediaType: string;
  /** How many layers. */
  readonly layers: number;
  readonly notDecryptedBy: readonly string[];
  /** Whether `rewrap --fix-media-types` changes it. */
  readonly fixable: boolean;
}

/** What {@link foreignTypes} looks at. */
export interface TypedManifest {
  readonly mediaType?: string;
  readonly layers: readonly { readonly mediaType: string; readonly encrypted: boolean }[];
}

/** The media types of a manifest and its layers. */
export function typesIn({ document, descriptor }: ManifestEntry): TypedManifest {
  const layers = document.layers.map((layer) => ({ mediaType: layer.mediaType, encrypted: isEncrypted(layer) }));
  return { ...typeOf(document, descriptor), layers };
}

/** The media types of encrypted layers that some clients do not decrypt, with the manifests that they are in. */
export function foreignTypes(manifests: readonly TypedManifest[]): ForeignType[] {
  const types = new Map<string, ForeignType>();
  for (const { mediaType: manifestType = "", layers } of manifests) {
    for (const { mediaType, encrypted } of layers) {
      const clients = encrypted ? notDecryptedBy(mediaType, manifestType) : [];
      if (clients.length === 0) continue;
      const key = `${mediaType} ${manifestType}`;
      const fixable = ociType(mediaType) !== undefined || ociType(manifestType) !== undefined;
      types.set(key, { mediaType, layers: (types.get(key)?.layers ?? 0) + 1, notDecryptedBy: clients, fixable });
    }
  }
  return [...types.values()];
}

/** The layers that count if encryption is required; attestations do not. */
export interface CountedLayers {
  /** An annotation tells for whom the layer is encrypted. */
  readonly encrypted: readonly LayerReport[];
  /** Not encrypted, or nobody has a key. */
  readonly plain: readonly LayerReport[];
  /** None of the annotations tells for whom. */
  readonly untold: readonly LayerReport[];
}

/** Sorts layers by whether an annotation tells for whom they are encrypted; an annotation alone proves nothing. */
export function countLayers(reports: readonly ManifestReport[]): CountedLayers {
  const counted: Record<keyof CountedLayers, LayerReport[]> = { encrypted: [], plain: [], untold: [] };
  for (const layer of reports.flatMap(({ layers }) => layers)) {
    if (layer.attestation === true) continue;
    if (!layer.encrypted || layer.annotations.length === 0) counted.plain.push(layer);
    else counted[layer.annotations.some(tellsForWhom) ? "encrypted" : "untold"].push(layer);
  }
  return counted;
}

function tellsForWhom({ scheme, parts }: LayerReport["annotations"][number]): boolean {
  if (!isJweScheme(scheme)) return false;
  return parts.some(({ told }) => told);
}
