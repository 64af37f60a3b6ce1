// The algorithms a JWE may use here (RFC 7518). Everything that is not listed is refused: RSA1_5, dir, PBES2, A*GCMKW, zip.

import { bytesOf, type Jwk } from "../jwk/jwk.ts";

/** Key management (RFC 7518, section 4.1), by the operation it asks of a private key. */
export const ALGORITHMS = {
  "RSA-OAEP": { kty: "RSA", hash: "sha1" }, // section 4.3
  "RSA-OAEP-256": { kty: "RSA", hash: "sha256" }, // section 4.3
  "ECDH-ES+A128KW": { kty: "EC", kek: 16 }, // section 4.6, kek: bytes of the key-encryption key
  "ECDH-ES+A192KW": { kty: "EC", kek: 24 },
  "ECDH-ES+A256KW": { kty: "EC", kek: 32 },
  A128KW: { kty: "oct", kek: 16 }, // section 4.4
  A192KW: { kty: "oct", kek: 24 },
  A256KW: { kty: "oct", kek: 32 },
} as const;

/** The name of an accepted key management algorithm. */
export type Algorithm = keyof typeof ALGORITHMS;

/** Content encryption (RFC 7518, section 5.1): lengths in bytes of the content encryption key, the IV and the tag. */
export const ENCRYPTIONS = {
  A128GCM: { cek: 16, iv: 12, tag: 16 }, // section 5.3
  A192GCM: { cek: 24, iv: 12, tag: 16 },
  A256GCM: { cek: 32, iv: 12, tag: 16 },
  "A128CBC-HS256": { cek: 32, iv: 16, tag: 16 }, // section 5.2.3
  "A192CBC-HS384": { cek: 48, iv: 16, tag: 24 }, // section 5.2.4
  "A256CBC-HS512": { cek: 64, iv: 16, tag: 32 }, // section 5.2.5
} as const;

/** The name of an accepted content encryption algorithm. */
export type Encryption = keyof typeof ENCRYPTIONS;

/** Narrows a header's `alg`. */
export function isAlgorithm(value: unknown): value is Algorithm {
  return typeof value === "string" && Object.hasOwn(ALGORITHMS, value);
}

/** Narrows a header's `enc`. */
export function isEncryption(value: unknown): value is Encryption {
  return typeof value === "string" && Object.hasOwn(ENCRYPTIONS, value);
}

// RFC 7517, section 4.3. Debian's jose writes wrapKey and unwrapKey on EC keys.
const KEY_OPS = {
  EC: { wrap: ["deriveKey", "deriveBits", "wrapKey", "unwrapKey"], unwrap: ["deriveKey", "deriveBits", "wrapKey", "unwrapKey"] },
  RSA: { wrap: ["wrapKey", "encrypt"], unwrap: ["unwrapKey", "decrypt"] },
  oct: { wrap: ["wrapKey", "encrypt"], unwrap: ["unwrapKey", "decrypt"] },
} as const;

/** Why a key's own `use`, `key_ops` or `alg` (RFC 7517, sections 4.2 to 4.4) forbids an operation; undefined where nothing does. */
export function forbids(jwk: Jwk, operation: "wrap" | "unwrap", alg?: Algorithm): string | undefined {
  if (jwk.use !== undefined && jwk.use !== "enc") return 'its "use" is not "enc"';
  if (jwk.key_ops !== undefined && !jwk.key_ops.some((op) => (KEY_OPS[jwk.kty][operation] as readonly string[]).includes(op))) {
    return `its "key_ops" do not allow to ${operation}`;
  }
  if (jwk.alg === undefined) return undefined;
  if (!isAlgorithm(jwk.alg) || ALGORITHMS[jwk.alg].kty !== jwk.kty) return 'its "alg" is none of a key provider\'s';
  return alg === undefined || alg === jwk.alg ? undefined : 'its "alg" is another';
}

/** The algorithm that wraps for a key that names none itself: RSA-OAEP-256, ECDH-ES+A256KW, or A*KW by the key's size. */
export function naturalAlgorithm(jwk: Jwk): string {
  if (jwk.kty === "RSA") return "RSA-OAEP-256";
  if (jwk.kty === "EC") return "ECDH-ES+A256KW";
  return `A${bytesOf(jwk.k ?? "").length * 8}KW`;
}
