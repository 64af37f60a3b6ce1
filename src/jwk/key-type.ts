// What a type of key is: the interface that ec.ts, rsa.ts and oct.ts implement, and what they share.

import { decodeBase64url } from "../base64.ts";
import { member, type Fail, type JsonObject } from "../json.ts";

/** The members of a JWK that every type of key may have (RFC 7517, section 4). */
export interface Common {
  readonly kid?: string;
  readonly use?: string;
  readonly key_ops?: readonly string[];
  readonly alg?: string;
  /** When the key was added to the store (RFC 3339). This member is ours. */
  readonly created?: string;
}

/** What can be chosen when a key is made. Undefined means the type's default, or that the type has no such choice. */
export interface KeyShape {
  readonly curve?: string | undefined;
  /** The size of an RSA modulus or a symmetric key. */
  readonly bits?: number | undefined;
}

/** One type of key (RFC 7517, section 4.1). All code that depends on the type is in its module. */
export interface KeyType<Public extends Common, Private extends Common> {
  /** What `keygen --type` and `list` call it. */
  readonly name: string;
  /** The values of `keygen --curve`; undefined if keys of this type have no curve to choose. */
  readonly curves?: readonly string[];
  /** The values of `keygen --bits`, for help; undefined if keys of this type have no size to choose. */
  readonly sizes?: string;
  /** The values of `key_ops` that allow each operation (RFC 7517, section 4.3). */
  readonly keyOps: Readonly<Record<"wrap" | "unwrap", readonly string[]>>;
  /** Checks the members of a parsed JWK and copies those of this type. @throws what `fail` makes */
  check(value: JsonObject, common: Common, fail: Fail): Public | Private;
  isPrivate(jwk: Public | Private): jwk is Private;
  /** The members of the public key, `kty` first, without the common members. */
  publicPart(jwk: Public | Private): Public;
  /** RFC 7638, section 3.2: the required members in lexicographic order. A symmetric key has none: they are secret. */
  thumbprintMembers?(jwk: Public | Private): object;
  /** Whether two private keys with the same kid are the same key; only types without a thumbprint have it. */
  sameSecret?(one: Private, other: Private): boolean;
  /** Makes a key, with its kid if that is not a thumbprint. @throws KeystoreError `usage` if there is no such size */
  generate(shape: KeyShape): Private;
  /** The shape of a key: with it {@link KeyType.generate} makes another key of the same kind. */
  shape(jwk: Public | Private): KeyShape;
  /** How keys of this type agree on a secret, if they do (RFC 7518, section 4.6). */
  readonly agreement?: KeyAgreement<Public, Private>;
}

/** Diffie-Hellman with one type of key. */
export interface KeyAgreement<Public, Private> {
  /** Whether two keys are on the same curve. */
  sameCurve(one: Public | Private, other: Public | Private): boolean;
  /** Bytes of the shared secret. */
  secretBytes(jwk: Public | Private): number;
  /** Makes a key pair on the curve of `jwk`: its public key, and the secret that it shares with `jwk`. */
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
