// JSON Web Keys (RFC 7517, RFC 7518 section 6): checked and copied once at the border, trusted from there on.

import { createECDH, createPrivateKey, createPublicKey, ECDH, hash, type KeyObject } from "node:crypto";
import { decodeBase64url } from "../base64.ts";
import { isObject, member, type JsonObject } from "../json.ts";

/** The curves of RFC 7518, section 6.2.1.1: OpenSSL's name, the length of a coordinate in bytes. */
export const CURVES = {
  "P-256": { openssl: "prime256v1", bytes: 32 },
  "P-384": { openssl: "secp384r1", bytes: 48 },
  "P-521": { openssl: "secp521r1", bytes: 66 },
} as const;

/** The name of a supported curve. */
export type Curve = keyof typeof CURVES;

/** Bounds of an RSA modulus in bits. */
export const RSA_BITS = { min: 2048, max: 8192 } as const;

interface Common {
  readonly kid?: string;
  readonly use?: string;
  readonly key_ops?: readonly string[];
  readonly alg?: string;
  /** RFC 3339: when the key came into the store. Our own member. */
  readonly created?: string;
}

/** An EC public key; `d` makes it a private one. Coordinates are canonical base64url of full length. */
export interface EcJwk extends Common {
  readonly kty: "EC";
  readonly crv: Curve;
  readonly x: string;
  readonly y: string;
  readonly d?: string;
}

/** An RSA public key; the six private members are all there or none is. */
export interface RsaJwk extends Common {
  readonly kty: "RSA";
  readonly n: string;
  readonly e: string;
  readonly d?: string;
  readonly p?: string;
  readonly q?: string;
  readonly dp?: string;
  readonly dq?: string;
  readonly qi?: string;
}

/** A symmetric key; the public half that a store keeps of one has no `k`. */
export interface OctJwk extends Common {
  readonly kty: "oct";
  readonly k?: string;
}

/** A key that passed {@link checkJwk}. */
export type Jwk = EcJwk | RsaJwk | OctJwk;

/** Makes the error to throw from words such as "has a d that does not match its point". They quote nothing of the key. */
type Fail = (reason: string) => Error;

/**
 * Checks a parsed JWK and copies the members we know. node:crypto alone takes another key's d, d 0, a wrong n or an e
 * of 1, so the key's own mathematics is checked here.
 *
 * @throws what `fail` makes
 */
export function checkJwk(value: unknown, fail: Fail): Jwk {
  if (!isObject(value)) throw fail("is not a JSON object");
  const common = checkCommon(value, fail);
  const kty = member(value, "kty");
  if (kty === "EC") return checkEc(value, common, fail);
  if (kty === "RSA") return checkRsa(value, common, fail);
  if (kty === "oct") return checkOct(value, common, fail);
  throw fail("has a kty other than EC, RSA and oct");
}

function checkCommon(value: JsonObject, fail: Fail): Common {
  const common: Record<string, unknown> = {};
  for (const name of ["kid", "use", "alg", "created"]) {
    const text = member(value, name);
    if (text === undefined) continue;
    if (typeof text !== "string" || text.length > 256) throw fail(`has a ${name} that is not a short string`);
    common[name] = text;
  }
  const ops = member(value, "key_ops");
  if (ops !== undefined) {
    if (!Array.isArray(ops) || ops.length > 16 || !ops.every((op) => typeof op === "string" && /^[\w.:+-]{1,64}$/.test(op))) {
      throw fail("has key_ops that are not a list of strings");
    }
    common["key_ops"] = [...ops];
  }
  return common;
}

function checkEc(value: JsonObject, common: Common, fail: Fail): EcJwk {
  const crv = member(value, "crv");
  if (crv !== "P-256" && crv !== "P-384" && crv !== "P-521") throw fail("has a crv other than P-256, P-384 and P-521");
  const coordinate = (name: string): { text: string; bytes: Buffer } => {
    const found = base64urlMember(value, name, fail);
    if (found.bytes.length !== CURVES[crv].bytes) throw fail(`has an ${name} of the wrong length for ${crv}`);
    return found;
  };
  const x = coordinate("x");
  const y = coordinate("y");
  const jwk: EcJwk = { ...common, kty: "EC", crv, x: x.text, y: y.text };
  if (member(value, "d") === undefined) {
    try {
      ECDH.convertKey(point(jwk), CURVES[crv].openssl);
    } catch {
      throw fail("has a point that is not on its curve");
    }
    return jwk;
  }
  const d = coordinate("d"); // its d·G is on the curve, so a point that equals it is too
  const ecdh = createECDH(CURVES[crv].openssl);
  try {
    ecdh.setPrivateKey(d.bytes);
  } catch {
    throw fail("has a d out of range");
  }
  if (!ecdh.getPublicKey().equals(point(jwk))) {
    throw fail("has a d that does not match its point");
  }
  return { ...jwk, d: d.text };
}

const RSA_PRIVATE = ["d", "p", "q", "dp", "dq", "qi"] as const;
const MAX_EXPONENT = 2n ** 64n; // OpenSSL's own bound for a large modulus

function checkRsa(value: JsonObject, common: Common, fail: Fail): RsaJwk {
  const number = (name: string): { text: string; big: bigint } => {
    const { text, bytes } = base64urlMember(value, name, fail);
    if (bytes.length > RSA_BITS.max / 8) throw fail(`has an ${name} that is too long`);
    if (bytes.length === 0 || bytes[0] === 0) throw fail(`has an ${name} with a leading zero`);
    return { text, big: BigInt(`0x${bytes.toString("hex")}`) };
  };
  const n = number("n");
  const e = number("e");
  const bits = n.big.toString(2).length;
  if (bits < RSA_BITS.min || bits > RSA_BITS.max) {
    throw fail(`is an RSA key of ${bits} bits, not of ${RSA_BITS.min} to ${RSA_BITS.max}`);
  }
  if (n.big % 2n === 0n) throw fail("has an even n");
  if (e.big % 2n === 0n || e.big < 3n || e.big >= MAX_EXPONENT) throw fail("has an e that is even, below 3 or too large");
  const jwk: RsaJwk = { ...common, kty: "RSA", n: n.text, e: e.text };
  if (RSA_PRIVATE.every((name) => member(value, name) === undefined)) return jwk;
  if (member(value, "oth") !== undefined) throw fail("has more than two primes");
  const [d, p, q, dp, dq, qi] = [number("d"), number("p"), number("q"), number("dp"), number("dq"), number("qi")];
  if (p.big * q.big !== n.big || p.big === 1n || q.big === 1n) throw fail("has p and q that do not make its n");
  if (d.big >= n.big || (d.big * e.big) % (p.big - 1n) !== 1n || (d.big * e.big) % (q.big - 1n) !== 1n) throw fail("has a d that does not match its e");
  if (dp.big !== d.big % (p.big - 1n) || dq.big !== d.big % (q.big - 1n) || qi.big >= p.big || (qi.big * q.big) % p.big !== 1n) {
    throw fail("has a dp, dq or qi that does not match");
  }
  return { ...jwk, d: d.text, p: p.text, q: q.text, dp: dp.text, dq: dq.text, qi: qi.text };
}

function checkOct(value: JsonObject, common: Common, fail: Fail): OctJwk {
  if (member(value, "k") === undefined) return { ...common, kty: "oct" };
  const { text, bytes } = base64urlMember(value, "k", fail);
  if (![16, 24, 32].includes(bytes.length)) throw fail("is a symmetric key of other than 128, 192 or 256 bits");
  return { ...common, kty: "oct", k: text };
}

function base64urlMember(value: JsonObject, name: string, fail: Fail): { text: string; bytes: Buffer } {
  const text = member(value, name);
  const bytes = typeof text === "string" ? decodeBase64url(text) : undefined;
  if (typeof text !== "string" || bytes === undefined) throw fail(`has no ${name} in canonical base64url`);
  return { text, bytes };
}

/** Whether a checked key has its private part: EC and RSA `d`, oct `k`. */
export function isPrivate(jwk: Jwk): boolean {
  return (jwk.kty === "oct" ? jwk.k : jwk.d) !== undefined;
}

const COUNTERPARTS = new Map([["unwrapKey", "wrapKey"], ["decrypt", "encrypt"]]); // RFC 7517, section 4.3

/** The public half of a private key: its key_ops say what the public half does. */
export function publicHalf(jwk: Jwk): Jwk {
  const key_ops = jwk.key_ops && [...new Set(jwk.key_ops.map((op) => COUNTERPARTS.get(op) ?? op))];
  return publicJwk(key_ops === undefined ? jwk : { ...jwk, key_ops });
}

/** A checked key without its private members, kid and usage members kept. Of an oct key everything but `k`. */
export function publicJwk(jwk: Jwk): Jwk {
  const { kty, kid, use, key_ops, alg, created } = jwk;
  const common: Common = {
    ...(kid === undefined ? {} : { kid }),
    ...(use === undefined ? {} : { use }),
    ...(key_ops === undefined ? {} : { key_ops }),
    ...(alg === undefined ? {} : { alg }),
    ...(created === undefined ? {} : { created }),
  };
  if (kty === "EC") return { kty, crv: jwk.crv, x: jwk.x, y: jwk.y, ...common };
  if (kty === "RSA") return { kty, n: jwk.n, e: jwk.e, ...common };
  return { kty, ...common };
}

/** The RFC 7638 SHA-256 thumbprint of an EC or RSA key, as base64url: its kid. */
export function thumbprint(jwk: EcJwk | RsaJwk): string {
  // Section 3.2: the required members only, in lexicographic order, no white space.
  const members =
    jwk.kty === "EC" ? { crv: jwk.crv, kty: jwk.kty, x: jwk.x, y: jwk.y } : { e: jwk.e, kty: jwk.kty, n: jwk.n };
  return hash("sha256", JSON.stringify(members), "base64url");
}

/** The kid of a key in a store: its thumbprint, a symmetric key's own. */
export function kidOf(jwk: Jwk): string {
  return jwk.kty === "oct" ? (jwk.kid ?? "") : thumbprint(jwk);
}

/** The public point of a checked EC key, uncompressed (SEC 1, section 2.3.3). */
export function point(jwk: EcJwk): Buffer {
  return Buffer.concat([Buffer.of(4), bytesOf(jwk.x), bytesOf(jwk.y)]);
}

/** The public key of an uncompressed point on a curve: what {@link point} was made of. */
export function pointJwk(crv: Curve, bytes: Uint8Array): EcJwk {
  const coordinate = (from: number): string => Buffer.from(bytes.subarray(from, from + CURVES[crv].bytes)).toString("base64url");
  return { kty: "EC", crv, x: coordinate(1), y: coordinate(1 + CURVES[crv].bytes) };
}

/** node:crypto's public key of a checked EC or RSA key. */
export function toPublicKey(jwk: EcJwk | RsaJwk): KeyObject {
  const key = jwk.kty === "EC" ? { kty: jwk.kty, crv: jwk.crv, x: jwk.x, y: jwk.y } : { kty: jwk.kty, n: jwk.n, e: jwk.e };
  return createPublicKey({ key, format: "jwk" });
}

/** node:crypto's private key of a checked EC or RSA key that has one. */
export function toPrivateKey(jwk: EcJwk | RsaJwk): KeyObject {
  return createPrivateKey({ key: { ...jwk, key_ops: [] }, format: "jwk" });
}

/** The bytes of a checked base64url member. */
export function bytesOf(text: string): Buffer {
  return Buffer.from(text, "base64url");
}
