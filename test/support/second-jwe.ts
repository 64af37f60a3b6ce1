// A second implementation of JWE (RFC 7516, RFC 7518) on node:crypto alone, that also writes what must not be written:
// forbidden algorithms, stray members, keys of the wrong length. It shares no code with src/jwe.

import {
  constants,
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  pbkdf2Sync,
  privateDecrypt,
  publicEncrypt,
  randomBytes,
  type KeyObject,
} from "node:crypto";
import { OPTSDATA } from "./requests.ts";

export type Header = Readonly<Record<string, unknown>>;

/** A JSON Web Key as text: private where it is ours, public where we only write to it. */
export type PlainJwk = Readonly<Record<string, string>>;

/** One recipient as it stands in general JWE JSON. */
export interface ForgedRecipient {
  readonly header?: Header;
  readonly encrypted_key?: string;
}

/** General JWE JSON (RFC 7516, section 7.2.1). */
export interface Forged {
  readonly protected?: string;
  readonly unprotected?: Header;
  readonly aad?: string;
  readonly iv: string;
  readonly ciphertext: string;
  readonly tag: string;
  readonly recipients: readonly ForgedRecipient[];
}

/** For whom, how, and what else its header says. */
export interface To {
  readonly jwk: PlainJwk;
  /** By default what the store's own wrap would use. */
  readonly alg?: string;
  /** Added to the header, after what the algorithm puts there. */
  readonly header?: Header;
  /** A content encryption key to wrap instead of the one that encrypts the content. */
  readonly cek?: Buffer;
  /** An ephemeral private key to use. */
  readonly ephemeral?: KeyObject;
}

export interface ForgeOptions {
  readonly enc?: string;
  readonly plaintext?: string | Buffer;
  /** Header parameters beside `enc`. */
  readonly protected?: Header;
  readonly unprotected?: Header;
  readonly aad?: string;
  /** Which header `enc` stands in. */
  readonly encIn?: "protected" | "unprotected" | "header";
  /** Which header the first recipient's own parameters stand in; "protected" is what compact form needs. */
  readonly place?: "protected" | "unprotected" | "header";
  /** CBC: the plaintext carries its own padding. */
  readonly rawPadding?: boolean;
}

/** Content encryption (RFC 7518, section 5): lengths in bytes, the cipher, and for CBC the hash of its HMAC. */
const ENCS: Readonly<Record<string, { cek: number; iv: number; tag: number; cipher: string; hash?: string }>> = {
  A128GCM: { cek: 16, iv: 12, tag: 16, cipher: "aes-128-gcm" },
  A192GCM: { cek: 24, iv: 12, tag: 16, cipher: "aes-192-gcm" },
  A256GCM: { cek: 32, iv: 12, tag: 16, cipher: "aes-256-gcm" },
  "A128CBC-HS256": { cek: 32, iv: 16, tag: 16, cipher: "aes-128-cbc", hash: "sha256" },
  "A192CBC-HS384": { cek: 48, iv: 16, tag: 24, cipher: "aes-192-cbc", hash: "sha384" },
  "A256CBC-HS512": { cek: 64, iv: 16, tag: 32, cipher: "aes-256-cbc", hash: "sha512" },
};

export const b64u = (data: string | Buffer): string => Buffer.from(data).toString("base64url");
const bytes = (text = ""): Buffer => Buffer.from(text, "base64url");
const text = (value: unknown): string => (typeof value === "string" ? value : "");
const jwkOf = (key: KeyObject): PlainJwk => key.export({ format: "jwk" }) as PlainJwk;

/** A new private key: `P-256`, `RSA-2048`, or `oct-32` for one of 32 bytes. */
export function newKey(kind: string): PlainJwk {
  const [type, size] = kind.split("-");
  if (type === "oct") return { kty: "oct", k: b64u(randomBytes(Number(size))) };
  if (type === "RSA") return jwkOf(generateKeyPairSync("rsa", { modulusLength: Number(size) }).privateKey);
  return jwkOf(newEphemeral(kind));
}

/** A new private key of a curve. */
export function newEphemeral(crv: string): KeyObject {
  return generateKeyPairSync("ec", { namedCurve: crv }).privateKey;
}

/** RFC 7638, section 3: the thumbprint that is a key's kid. */
export function thumbprintOf({ kty = "", crv, x, y, e, n }: PlainJwk): string {
  return createHash("sha256")
    .update(JSON.stringify(kty === "RSA" ? { e, kty, n } : { crv, kty, x, y }))
    .digest("base64url");
}

/** ConcatKDF (RFC 7518, section 4.6.2; NIST SP 800-56A, section 5.8.1) with SHA-256, of any length in bytes. */
export function concatKdf(z: Buffer, algorithm: string, apu: Buffer, apv: Buffer, length: number): Buffer {
  const number = (value: number): Buffer => Buffer.from(value.toString(16).padStart(8, "0"), "hex");
  const other = [Buffer.from(algorithm), apu, apv].flatMap((datum) => [number(datum.length), datum]);
  const rounds = Array.from({ length: Math.ceil(length / 32) }, (_, round) => {
    const digest = createHash("sha256")
      .update(number(round + 1))
      .update(z);
    for (const part of [...other, number(length * 8)]) digest.update(part);
    return digest.digest();
  });
  return Buffer.concat(rounds).subarray(0, length);
}

/** AES Key Wrap, by the loops of RFC 3394, section 2.2.1. */
export function keyWrap(kek: Buffer, key: Buffer): Buffer {
  const aes = createCipheriv(`aes-${kek.length * 8}-ecb`, kek, null).setAutoPadding(false);
  const blocks = Array.from({ length: key.length / 8 }, (_, at) => key.subarray(8 * at, 8 * at + 8));
  let a = Buffer.alloc(8, 0xa6);
  for (let t = 1; t <= 6 * blocks.length; t++) {
    const at = (t - 1) % blocks.length;
    const block = aes.update(Buffer.concat([a, blocks[at] ?? a]));
    a = block.subarray(0, 8);
    a.writeUInt32BE((a.readUInt32BE(4) ^ t) >>> 0, 4);
    blocks[at] = block.subarray(8);
  }
  return Buffer.concat([a, ...blocks]);
}

/** Its inverse (section 2.2.2). @throws if the integrity check fails */
export function keyUnwrap(kek: Buffer, wrapped: Buffer): Buffer {
  const aes = createDecipheriv(`aes-${kek.length * 8}-ecb`, kek, null).setAutoPadding(false);
  const blocks = Array.from({ length: wrapped.length / 8 - 1 }, (_, at) => wrapped.subarray(8 * at + 8, 8 * at + 16));
  let a = Buffer.from(wrapped.subarray(0, 8));
  for (let t = 6 * blocks.length; t >= 1; t--) {
    const at = (t - 1) % blocks.length;
    a.writeUInt32BE((a.readUInt32BE(4) ^ t) >>> 0, 4);
    const block = aes.update(Buffer.concat([a, blocks[at] ?? a]));
    a = Buffer.from(block.subarray(0, 8));
    blocks[at] = block.subarray(8);
  }
  if (!a.equals(Buffer.alloc(8, 0xa6))) throw new Error("the integrity check failed");
  return Buffer.concat(blocks);
}

function encryption(enc: string): { cek: number; iv: number; tag: number; cipher: string; hash?: string } {
  const found = ENCS[enc];
  if (found === undefined) throw new Error(`no such enc: ${enc}`);
  return found;
}

/** RFC 7518, section 5.2.2.1: over AAD, IV, ciphertext and the AAD's length in bits. */
function cbcTag(hash: string, key: Buffer, aad: Buffer, iv: Buffer, ciphertext: Buffer): Buffer {
  const length = Buffer.alloc(8);
  length.writeBigUInt64BE(BigInt(aad.length * 8));
  const mac = createHmac(hash, key).update(aad).update(iv).update(ciphertext).update(length).digest();
  return mac.subarray(0, mac.length / 2);
}

function encryptContent(
  enc: string,
  cek: Buffer,
  iv: Buffer,
  aad: Buffer,
  plaintext: Buffer,
  rawPadding: boolean,
): { ciphertext: Buffer; tag: Buffer } {
  const { cipher: name, hash } = encryption(enc);
  if (hash === undefined) {
    const cipher = createCipheriv(name as "aes-256-gcm", cek, iv).setAAD(aad);
    const ciphertext = Buffer.concat([cipher.update(plaintext), cipher.final()]);
    return { ciphertext, tag: cipher.getAuthTag() };
  }
  const cipher = createCipheriv(name, cek.subarray(cek.length / 2), iv).setAutoPadding(!rawPadding);
  const ciphertext = Buffer.concat([cipher.update(plaintext), cipher.final()]);
  return { ciphertext, tag: cbcTag(hash, cek.subarray(0, cek.length / 2), aad, iv, ciphertext) };
}

function decryptContent(enc: string, cek: Buffer, iv: Buffer, aad: Buffer, ciphertext: Buffer, tag: Buffer): Buffer {
  const { cipher: name, hash } = encryption(enc);
  if (hash === undefined) {
    const decipher = createDecipheriv(name as "aes-256-gcm", cek, iv)
      .setAAD(aad)
      .setAuthTag(tag);
    return Buffer.concat([decipher.update(ciphertext), decipher.final()]);
  }
  if (!cbcTag(hash, cek.subarray(0, cek.length / 2), aad, iv, ciphertext).equals(tag)) throw new Error("a bad tag");
  const decipher = createDecipheriv(name, cek.subarray(cek.length / 2), iv);
  return Buffer.concat([decipher.update(ciphertext), decipher.final()]);
}

/** The key that an EC recipient and an ephemeral key agree on: the KEK of ECDH-ES+A*KW, the CEK of ECDH-ES. */
function agree(privateKey: KeyObject, publicKey: KeyObject, alg: string, enc: string, header: Header): Buffer {
  const z = diffieHellman({ privateKey, publicKey });
  const kek = /\+A(\d+)KW$/.exec(alg)?.[1];
  const [name, length] = kek === undefined ? [enc, encryption(enc).cek] : [alg, Number(kek) / 8];
  return concatKdf(z, name, bytes(text(header["apu"])), bytes(text(header["apv"])), length);
}

const publicKeyOf = (jwk: PlainJwk): KeyObject => createPublicKey({ key: jwk, format: "jwk" });
const privateKeyOf = (jwk: PlainJwk): KeyObject => createPrivateKey({ key: jwk, format: "jwk" });
const oaep = (alg: string): object => ({
  padding: constants.RSA_PKCS1_OAEP_PADDING,
  oaepHash: alg === "RSA-OAEP" ? "sha1" : "sha256",
});

/** What the store's own wrap would use. */
function naturalAlg({ kty, k }: PlainJwk): string {
  if (kty === "oct") return `A${bytes(k).length * 8}KW`;
  return kty === "RSA" ? "RSA-OAEP-256" : "ECDH-ES+A256KW";
}

/** Wraps a CEK by any algorithm of RFC 7518, section 4, forbidden ones too. `dir` and `ECDH-ES` give a CEK of their own. */
function wrapCek(alg: string, to: To, enc: string, cek: Buffer): { header: Header; encrypted?: Buffer; cek?: Buffer } {
  const { jwk } = to;
  const secret = bytes(jwk["k"]);
  if (alg === "dir") return { header: {}, cek: secret };
  if (alg === "RSA1_5")
    return {
      header: {},
      encrypted: publicEncrypt({ key: publicKeyOf(jwk), padding: constants.RSA_PKCS1_PADDING }, cek),
    };
  if (alg.startsWith("RSA-OAEP"))
    return { header: {}, encrypted: publicEncrypt({ key: publicKeyOf(jwk), ...oaep(alg) }, cek) };
  if (alg.startsWith("ECDH-ES")) {
    const ephemeral = to.ephemeral ?? newEphemeral(jwk["crv"] ?? "");
    const agreed = agree(ephemeral, publicKeyOf(jwk), alg, enc, to.header ?? {});
    const header = { epk: jwkOf(createPublicKey(ephemeral)) };
    return alg === "ECDH-ES" ? { header, cek: agreed } : { header, encrypted: keyWrap(agreed, cek) };
  }
  if (alg.startsWith("PBES2")) {
    const salt = randomBytes(16);
    const kek = pbkdf2Sync(secret, Buffer.concat([Buffer.from(`${alg}\0`), salt]), 1000, 16, "sha256");
    return { header: { p2s: b64u(salt), p2c: 1000 }, encrypted: keyWrap(kek, cek) };
  }
  if (alg.endsWith("GCMKW")) {
    const iv = randomBytes(12);
    const cipher = createCipheriv(`aes-${secret.length * 8}-gcm` as "aes-256-gcm", secret, iv);
    const encrypted = Buffer.concat([cipher.update(cek), cipher.final()]);
    return { header: { iv: b64u(iv), tag: b64u(cipher.getAuthTag()) }, encrypted };
  }
  return { header: {}, encrypted: keyWrap(secret, cek) };
}

/** Writes a JWE. Each recipient's own parameters stand in its `header`, the first one's where `place` says. */
export function forge(to: readonly To[], options: ForgeOptions = {}): Forged {
  const {
    enc = "A256GCM",
    plaintext = OPTSDATA,
    encIn = "protected",
    place = "header",
    aad,
    rawPadding = false,
  } = options;
  const { cek: cekLength, iv: ivLength } = encryption(enc);
  let cek: Buffer = randomBytes(cekLength);
  const wrapped = to.map((one) => {
    const alg = one.alg ?? naturalAlg(one.jwk);
    const made = wrapCek(alg, one, enc, one.cek ?? cek);
    cek = made.cek ?? cek;
    const encrypted_key = made.encrypted === undefined ? {} : { encrypted_key: b64u(made.encrypted) };
    return { header: { alg, ...made.header, ...one.header }, ...encrypted_key };
  });
  const own = (where: string): Header => ({
    ...(encIn === where ? { enc } : {}),
    ...(place === where ? wrapped[0]?.header : {}),
  });
  const protectedHeader = { ...own("protected"), ...options.protected };
  const unprotected = { ...own("unprotected"), ...options.unprotected };
  const encoded = Object.keys(protectedHeader).length === 0 ? undefined : b64u(JSON.stringify(protectedHeader));
  const iv = randomBytes(ivLength);
  const authenticated = Buffer.from((encoded ?? "") + (aad === undefined ? "" : `.${b64u(aad)}`));
  const { ciphertext, tag } = encryptContent(enc, cek, iv, authenticated, Buffer.from(plaintext), rawPadding);
  return {
    ...(encoded === undefined ? {} : { protected: encoded }),
    ...(Object.keys(unprotected).length === 0 ? {} : { unprotected }),
    ...(aad === undefined ? {} : { aad: b64u(aad) }),
    iv: b64u(iv),
    ciphertext: b64u(ciphertext),
    tag: b64u(tag),
    recipients: wrapped.map(({ header, ...rest }, at) => {
      const kept = { ...(encIn === "header" ? { enc } : {}), ...(place === "header" || at > 0 ? header : {}) };
      return { ...(Object.keys(kept).length === 0 ? {} : { header: kept }), ...rest };
    }),
  };
}

/** RFC 7516, section 7.2.2. */
export function flattened({ recipients: [only], ...jwe }: Forged): object {
  return { ...jwe, ...only };
}

/** RFC 7516, section 7.1, of a JWE whose whole header is protected. */
export function compact({ recipients: [only], ...jwe }: Forged): string {
  return [jwe.protected, only?.encrypted_key, jwe.iv, jwe.ciphertext, jwe.tag].map((part) => part ?? "").join(".");
}

/** Opens general JWE JSON for one of its recipients, by the algorithms that the store takes. @throws if it does not open */
export function unforge(jwe: Forged, at: number, jwk: PlainJwk): string {
  const recipient = jwe.recipients[at];
  const header: Header = {
    ...(JSON.parse(jwe.protected === undefined ? "{}" : bytes(jwe.protected).toString()) as Header),
    ...jwe.unprotected,
    ...recipient?.header,
  };
  const [alg, enc, encrypted] = [text(header["alg"]), text(header["enc"]), bytes(recipient?.encrypted_key)];
  const kek = (): Buffer =>
    jwk["kty"] === "oct"
      ? bytes(jwk["k"])
      : agree(privateKeyOf(jwk), publicKeyOf(header["epk"] as PlainJwk), alg, enc, header);
  const cek =
    jwk["kty"] === "RSA"
      ? privateDecrypt({ key: privateKeyOf(jwk), ...oaep(alg) }, encrypted)
      : keyUnwrap(kek(), encrypted);
  const authenticated = Buffer.from((jwe.protected ?? "") + (jwe.aad === undefined ? "" : `.${jwe.aad}`));
  return decryptContent(enc, cek, bytes(jwe.iv), authenticated, bytes(jwe.ciphertext), bytes(jwe.tag)).toString();
}
