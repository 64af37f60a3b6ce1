// What locked private key files have in common: each is a JWE with one recipient. Its algorithms (PBES2, ECDH-ES) are
// accepted in files of the store only, never in annotations.

import { createCipheriv, randomBytes } from "node:crypto";
import { keyError, KeystoreError, printable } from "../errors.ts";
import { isObject, member, type JsonObject } from "../json.ts";
import { ENCRYPTIONS } from "../jwe/alg/algorithms.ts";
import { parseJwe, type ParsedJwe, type ParsedRecipient } from "../jwe/gate.ts";

/** What a person or a file gives to unlock with. */
export type SecretKind = "passphrase" | "master key";

/** Gives the secret of a kind. @throws KeystoreError `unusable` if there is none or it cannot be used */
export type SecretSource = (kind: SecretKind) => Promise<Buffer>;

/**
 * How a private key can be locked: with a secret of its owner, or with one of clevis's pins, so that a server or a TPM
 * must be asked. A clevis policy combines several of those that are not all servers.
 */
export type AtRestKind = SecretKind | "Tang server" | "group of Tang servers" | "clevis policy" | "TPM";

/** The enc of the files that this program writes. */
export const ENC = "A256GCM";

const HEADER_BYTES = 48 * 1024; // a group of Tang servers is in the header, with the keys of each

/** A lock for private key files, with its secret or its server. */
export interface AtRest {
  readonly kind: AtRestKind;
  /** Seals a private key's JSON: the result is the content of its locked file. */
  readonly seal: (jwk: Buffer) => Promise<Buffer>;
  /**
   * Opens a file that is locked in this way.
   *
   * @param signal ends the attempt if the result is no longer needed
   * @returns the JWK's JSON, undefined if the secret is wrong or the file was changed
   * @throws KeystoreError `key` if the file is damaged, `unusable` if the secret is missing or the server fails
   */
  readonly open: (file: Buffer, signal?: AbortSignal) => Promise<Buffer | undefined>;
  /**
   * Whether a file of this kind is locked for the same server. For a secret always true: only opening the file tells.
   */
  readonly sameAs: (file: Buffer) => boolean;
  /** The server's URL, or those of a group. */
  readonly url?: string;
}

/** One kind of lock. */
export interface AtRestType {
  /** The alg of its files. */
  readonly alg: string;
  /** The pin that clevis opens its files with, if clevis does. */
  readonly pin?: string;
  /** How to open a file of this kind. @throws KeystoreError `key` if it is damaged */
  readonly atRestOf: (file: Buffer, secrets: SecretSource) => AtRest;
}

/**
 * A locked private key file.
 *
 * @throws KeystoreError `key` if it is damaged: the gate's error would speak of an annotation
 */
export function parseLocked(file: Buffer): ParsedRecipient & { readonly jwe: ParsedJwe } {
  try {
    const jwe = parseJwe(Buffer.from(file.toString("latin1").trimEnd(), "latin1"), HEADER_BYTES);
    const [recipient] = jwe.recipients;
    if (recipient !== undefined) return { jwe, ...recipient };
  } catch (error) {
    if (!(error instanceof KeystoreError)) throw error;
  }
  throw damagedLockedKey("is not a JWE with one recipient");
}

/**
 * Seals a private key's JSON as clevis does: a compact JWE (RFC 7516, section 7.1) without an encrypted key.
 *
 * @param header its header, but for the enc
 * @param cek the content key, which the header leads to
 */
export function sealCompact(header: JsonObject, cek: Buffer, jwk: Buffer): Buffer {
  const written = Buffer.from(JSON.stringify({ ...header, enc: ENC })).toString("base64url");
  const iv = randomBytes(ENCRYPTIONS[ENC].iv);
  const cipher = createCipheriv("aes-256-gcm", cek, iv).setAAD(Buffer.from(written));
  const ciphertext = Buffer.concat([cipher.update(jwk), cipher.final()]);
  const parts = [iv, ciphertext, cipher.getAuthTag()].map((bytes) => bytes.toString("base64url"));
  return Buffer.from([written, "", ...parts].join("."));
}

/** Parses a file as {@link sealCompact} writes it. @throws KeystoreError `key` if it is damaged */
export function parseCompact(file: Buffer): ReturnType<typeof parseLocked> {
  const locked = parseLocked(file);
  if (locked.jwe.enc !== ENC) throw damagedLockedKey(`has an enc other than ${ENC}`);
  if (locked.encryptedKey.length > 0) throw damagedLockedKey("has an encrypted key");
  return locked;
}

/** The pin that clevis opens a file with, and its configuration; undefined if it is not a file of clevis. */
export function clevisPin(header: JsonObject): { readonly pin: string; readonly config: JsonObject } | undefined {
  const clevis = member(header, "clevis");
  const pin = isObject(clevis) ? member(clevis, "pin") : undefined;
  if (!isObject(clevis) || typeof pin !== "string") return undefined;
  const config = member(clevis, pin);
  return { pin, config: isObject(config) ? config : {} };
}

/** The error for a file that clevis may open and this program does not. @param how such as "with clevis's pin null" */
export function onlyClevisOpens(how: string): KeystoreError {
  const hint = "open it with clevis decrypt, then import the key that this prints";
  return keyError(`it is locked ${printable(how, 300)}, which this program does not open`, hint);
}

/** The error for a locked key that no secret opens. @param reason such as "has no exchange key" */
export function damagedLockedKey(reason: string): KeystoreError {
  return keyError(`it is damaged: it ${reason}`, "restore it from a backup");
}
