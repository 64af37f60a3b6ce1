// The annotations of an encrypted layer (ocicrypt's spec): each has one or more base64 parts, joined with commas.

import { printable, usageError } from "../errors.ts";
import { damagedImage, IMAGE_LIMITS, type Descriptor } from "./documents.ts";

const PREFIX = "org.opencontainers.image.enc.keys.";
const PROVIDER = "provider.";

/** One scheme's annotation of a layer. `scheme` is `jwe`, `pgp`, …, or `provider:NAME`. */
export interface KeyAnnotation {
  readonly scheme: string;
  readonly parts: readonly Buffer[];
}

/** Whether a layer is encrypted: clients mark the media type, whatever it was. */
export function isEncrypted({ mediaType }: Descriptor): boolean {
  return mediaType.endsWith("+encrypted");
}

/**
 * The key annotations of a layer, in their order. Clients leave an empty one out.
 *
 * @throws KeystoreError `image` if there are too many
 */
export function keyAnnotations(layer: Descriptor): KeyAnnotation[] {
  if (countParts(layer) > IMAGE_LIMITS.layerParts) {
    throw damagedImage(`layer ${layer.digest}`, `has more than ${IMAGE_LIMITS.layerParts} wrapped keys`);
  }
  return [...layer.annotations].flatMap(([name, value]) => {
    if (!name.startsWith(PREFIX) || value === "") return [];
    const rest = name.slice(PREFIX.length);
    const scheme = rest.startsWith(PROVIDER) ? `provider:${rest.slice(PROVIDER.length)}` : rest;
    return [{ scheme, parts: decodeParts(value) }];
  });
}

/** How many wrapped keys a layer has, without a look at them. */
export function countParts({ annotations }: Descriptor): number {
  let count = 0;
  for (const [name, value] of annotations) if (name.startsWith(PREFIX)) count += value.split(",").length;
  return count;
}

/** The annotation's name for a scheme. */
export function annotationName(scheme: string): string {
  return PREFIX + scheme.replace(/^provider:/, PROVIDER);
}

/** The annotation's value for parts, as Go writes it. */
export function annotationValue(parts: readonly Buffer[]): string {
  return parts.map((part) => part.toString("base64")).join(",");
}

/** Whether a scheme's parts are JWEs that we could open and write. */
export function isJweScheme(scheme: string): boolean {
  return scheme === "jwe" || /^provider:./s.test(scheme);
}

/** A scheme that a user named. @throws KeystoreError `usage` if it is none we can write */
export function mustBeJweScheme(text: string): string {
  if (text === "jwe" || /^provider:[^:,\s]+$/.test(text)) return text;
  throw usageError(`"${printable(text, 64)}" is no scheme to rewrap`, "use jwe or provider:NAME");
}

/**
 * A kid without a known name, as a person sees it: in quotes unless it looks like a kid, so that it is not mistaken for
 * a key name.
 */
export function shownKid(kid: string): string {
  return /^[\w-]{22,128}$/.test(kid) ? kid : JSON.stringify(printable(kid, 128));
}

/**
 * Clients stop at a part that is not base64, and try the next scheme: what is left of the value is one part that nobody
 * can read. One writer in the wild emits base64url, which is read and never written.
 */
function decodeParts(value: string): Buffer[] {
  const parts = value.replaceAll(/[\r\n]/g, "").split(","); // as Go reads base64
  const bad = parts.findIndex((part) => !/^(?:[A-Za-z0-9+/_-]+={0,2})?$/.test(part));
  const good = parts.slice(0, bad === -1 ? parts.length : bad).map((part) => Buffer.from(part, "base64"));
  return bad === -1 ? good : [...good, Buffer.from(parts.slice(bad).join(","))];
}
