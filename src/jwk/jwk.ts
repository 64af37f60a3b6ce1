// JSON Web Keys (RFC 7517): checked and copied when they are read, trusted from then on. Each type of key has its own
// module, and a row here.

import { createPrivateKey, createPublicKey, hash, type KeyObject } from "node:crypto";
import { isObject, member, type Fail, type JsonObject } from "../json.ts";
import { ec, type EcPrivateJwk, type EcPublicJwk } from "./ec.ts";
import type { Common, KeyAgreement, KeyShape, KeyType } from "./key-type.ts";
import { oct, type OctJwk, type OctPrivateJwk, type OctPublicJwk } from "./oct.ts";
import { rsa, type RsaPrivateJwk, type RsaPublicJwk } from "./rsa.ts";

export { bytesOf } from "./key-type.ts";

/** The types of keys, by `kty` (RFC 7518, section 6.1). */
const KEY_TYPES = { EC: ec, RSA: rsa, oct } as const;

/** A checked public key; of a symmetric key, everything but its `k`. */
export type PublicJwk = EcPublicJwk | RsaPublicJwk | OctPublicJwk;

/** A checked private key, or a symmetric key with its `k`. */
export type PrivateJwk = EcPrivateJwk | RsaPrivateJwk | OctPrivateJwk;

/** A key that passed {@link checkJwk}. */
export type Jwk = PublicJwk | PrivateJwk;

/** One half of a key pair. */
export type AsymmetricJwk = Exclude<Jwk, OctJwk>;

/** What `keygen --type` and `list` call a type of key. */
export type TypeName = (typeof KEY_TYPES)[Jwk["kty"]]["name"];

/** The kind of a key that is to be made. */
export interface KeyKind extends KeyShape {
  readonly type: TypeName;
}

/** The types of keys by the names that users know, in the order in which help lists them. */
export const TYPES: ReadonlyMap<TypeName, KeyType<PublicJwk, PrivateJwk>> = new Map(
  Object.values(KEY_TYPES).map((type) => [type.name, type]),
);

const KTYS = Object.keys(KEY_TYPES)
  .join(", ")
  .replace(/, (\w+)$/, " and $1");

function typeOf({ kty }: Jwk): KeyType<PublicJwk, PrivateJwk> & { readonly name: TypeName } {
  return KEY_TYPES[kty];
}

/**
 * Checks a parsed JWK and copies the members that we know. node:crypto accepts the d of another key, a d of 0, a wrong
 * n and an e of 1, so the numbers of the key are checked here.
 *
 * @throws what `fail` makes
 */
export function checkJwk(value: unknown, fail: Fail): Jwk {
  if (!isObject(value)) throw fail("is not a JSON object");
  const common = checkCommon(value, fail);
  const kty = member(value, "kty");
  if (typeof kty !== "string" || !isKty(kty)) throw fail(`has a kty other than ${KTYS}`);
  return KEY_TYPES[kty].check(value, common, fail);
}

function isKty(kty: string): kty is Jwk["kty"] {
  return Object.hasOwn(KEY_TYPES, kty);
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
    if (
      !Array.isArray(ops) ||
      ops.length > 16 ||
      !ops.every((op) => typeof op === "string" && /^[\w.:+-]{1,64}$/.test(op))
    ) {
      throw fail("has key_ops that are not a list of strings");
    }
    common["key_ops"] = [...ops];
  }
  return common;
}

/** Whether a checked key has its private part. */
export function isPrivate(jwk: Jwk): jwk is PrivateJwk {
  return typeOf(jwk).isPrivate(jwk);
}

/** Whether a key is symmetric: wrapping with it needs the secret. */
export function isSymmetric(jwk: Jwk): jwk is OctJwk {
  return typeOf(jwk).thumbprintMembers === undefined;
}

/** What `list` calls the type of a key. */
export function typeName(jwk: Jwk): TypeName {
  return typeOf(jwk).name;
}

/** The values of `key_ops` that allow an operation, if the key has `key_ops` (RFC 7517, section 4.3). */
export function allowingOps(jwk: Jwk, operation: "wrap" | "unwrap"): readonly string[] {
  return typeOf(jwk).keyOps[operation];
}

/** How keys of this key's type agree on a secret, undefined if they do not. */
export function agreementOf(jwk: Jwk): KeyAgreement<PublicJwk, PrivateJwk> | undefined {
  return typeOf(jwk).agreement;
}

/** The kind of a key, to make another key of the same kind. */
export function kindOf(jwk: Jwk): KeyKind {
  return { type: typeName(jwk), ...typeOf(jwk).shape(jwk) };
}

/**
 * Generates a private key with its kid: the RFC 7638 thumbprint, for a symmetric key 128 random bits.
 *
 * @throws KeystoreError `usage` if there is no such curve or size
 */
export function generateJwk({ type, ...shape }: KeyKind): PrivateJwk {
  const jwk = checkJwk(TYPES.get(type)?.generate(shape), (reason) => new Error(`a generated key ${reason}`));
  if (!isPrivate(jwk)) throw new Error("a generated key has no private part");
  return { ...jwk, kid: kidOf(jwk) };
}

const COUNTERPARTS = new Map([
  ["unwrapKey", "wrapKey"],
  ["decrypt", "encrypt"],
]); // RFC 7517, section 4.3

/** The public half of a private key, with the key_ops of a public key. */
export function publicHalf(jwk: Jwk): PublicJwk {
  const { key_ops, ...half } = publicJwk(jwk);
  return key_ops === undefined
    ? half
    : { ...half, key_ops: [...new Set(key_ops.map((op) => COUNTERPARTS.get(op) ?? op))] };
}

/** A checked key without its private members. The kid and the usage members stay. */
export function publicJwk(jwk: Jwk): PublicJwk {
  const { kid, use, key_ops, alg, created } = jwk;
  return {
    ...typeOf(jwk).publicPart(jwk),
    ...(kid === undefined ? {} : { kid }),
    ...(use === undefined ? {} : { use }),
    ...(key_ops === undefined ? {} : { key_ops }),
    ...(alg === undefined ? {} : { alg }),
    ...(created === undefined ? {} : { created }),
  };
}

/** The RFC 7638 thumbprint of an asymmetric key, as base64url. The SHA-256 one is its kid. */
export function thumbprint(jwk: AsymmetricJwk, algorithm = "sha256"): string {
  return hash(algorithm, JSON.stringify(typeOf(jwk).thumbprintMembers?.(jwk)), "base64url");
}

/** The kid of a key in a store: its thumbprint, or the kid that a symmetric key carries. */
export function kidOf(jwk: Jwk): string {
  return isSymmetric(jwk) ? (jwk.kid ?? "") : thumbprint(jwk);
}

/** Whether two private keys with the same kid are the same key. Different symmetric keys can have the same kid. */
export function isSameKey(one: PrivateJwk, other: PrivateJwk): boolean {
  if (one.kty !== other.kty) return false;
  return typeOf(one).sameSecret?.(one, other) ?? true;
}

/** The public key of a checked asymmetric key, for node:crypto. */
export function toPublicKey(jwk: AsymmetricJwk): KeyObject {
  return createPublicKey({ key: { ...typeOf(jwk).publicPart(jwk) }, format: "jwk" });
}

/** A checked asymmetric private key, for node:crypto. */
export function toPrivateKey(jwk: Exclude<PrivateJwk, OctPrivateJwk>): KeyObject {
  return createPrivateKey({ key: { ...jwk, key_ops: [] }, format: "jwk" });
}
