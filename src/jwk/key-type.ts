// What a type of key is: the interface that ec.ts, rsa.ts and oct.ts implement, and what they share.

import { decodeBase64url } from "../base64.ts";
import { member, type JsonObject } from "../json.ts";

/** The members of a JWK that every type of key may have (RFC 7517, section 4). */
export interface Common {
  readonly kid?: string;
  readonly use?: string;
  readonly key_ops?: readonly string[];
  readonly alg?: string;
  /** RFC 3339: when the key came into the store. Our own member. */
  readonly created?: string;
}

/** Makes the error to throw from words such as "has a d that does not match its point". They quote nothing of the key. */
export type Fail = (reason: string) => Error;

/** What there is to choose when a key is made: undefined is the type's default, or not for that type. */
export interface KeyShape {
  readonly curve?: string | undefined;
  /** The size of an RSA modulus or a symmetric key. */
  readonly bits?: number | undefined;
}

/** One type of key (RFC 7517, section 4.1). Everything that depends on the type asks its module. */
export interface KeyType<Public extends Common, Private extends Common> {
  /** What `keygen --type` and `list` call it. */
  readonly name: string;
  /** What `keygen --curve` may say; undefined where a key of this type has no curve to choose. */
  readonly curves?: readonly string[];
  /** What `keygen --bits` may say, for a person; undefined where a key of this type has no size to choose. */
  readonly sizes?: string;
  /** The values of `key_ops`, one of which a key that has any must have (RFC 7517, section 4.3). */
  readonly keyOps: Readonly<Record<"wrap" | "unwrap", readonly string[]>>;
  /** Checks the members of a parsed JWK and copies those of this type. @throws what `fail` makes */
  check(value: JsonObject, common: Common, fail: Fail): Public | Private;
  isPrivate(jwk: Public | Private): jwk is Private;
  /** The members of the public key alone, `kty` first, without the common ones. */
  publicPart(jwk: Public | Private): Public;
  /** RFC 7638, section 3.2: the required members in lexicographic order. A symmetric key has none: they are secret. */
  thumbprintMembers?(jwk: Public | Private): object;
  /** Whether two private keys of one kid are the same key; only asked where there is no thumbprint. */
  sameSecret?(one: Private, other: Private): boolean;
  /** Makes a key, with its kid where that is no thumbprint. @throws KeystoreError `usage` if there is no such size */
  generate(shape: KeyShape): Private;
  /** What {@link KeyType.generate} makes another key of the same kind from. */
  shape(jwk: Public | Private): KeyShape;
  /** How keys of this type agree on a secret, where they do (RFC 7518, section 4.6). */
  readonly agreement?: KeyAgreement<Public, Private>;
}

/** Diffie-Hellman of one type of key. */
export interface KeyAgreement<Public, Private> {
  /** Whether two keys are on one curve. */
  sameCurve(one: Public | Private, other: Public | Private): boolean;
  /** Bytes of the shared secret. */
  secretBytes(jwk: Public | Private): number;
  /** A new key pair on the curve of `jwk`, which it is agreed with: the public key, and the shared secret. */
  ephemeral(jwk: Public | Private): { readonly epk: Public; readonly z: Buffer };
  /** The secret that a private key shares with a public key on its curve. */
  secret(jwk: Private, epk: Public | Private): Buffer;
}

/** A member in canonical base64url, as text and bytes. @throws what `fail` makes */
export function base64urlMember(value: JsonObject, name: string, fail: Fail): { text: string; bytes: Buffer } {
  const text = member(value, name);
  const bytes = typeof text === "string" ? decodeBase64url(text) : undefined;
  if (typeof text !== "string" || bytes === undefined) throw fail(`has no ${name} in canonical base64url`);
  return { text, bytes };
}

/** The bytes of a checked base64url member. */
export function bytesOf(text: string): Buffer {
  return Buffer.from(text, "base64url");
}
