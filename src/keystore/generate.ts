// Makes new keys.

import { generateKeyPairSync, randomBytes } from "node:crypto";
import { KeystoreError } from "../errors.ts";
import { bytesOf, checkJwk, CURVES, RSA_BITS, thumbprint, type Curve, type Jwk } from "../jwk/jwk.ts";

/** What key to make: P-256, RSA of 3072 bits or 256 bits where nothing else is said. */
export type KeyKind =
  | { readonly type: "ec"; readonly curve?: Curve | undefined }
  | { readonly type: "rsa"; readonly bits?: number | undefined }
  | { readonly type: "oct"; readonly bits?: number | undefined };

const OCT_BITS = [128, 192, 256];

/**
 * Generates a private key with its kid: the RFC 7638 thumbprint, or for a symmetric key, whose thumbprint would tell
 * about the secret, 128 random bits.
 *
 * @throws KeystoreError `usage` if there is no such size
 */
export function generateJwk(kind: KeyKind): Jwk {
  if (kind.type === "oct") {
    const bits = kind.bits ?? 256;
    if (!OCT_BITS.includes(bits)) throw new KeystoreError("usage", `no symmetric key of ${bits} bits`, `use --bits ${OCT_BITS.join(", ")}`);
    return { kty: "oct", kid: randomBytes(16).toString("base64url"), alg: `A${bits}KW`, k: randomBytes(bits / 8).toString("base64url") };
  }
  const { privateKey } = kind.type === "ec" ? generateKeyPairSync("ec", { namedCurve: CURVES[kind.curve ?? "P-256"].openssl }) : generateRsa(kind.bits ?? 3072);
  const jwk = checkJwk(privateKey.export({ format: "jwk" }), (reason) => new Error(`a generated key ${reason}`));
  if (jwk.kty === "oct") throw new Error("a generated key of the wrong type");
  return { ...jwk, kid: thumbprint(jwk) };
}

/** The kind of a key, to make another one of it. */
export function sameKind(jwk: Jwk): KeyKind {
  if (jwk.kty === "EC") return { type: "ec", curve: jwk.crv };
  if (jwk.kty === "RSA") return { type: "rsa", bits: bytesOf(jwk.n).length * 8 };
  return { type: "oct", bits: bytesOf(jwk.k ?? "").length * 8 };
}

function generateRsa(bits: number): ReturnType<typeof generateKeyPairSync> {
  if (!Number.isInteger(bits) || bits < RSA_BITS.min || bits > RSA_BITS.max || bits % 8 !== 0) {
    throw new KeystoreError("usage", `no RSA key of ${bits} bits`, `use --bits from ${RSA_BITS.min} to ${RSA_BITS.max}, a multiple of 8`);
  }
  return generateKeyPairSync("rsa", { modulusLength: bits });
}
