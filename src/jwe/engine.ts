// The only importer of node-jose, the JWE engine, which frames a JWE and encrypts and decrypts its content. Keys never
// reach node-jose: they are wrapped and unwrapped with node:crypto. What it reads has passed the gate.

import JWE from "node-jose/lib/jwe/encrypt.js";
import keystores from "node-jose/lib/jwk/keystore.js";
import octkey from "node-jose/lib/jwk/octkey.js";
import type { Encryption } from "./alg/algorithms.ts";
import type { ParsedJwe } from "./gate.ts";

/** A recipient of a JWE that is to be written: its header, and the CEK wrapped for it. */
export interface SealedRecipient {
  readonly header: { readonly alg: string; readonly [parameter: string]: unknown };
  readonly encryptedKey: Buffer;
}

const unused = (): never => {
  throw new Error("node-jose called an operation that is ours");
};
const keystore = { get: unused, all: unused, generate: unused, add: unused, remove: unused, temp: () => keystore };

/** An object that node-jose's JWK.isKey accepts as a key: it looks at the methods only. */
function keyShaped(operations: object): object {
  const methods = {
    algorithms: unused,
    supports: unused,
    encrypt: unused,
    decrypt: unused,
    sign: unused,
    verify: unused,
  };
  return { keystore, kty: "", length: 0, wrap: unused, unwrap: unused, ...methods, ...operations };
}

// A CEK becomes a key of node-jose's own type. A preset kid stops node-jose from computing a thumbprint.
keystores.registry.register({
  kty: "oct",
  prepare: async (jwk) => Object.assign(jwk, { kid: "cek" }) && octkey.config,
});

/** The protected header of a JWE that is to be written. */
export interface ProtectedHeader {
  readonly enc: Encryption;
  readonly cty?: string;
}

/**
 * Encrypts the content and writes a general JWE JSON object (RFC 7516, section 7.2.1).
 *
 * @param cek of the length that `enc` asks for, and fresh from a random source
 * @param iv likewise
 */
export async function encryptContent(
  plaintext: Buffer,
  header: ProtectedHeader,
  cek: Buffer,
  iv: Buffer,
  recipients: readonly SealedRecipient[],
): Promise<object> {
  const key = { kty: "oct", k: cek.toString("base64url") };
  const encrypt = JWE.createEncrypt(
    { format: "general", fields: { ...header }, protect: Object.keys(header), cek: key, iv },
    recipients.map(({ header: { epk, ...rest }, encryptedKey }) => ({
      key: keyShaped({ wrap: async () => ({ data: encryptedKey }) }),
      header: rest,
      reference: false,
      ...(epk === undefined ? {} : { epk: keyShaped({ toJSON: () => epk, toObject: () => epk }) }),
    })),
  );
  return await encrypt.final(plaintext);
}

/**
 * Decrypts the content with a CEK of the length that `enc` asks for. node-jose's JWE.createDecrypt is not used: it
 * would parse and merge headers that are not trusted, and it hangs on a malformed epk or a member `length`.
 *
 * @throws an unspecified error if the tag does not match
 */
export async function decryptContent(jwe: ParsedJwe, cek: Buffer): Promise<Buffer> {
  const { enc, protected: protectedHeader, aad, iv, ciphertext, tag } = jwe;
  const key = await keystores.KeyStore.asKey({ kty: "oct", k: cek.toString("base64url") });
  const adata = aad === undefined ? protectedHeader : `${protectedHeader}.${aad}`; // RFC 7516, section 5.1, step 14
  return await key.decrypt(enc, Buffer.from(ciphertext, "base64url"), { iv, tag, adata });
}
