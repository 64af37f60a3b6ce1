// Reads keys that other programs wrote: JWK, PEM, DER, OpenSSH's keys, certificates. import/ has a file for each
// format. Messages never quote secrets: of the input they show kids, subjects and comments at most.

import { randomBytes } from "node:crypto";
import { isSymmetric, type Jwk } from "../jwk/jwk.ts";
import { choose, type Candidate } from "./import/candidate.ts";
import { readJson, refuseCompact } from "./import/jwk.ts";
import { readPublicLines } from "./import/openssh.ts";
import { otherKind } from "./import/other.ts";
import type { Passphrase } from "./import/passphrase.ts";
import { derBlock, encodedKeyFile, pemBlocks, readPem } from "./import/pem.ts";
import { plainText } from "./import/text.ts";

const OCT_KID = /^[A-Za-z0-9_-]{22}$/; // 128 bits, as the kids that generateJwk makes

/** What a caller may want besides the key. */
export interface ParseOptions {
  /** The kid or the thumbprint of the key to take, if the file has several. */
  readonly kid?: string | undefined;
  /** Whether the file has the name of a private key in a store: a locked one has the format of clevis. */
  readonly fromStore?: boolean;
  /** Gets what the user must know about the key: its certificate's subject, a warning. */
  readonly note?: (line: string) => void;
}

/**
 * Reads one key from the bytes of a file and checks that it can wrap; if it is private, that it can unwrap too.
 *
 * @param passphrase gives the passphrase of an encrypted key; only called for such a key
 * @returns the key with only the members that a store keeps; a symmetric key has its kid
 * @throws KeystoreError `key` if it is not a key, several keys, or a key that must not be used
 */
export async function parseKey(bytes: Buffer, passphrase: Passphrase, options: ParseOptions = {}): Promise<Jwk> {
  let asked: Promise<Buffer> | undefined;
  const once = async (): Promise<Buffer> => await (asked ??= passphrase());
  const found = choose(await readKeys(bytes, once, options.fromStore === true), options.kid);
  for (const line of found.notes ?? []) options.note?.(line);
  const { kid, created: _created, ...key } = found.jwk;
  if (!isSymmetric(key)) return key;
  return { ...key, kid: kid !== undefined && OCT_KID.test(kid) ? kid : randomBytes(16).toString("base64url") };
}

async function readKeys(file: Buffer, passphrase: Passphrase, fromStore: boolean): Promise<readonly Candidate[]> {
  const der = derBlock(file);
  if (der !== undefined) return await readPem([der], passphrase);
  const plain = plainText(file);
  const encoded = encodedKeyFile(plain.toString("latin1"));
  return await readFormats(encoded === undefined ? plain : plainText(encoded), passphrase, fromStore);
}

async function readFormats(bytes: Buffer, passphrase: Passphrase, fromStore: boolean): Promise<readonly Candidate[]> {
  const der = derBlock(bytes);
  if (der !== undefined) return await readPem([der], passphrase);
  const text = bytes.toString("latin1").trimStart();
  if (text.startsWith("{") || text.startsWith("[")) return readJson(bytes, fromStore);
  if (/^eyJ[\w-]+\.[\w-]*\.[\w-]+(\.[\w-]+\.[\w-]+)?\s*$/.test(text)) throw refuseCompact(text, fromStore);
  const blocks = pemBlocks(text);
  if (blocks.length > 0) return await readPem(blocks, passphrase);
  const lines = readPublicLines(bytes.toString("utf8"));
  if (lines.length > 0) return lines;
  throw otherKind(bytes);
}
