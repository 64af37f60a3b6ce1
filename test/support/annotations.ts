// Key annotations of images in an OCI layout, as ocicrypt names them: read, and moved from one scheme to another.

import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Layer } from "./images.ts";

const KEYS = "org.opencontainers.image.enc.keys.";

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** An index or a manifest, as far as annotations are concerned. */
interface Document {
  readonly manifests?: readonly Descriptor[];
  readonly layers?: readonly Descriptor[];
}

/** The schemes that a layer has a key annotation of: `jwe`, `provider.NAME`. Sorted. */
export function schemes(layer: Layer): string[] {
  return Object.keys(layer.annotations)
    .filter((name) => name.startsWith(KEYS))
    .map((name) => name.slice(KEYS.length))
    .toSorted();
}

/** The headers of the recipients in a layer's annotation of a scheme. It must be one JWE: a comma would part two. */
export function recipients(layer: Layer, scheme: string): Readonly<Record<string, unknown>>[] {
  const annotation = layer.annotations[KEYS + scheme] ?? "";
  if (!/^[A-Za-z0-9+/]+=*$/.test(annotation)) throw new Error(`not one part of base64: ${annotation}`);
  const jwe = JSON.parse(Buffer.from(annotation, "base64").toString()) as {
    recipients: { header: Record<string, unknown> }[];
  };
  return jwe.recipients.map(({ header }) => header);
}

/** Moves every layer's annotation from one scheme to another, and lets digests and sizes follow up to index.json. */
export function moveAnnotations(dir: string, from: string, to: string): void {
  const index = join(dir, "index.json");
  let moved = 0;

  const moveLayer = (layer: Descriptor): Descriptor => {
    const { [KEYS + from]: annotation, ...others } = layer.annotations ?? {};
    if (annotation === undefined) return layer;
    moved++;
    return { ...layer, annotations: { ...others, [KEYS + to]: annotation } };
  };
  const rewrite = (entry: Descriptor): Descriptor => {
    const bytes = rewritten(readFileSync(blobPath(dir, entry.digest)));
    const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
    writeFileSync(blobPath(dir, digest), bytes);
    return { ...entry, digest, size: bytes.length };
  };
  const rewritten = (bytes: Buffer): Buffer => {
    const { manifests, layers, ...others } = JSON.parse(bytes.toString()) as Document;
    return Buffer.from(
      JSON.stringify({
        ...others,
        ...(manifests && { manifests: manifests.map(rewrite) }),
        ...(layers && { layers: layers.map(moveLayer) }),
      }),
    );
  };

  writeFileSync(index, rewritten(readFileSync(index)));
  if (moved === 0) throw new Error(`no layer in ${dir} has an annotation of ${from}`);
}

function blobPath(dir: string, digest: string): string {
  return join(dir, "blobs", digest.replace(":", "/"));
}
