// RSAES-OAEP (RFC 7518, section 4.3; RFC 8017, section 7.1): the CEK is encrypted with the public key itself.

import { constants, privateDecrypt, publicEncrypt } from "node:crypto";
import { bytesOf, toPrivateKey, toPublicKey, type Jwk } from "../../jwk/jwk.ts";
import type { RsaJwk, RsaPrivateJwk } from "../../jwk/rsa.ts";
import type { Family } from "./family.ts";

const HASHES = new Map([
  ["RSA-OAEP", "sha1"],
  ["RSA-OAEP-256", "sha256"],
]);
const padding = constants.RSA_PKCS1_OAEP_PADDING;

function hashOf(alg: string): string {
  const hash = HASHES.get(alg);
  if (hash === undefined) throw new Error("the alg is not one of RSA-OAEP");
  return hash;
}

/** RSA-OAEP and RSA-OAEP-256. ocicrypt's built-in `jwe` wraps with the first, we wrap with the second. */
export const rsaOaep: Family<RsaJwk, RsaPrivateJwk> = {
  algs: [...HASHES.keys()],
  builtIn: true,
  operations: [
    { name: "rsa-oaep-256", alg: "RSA-OAEP-256" },
    { name: "rsa-oaep", alg: "RSA-OAEP" },
  ],
  serves: (jwk: Jwk): jwk is RsaJwk => jwk.kty === "RSA",
  natural: () => "RSA-OAEP-256",
  seal: (alg, jwk, cek) => ({
    parameters: {},
    encryptedKey: publicEncrypt({ key: toPublicKey(jwk), padding, oaepHash: hashOf(alg) }, cek),
  }),
  read: (alg, _header, encryptedKey) => ({ alg, encryptedKey }),
  fits: ({ n }, { encryptedKey }) => encryptedKey.length === bytesOf(n).length,
  perform: (jwk, { alg, encryptedKey }) =>
    privateDecrypt({ key: toPrivateKey(jwk), padding, oaepHash: hashOf(alg) }, encryptedKey),
  ofHolder: ({ alg, encryptedKey }) => ({ name: alg.toLowerCase(), input: encryptedKey }),
  cek: (result) => result,
};
