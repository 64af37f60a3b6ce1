// Where an image lies: what inspect and rewrap need of a layout, an archive or a registry.

import type { Descriptor, Document } from "../documents.ts";

/** A new document to write, before the one that points to it. */
export interface NewDocument {
  readonly digest: string;
  readonly mediaType: string;
  readonly bytes: Buffer;
}

/** The document at the top. */
export interface Root {
  readonly document: Document;
  /** Of an index: the places of the entries that are meant. */
  readonly selected: readonly number[];
}

/** An image's documents, wherever it lies. Layers are neither read nor written. */
export interface ImageSource {
  /** The digest of the document at the top, where it has one: a registry's tag. A layout's index.json has none. */
  readonly digest?: string | undefined;
  root(): Promise<Root>;
  /** The bytes that a descriptor points to, not yet verified; undefined if they are not there. */
  read(descriptor: Descriptor): Promise<Buffer | undefined>;
  /**
   * Writes new documents in their order, and at last the new root, which makes them the image.
   *
   * @throws KeystoreError `image` if somebody changed the image meanwhile
   */
  write(documents: readonly NewDocument[], root: string): Promise<void>;
  /** Deletes documents that nothing points to any longer; a registry does that by itself. */
  prune?(digests: readonly string[]): Promise<void>;
}
