// A private key at rest: its JWK as the plaintext of a JWE (RFC 7517, section 7), for a passphrase or a master key; tang/ has those for a server.
// Only files of the store are opened this way; the gate for annotations knows neither PBES2 nor a key without a kid.

import { pbkdf2, randomBytes } from "node:crypto";
import { promisify } from "node:util";
import { KeystoreError } from "../errors.ts";
import { isObject, member } from "../json.ts";
import { decodeBase64url } from "../base64.ts";
import { ENCRYPTIONS } from "./alg/algorithms.ts";
import { decryptContent, encryptContent } from "./engine.ts";
import { parseJwe, type ParsedJwe, type ParsedRecipient } from "./gate.ts";
import { aesKeyUnwrap, aesKeyWrap } from "./alg/key-wrap.ts";

/** What opens a private key at rest. */
export type SecretKind = "passphrase" | "master key";

/** How a private key at rest is locked: with a secret of its owner, or so that a server must be asked. */
export type LockKind = SecretKind | "Tang server";

/** Gives the secret of a kind. @throws KeystoreError `key` (exit code 3) if there is none or it cannot be used */
export type SecretSource = (kind: SecretKind) => Promise<Buffer>;

/** Bytes of a master key. */
export const MASTER_KEY_BYTES = 32;

const ENC = "A256GCM";
const PBES2 = "PBES2-HS512+A256KW"; // RFC 7518, section 4.8
const ITERATIONS = { written: 600_000, min: 1_000, max: 10_000_000 } as const; // p2c: section 4.8.1.2 asks for 1,000 at least
const SALT = { written: 16, min: 8, max: 1024 } as const; // bytes of p2s: section 4.8.1.1 asks for 8 at least
const derive = promisify(pbkdf2);

/** The `alg` of a key that is locked for a Tang server: RFC 7518, section 4.6, with no key wrapped. */
export const TANG_ALG = "ECDH-ES";

/** Seals a private JWK's JSON with a secret: a general JWE with one recipient, as JSON text in UTF-8. */
export async function sealAtRest(jwk: Buffer, kind: SecretKind, secret: Buffer): Promise<Buffer> {
  const cek = randomBytes(ENCRYPTIONS[ENC].cek);
  const iv = randomBytes(ENCRYPTIONS[ENC].iv);
  const p2s = randomBytes(SALT.written);
  const p2c = ITERATIONS.written;
  const recipient =
    kind === "passphrase"
      ? { header: { alg: PBES2, p2s: p2s.toString("base64url"), p2c }, encryptedKey: aesKeyWrap(await passwordKey(secret, p2s, p2c), cek) }
      : { header: { alg: "A256KW" }, encryptedKey: aesKeyWrap(secret, cek) };
  return Buffer.from(JSON.stringify(await encryptContent(jwk, { enc: ENC, cty: "jwk+json" }, cek, iv, [recipient])));
}

/** How a JWE at rest is locked. @throws KeystoreError `key` if in no way of ours */
export function lockKind(jwe: Buffer): LockKind {
  const { header } = parseLocked(jwe);
  const [alg, clevis] = [member(header, "alg"), member(header, "clevis")];
  if (alg === PBES2) return "passphrase";
  if (alg === "A256KW") return "master key";
  if (alg === TANG_ALG && isObject(clevis) && member(clevis, "pin") === "tang") return "Tang server";
  throw new KeystoreError("key", "it is locked in a way this program does not know", "restore it from a backup");
}

/**
 * Opens a JWE at rest that a secret opens: the JWK's JSON.
 *
 * @returns undefined if the secret is another one or the file was changed
 * @throws KeystoreError `key` if it is no such JWE, or what `source` throws
 */
export async function openAtRest(file: Buffer, kind: SecretKind, source: SecretSource): Promise<Buffer | undefined> {
  const secret = await source(kind);
  const { jwe, header, encryptedKey } = parseLocked(file);
  const kek = kind === "passphrase" ? await passwordKey(secret, salt(member(header, "p2s")), iterations(member(header, "p2c"))) : secret;
  try {
    return await decryptContent(jwe, aesKeyUnwrap(kek, encryptedKey));
  } catch {
    return undefined;
  }
}

/** A JWE at rest, which has one recipient. @throws KeystoreError `key`: the gate speaks of annotations, this is a file */
export function parseLocked(file: Buffer): ParsedRecipient & { readonly jwe: ParsedJwe } {
  try {
    const jwe = parseJwe(file);
    const [recipient] = jwe.recipients;
    if (recipient !== undefined) return { jwe, ...recipient };
  } catch (error) {
    if (!(error instanceof KeystoreError)) throw error;
  }
  throw damaged();
}

/** RFC 7518, section 4.8: PBKDF2 with HMAC-SHA-512 over the passphrase; the salt is alg, a zero byte and p2s. */
async function passwordKey(passphrase: Buffer, p2s: Buffer, p2c: number): Promise<Buffer> {
  return await derive(passphrase, Buffer.concat([Buffer.from(PBES2), Buffer.of(0), p2s]), p2c, 32, "sha512");
}

function salt(p2s: unknown): Buffer {
  const bytes = typeof p2s === "string" ? decodeBase64url(p2s) : undefined;
  if (bytes === undefined || bytes.length < SALT.min || bytes.length > SALT.max) throw damaged();
  return bytes;
}

function iterations(p2c: unknown): number {
  if (typeof p2c !== "number" || !Number.isInteger(p2c) || p2c < ITERATIONS.min || p2c > ITERATIONS.max) throw damaged();
  return p2c;
}

/** Says of a locked key what nobody can mend. */
export function damaged(): KeystoreError {
  return new KeystoreError("key", "it is damaged, or has parameters out of bounds", "restore it from a backup");
}
