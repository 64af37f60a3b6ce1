// A private key that lies in a file of the store as a JWK: its operations are node:crypto's.

import { constants, createECDH, privateDecrypt } from "node:crypto";
import type { PrivateKey } from "../jwe/key.ts";
import { aesKeyUnwrap } from "../jwe/key-wrap.ts";
import { bytesOf, CURVES, point, toPrivateKey, type Jwk } from "../jwk/jwk.ts";

async function refuse(): Promise<never> {
  throw new Error("a key of another type");
}

/** The private key of a checked JWK that has its private part. */
export function fileKey(kid: string, jwk: Jwk): PrivateKey {
  const operations = { kid, jwk, rsaOaep: refuse, ecdh: refuse, aesKeyUnwrap: refuse };
  if (jwk.kty === "RSA") {
    const key = toPrivateKey(jwk);
    const padding = constants.RSA_PKCS1_OAEP_PADDING;
    return { ...operations, rsaOaep: async (encryptedKey, oaepHash) => privateDecrypt({ key, padding, oaepHash }, encryptedKey) };
  }
  if (jwk.kty === "EC") {
    const ecdh = createECDH(CURVES[jwk.crv].openssl);
    ecdh.setPrivateKey(bytesOf(jwk.d ?? ""));
    return { ...operations, ecdh: async (epk) => ecdh.computeSecret(point(epk)) };
  }
  const secret = bytesOf(jwk.k ?? "");
  return { ...operations, aesKeyUnwrap: async (encryptedKey) => aesKeyUnwrap(secret, encryptedKey) };
}
