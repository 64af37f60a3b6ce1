// The gate: checks a JWE before a key or node-jose gets it (RFC 7516, sections 3, 4 and 7). These are rules 1 to 6 of
// README.md. A fault here refuses the whole annotation.

import { decodeBase64url } from "../base64.ts";
import { annotationError, KeystoreError } from "../errors.ts";
import { isObject, member, parseJson, type JsonObject } from "../json.ts";
import { ENCRYPTIONS, isEncryption, type Encryption } from "./alg/algorithms.ts";

/** Limits on an annotation, decoded. */
export const ANNOTATION_LIMITS = {
  bytes: 256 * 1024,
  headerBytes: 16 * 1024,
  depth: 8,
  recipients: 64,
} as const;

/** One recipient: its JOSE header (RFC 7516, section 4: the union of the three headers) and its encrypted key. */
export interface ParsedRecipient {
  readonly header: JsonObject;
  readonly encryptedKey: Buffer;
}

/** A JWE that passed the gate. The members named as in RFC 7516, section 7.2.1, hold its base64url text, unchanged. */
export interface ParsedJwe {
  readonly enc: Encryption;
  readonly protected: string;
  readonly aad: string | undefined;
  readonly iv: string;
  readonly ciphertext: string;
  readonly tag: string;
  readonly recipients: readonly ParsedRecipient[];
}

// zip lets content grow without bound; crit and b64 change the meaning of the other parameters.
const FORBIDDEN_HEADERS = ["zip", "crit", "b64"];

/**
 * Parses a compact, flattened or general JWE.
 *
 * @param headerBytes the most that a header may have, decoded
 * @throws KeystoreError with code `annotation`, exit code 1, if it is malformed or forbidden
 */
export function parseJwe(annotation: Buffer, headerBytes: number = ANNOTATION_LIMITS.headerBytes): ParsedJwe {
  if (annotation.length > ANNOTATION_LIMITS.bytes) throw refused("is larger than 256 KiB");
  const jwe = annotation[0] === 0x7b /* { */ ? parseObject(annotation) : parseCompact(annotation);

  const protectedHeader = parseProtected(optionalText(jwe, "protected"), headerBytes);
  const unprotected = headerMember(jwe, "unprotected");
  const written = recipientObjects(jwe);
  const recipients = written.map((recipient) => ({
    header: joseHeader([protectedHeader, unprotected, headerMember(recipient, "header")]),
    encryptedKey: base64urlMember(recipient, "encrypted_key", optionalText(recipient, "encrypted_key") ?? ""),
  }));

  const [enc, ...others] = new Set(recipients.map(({ header }) => member(header, "enc")));
  if (!isEncryption(enc)) throw refused('has an "enc" that is not accepted here');
  if (others.length > 0) throw refused('has recipients that differ in "enc"');

  const aad = optionalText(jwe, "aad");
  if (aad !== undefined) {
    if (protectedHeader === undefined) throw refused('has "aad" and no protected header');
    base64urlMember(jwe, "aad", aad);
  }
  return {
    enc,
    protected: optionalText(jwe, "protected") ?? "",
    aad,
    iv: fixedLength(jwe, "iv", ENCRYPTIONS[enc].iv),
    ciphertext: fixedLength(jwe, "ciphertext"),
    tag: fixedLength(jwe, "tag", ENCRYPTIONS[enc].tag),
    recipients,
  };
}

function parseObject(annotation: Buffer): JsonObject {
  const value = parseJson(annotation, ANNOTATION_LIMITS.depth, refused);
  if (!isObject(value)) throw refused("is not a JSON object");
  return value;
}

/** RFC 7516, section 7.1: exactly five parts. */
function parseCompact(annotation: Buffer): JsonObject {
  const parts = annotation.toString("latin1").split(".");
  if (parts.length !== 5) throw refused("is neither a JSON object nor a compact JWE of five parts");
  const [protectedHeader, encrypted_key, iv, ciphertext, tag] = parts;
  return { protected: protectedHeader, encrypted_key, iv, ciphertext, tag };
}

function parseProtected(text: string | undefined, headerBytes: number): JsonObject | undefined {
  if (text === undefined) return undefined;
  const bytes = decodeBase64url(text);
  if (bytes === undefined) throw refused("has a protected header that is not canonical base64url");
  if (bytes.length > headerBytes) throw refused(`has a header larger than ${headerBytes / 1024} KiB`);
  const header = parseJson(bytes, ANNOTATION_LIMITS.depth, (reason) =>
    refused(`has a protected header that ${reason}`),
  );
  if (!isObject(header)) throw refused("has a protected header that is not an object");
  return header;
}

/**
 * The recipients of a general JWE; of a flattened or a compact one, a list with one element (RFC 7516, section
 * 7.2.2).
 */
function recipientObjects(jwe: JsonObject): JsonObject[] {
  const recipients = member(jwe, "recipients");
  if (recipients === undefined) return [jwe];
  if (!Array.isArray(recipients) || recipients.length === 0 || !recipients.every(isObject)) {
    throw refused("has recipients that are not a list of objects");
  }
  if (recipients.length > ANNOTATION_LIMITS.recipients)
    throw refused(`has more than ${ANNOTATION_LIMITS.recipients} recipients`);
  if (member(jwe, "header") !== undefined) throw refused('has "header" beside "recipients"');
  const copy = member(jwe, "encrypted_key"); // go-jose writes a copy of the first recipient's
  const [first] = recipients;
  if (copy !== undefined && (first === undefined || copy !== member(first, "encrypted_key"))) {
    throw refused('has an "encrypted_key" beside "recipients" that is not the first recipient\'s');
  }
  return recipients;
}

function headerMember(object: JsonObject, name: string): JsonObject | undefined {
  const header = member(object, name);
  if (header === undefined) return undefined;
  if (!isObject(header)) throw refused(`has a "${name}" that is not an object`);
  if (Buffer.byteLength(JSON.stringify(header)) > ANNOTATION_LIMITS.headerBytes)
    throw refused("has a header larger than 16 KiB");
  return header;
}

/** RFC 7516, section 4: the three headers must be disjoint. */
function joseHeader(headers: readonly (JsonObject | undefined)[]): JsonObject {
  const present = headers.filter((header) => header !== undefined);
  const names = present.flatMap((header) => Object.keys(header));
  if (new Set(names).size !== names.length) throw refused("repeats a header parameter in two of its headers");
  const forbidden = FORBIDDEN_HEADERS.find((name) => names.includes(name));
  if (forbidden !== undefined) throw refused(`uses "${forbidden}", which is not allowed`);
  return Object.fromEntries(present.flatMap((header) => Object.entries(header)));
}

function optionalText(object: JsonObject, name: string): string | undefined {
  const text = member(object, name);
  if (text !== undefined && typeof text !== "string") throw refused(`has a "${name}" that is not a string`);
  return text;
}

function base64urlMember(
  object: JsonObject,
  name: string,
  text: string | undefined = optionalText(object, name),
): Buffer {
  const bytes = text === undefined ? undefined : decodeBase64url(text);
  if (bytes === undefined) throw refused(`has no "${name}" in canonical base64url`);
  return bytes;
}

function fixedLength(jwe: JsonObject, name: string, length?: number): string {
  const text = optionalText(jwe, name);
  const bytes = base64urlMember(jwe, name, text);
  if (text === undefined || (length !== undefined && bytes.length !== length)) {
    throw refused(`has a "${name}" of the wrong length`);
  }
  return text;
}

function refused(reason: string): KeystoreError {
  const hint = "it is damaged, or is not a JWE that this provider accepts; encrypt the image again";
  return annotationError(`the annotation ${reason}`, hint);
}
