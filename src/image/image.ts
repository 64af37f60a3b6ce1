// An image wherever it is: what inspect and rewrap need of a layout, an archive or a registry.

import { countParts } from "./annotations.ts";
import { damaged, isAttestation, isIndex, LIMITS, parseDocument, verify, type Descriptor, type Document } from "./documents.ts";
import type { ImageSource } from "./source/source.ts";

/** A manifest with its layers, reached from the root. */
export interface FoundManifest {
  readonly descriptor: Descriptor | undefined;
  readonly document: Document & { kind: "manifest" };
  readonly attestation: boolean;
}

/** Throws where an image has more than {@link LIMITS} allow. */
export interface LimitedReading {
  readonly document: (descriptor: Descriptor) => void;
  readonly layers: (layers: readonly Descriptor[]) => void;
}

/** Counts what is read of an image, also what is read again: a few documents can name one another very often. */
export function limitedReading(): LimitedReading {
  let [documents, bytes, count, parts] = [0, 0, 0, 0];
  return {
    document: ({ size }) => {
      if (++documents > LIMITS.documents) throw damaged("the image", `has more than ${LIMITS.documents} documents`);
      if ((bytes += size) > LIMITS.bytes) throw damaged("the image", `has documents of more than ${LIMITS.bytes / 1024 / 1024} MiB`);
    },
    layers: (layers) => {
      if ((count += layers.length) > LIMITS.layers) throw damaged("the image", `has more than ${LIMITS.layers} layers`);
      parts = layers.reduce((sum, layer) => sum + countParts(layer), parts);
      if (parts > LIMITS.parts) throw damaged("the image", `has more than ${LIMITS.parts} wrapped keys`);
    },
  };
}

/** Reads and verifies what a descriptor points to. @throws KeystoreError `image` */
export async function readDocument(store: ImageSource, descriptor: Descriptor): Promise<Document> {
  const what = `document ${descriptor.digest}`;
  if (descriptor.size > LIMITS.documentBytes) throw damaged(what, "is larger than 4 MiB");
  return parseDocument(verify(await store.read(descriptor), descriptor, what), what);
}

/** Those of the digests that nothing in the image points to, whatever its tags. @throws KeystoreError `image` if an index of it cannot be read */
export async function unreferenced(store: ImageSource, digests: readonly string[]): Promise<string[]> {
  const { document } = await store.root();
  const reached = new Set<string>();
  const visit = async (parent: Document): Promise<void> => {
    if (parent.kind === "manifest") return [parent.config, ...parent.layers].forEach((child) => child && reached.add(child.digest));
    for (const descriptor of parent.manifests) {
      if (reached.has(descriptor.digest)) continue;
      reached.add(descriptor.digest);
      const child = await readDocument(store, descriptor).catch((error: unknown) => {
        if (isIndex(descriptor)) throw error;
        return undefined; // an artifact of its own kind, or a platform that was not copied along
      });
      if (child !== undefined) await visit(child);
    }
  };
  await visit(document);
  return digests.filter((digest) => !reached.has(digest));
}

/** Every manifest of the image, platform by platform. @throws KeystoreError `image` if it is damaged or nested without end */
export async function manifests(store: ImageSource): Promise<FoundManifest[]> {
  const { document, selected } = await store.root();
  if (document.kind === "manifest") return [{ descriptor: undefined, document, attestation: false }];
  const found: FoundManifest[] = [];
  const reading = limitedReading();
  const visit = async (descriptor: Descriptor, depth: number): Promise<void> => {
    if (depth > LIMITS.nesting) throw damaged(`document ${descriptor.digest}`, "is nested too deep");
    reading.document(descriptor);
    const child = await readDocument(store, descriptor);
    if (child.kind === "index") {
      for (const one of child.manifests) await visit(one, depth + 1);
      return;
    }
    reading.layers(child.layers);
    found.push({ descriptor, document: child, attestation: isAttestation(descriptor) });
  };
  for (const place of selected) {
    const descriptor = document.manifests[place];
    if (descriptor !== undefined) await visit(descriptor, 1);
  }
  return found;
}

