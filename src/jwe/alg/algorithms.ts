// The algorithms that a JWE may use here (RFC 7518). All others are refused: RSA1_5, dir, PBES2, A*GCMKW, zip. Each
// family of key management algorithms has its own module, and a row here.

import { allowingOps, type Jwk } from "../../jwk/jwk.ts";
import { aesKw } from "./aes-kw.ts";
import { ecdhEs } from "./ecdh-es.ts";
import type { Family, HolderOperation } from "./family.ts";
import { rsaOaep } from "./rsa-oaep.ts";

const FAMILIES: readonly Family[] = [rsaOaep, ecdhEs, aesKw];

const BY_ALG = new Map(FAMILIES.flatMap((family) => family.algs.map((alg) => [alg, family] as const)));

/** The family of a header's `alg`, undefined if it is not accepted. */
export function familyOf(alg: unknown): Family | undefined {
  return typeof alg === "string" ? BY_ALG.get(alg) : undefined;
}

/** The family that serves a key. */
export function familyFor(jwk: Jwk): Family {
  const family = FAMILIES.find((candidate) => candidate.serves(jwk));
  if (family === undefined) throw new Error("no family of algorithms serves this type of key");
  return family;
}

/** The operations that holders can do, by the names that holder files use. */
export const HOLDER_OPERATIONS: ReadonlyMap<string, HolderOperation & { readonly family: Family }> = new Map(
  FAMILIES.flatMap((family) => family.operations.map((operation) => [operation.name, { ...operation, family }])),
);

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

/** Narrows a header's `enc`. */
export function isEncryption(value: unknown): value is Encryption {
  return typeof value === "string" && Object.hasOwn(ENCRYPTIONS, value);
}

/**
 * Why a key's own `use`, `key_ops` or `alg` (RFC 7517, sections 4.2 to 4.4) forbids an operation; undefined if none of
 * them does.
 *
 * @param alg the recipient's alg, if the operation is for a recipient
 */
export function forbids(jwk: Jwk, operation: "wrap" | "unwrap", alg?: string): string | undefined {
  if (jwk.use !== undefined && jwk.use !== "enc") return 'its "use" is not "enc"';
  if (jwk.key_ops !== undefined && !jwk.key_ops.some((op) => allowingOps(jwk, operation).includes(op))) {
    return `its "key_ops" do not allow to ${operation}`;
  }
  if (jwk.alg === undefined) return undefined;
  if (familyOf(jwk.alg)?.serves(jwk) !== true) return 'its "alg" is not one that this provider uses with such a key';
  return alg === undefined || alg === jwk.alg ? undefined : `its "alg" is not ${alg}`;
}

/** The algorithm that wraps for a key without an `alg`; undefined for a symmetric key without its secret. */
export function naturalAlgorithm(jwk: Jwk): string | undefined {
  return familyFor(jwk).natural(jwk);
}
