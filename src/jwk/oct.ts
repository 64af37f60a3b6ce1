// Symmetric keys (RFC 7518, section 6.4).

import { randomBytes } from "node:crypto";
import { usageError } from "../errors.ts";
import { member, type Fail, type JsonObject } from "../json.ts";
import { base64urlMember, bytesOf, type Common, type KeyShape, type KeyType } from "./key-type.ts";

const BITS: readonly number[] = [128, 192, 256];

/** A symmetric key without its secret. */
export interface OctPublicJwk extends Common {
  readonly kty: "oct";
  readonly k?: never;
}

/** A symmetric key. */
export interface OctPrivateJwk extends Common {
  readonly kty: "oct";
  readonly k: string;
}

/** A symmetric key, with its `k` or without. */
export type OctJwk = OctPublicJwk | OctPrivateJwk;

/** Symmetric keys: the same secret wraps and unwraps. */
export const oct = {
  name: "oct",
  sizes: "256",
  keyOps: { wrap: ["wrapKey", "encrypt"], unwrap: ["unwrapKey", "decrypt"] },
  check,
  isPrivate: (jwk: OctJwk): jwk is OctPrivateJwk => jwk.k !== undefined,
  publicPart: ({ kty }: OctJwk): OctPublicJwk => ({ kty }),
  sameSecret: (one: OctPrivateJwk, other: OctPrivateJwk) => one.k === other.k,
  generate({ bits = 256 }: KeyShape) {
    if (!BITS.includes(bits)) {
      throw usageError(`a symmetric key cannot have ${bits} bits`, `use --bits ${BITS.join(" or ")}`);
    }
    // The kid is random: a thumbprint would leak information about the secret.
    const kid = randomBytes(16).toString("base64url");
    return { kty: "oct", kid, alg: `A${bits}KW`, k: randomBytes(bits / 8).toString("base64url") };
  },
  shape: (jwk: OctJwk) => (jwk.k === undefined ? {} : { bits: bytesOf(jwk.k).length * 8 }),
} as const satisfies KeyType<OctPublicJwk, OctPrivateJwk>;

function check(value: JsonObject, common: Common, fail: Fail): OctJwk {
  if (member(value, "k") === undefined) return { ...common, kty: "oct" };
  const { text, bytes } = base64urlMember(value, "k", fail);
  if (!BITS.includes(bytes.length * 8)) throw fail("is a symmetric key of a size other than 128, 192 or 256 bits");
  return { ...common, kty: "oct", k: text };
}
