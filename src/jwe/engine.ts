// node-jose, the engine: it frames a JWE, encrypts and decrypts its content. Keys never reach it, they are wrapped and unwrapped
// with node:crypto on our side; what it reads passed the gate. Nothing else imports it.

import JWE from "node-jose/lib/jwe/encrypt.js";
import keystores from "node-jose/lib/jwk/keystore.js";
import octkey from "node-jose/lib/jwk/octkey.js";
import type { Encryption } from "./alg/algorithms.ts";
import type { ParsedJwe } from "./gate.ts";

/** One recipient of a JWE to be written: its header, and the CEK wrapped for it. */
export interface SealedRecipient {
  readonly header: { readonly alg: string; readonly [parameter: string]: unknown };
  readonly encryptedKey: Buffer;
}

const unused = (): never => {
  throw new Error("node-jose asked for an operation that is not its own here");
};
const keystore = { get: unused, all: unused, generate: unused, add: unused, remove: unused, temp: () => keystore };

/** An object that node-jose's duck-typed JWK.isKey takes for a key. */
function keyShaped(operations: object): object {
  const methods = { algorithms: unused, supports: unused, encrypt: unused, decrypt: unused, sign: unused, verify: unused };
  return { keystore, kty: "", length: 0, wrap: unused, unwrap: unused, ...methods, ...operations };
}

// A CEK becomes a key of node-jose's own type. The kid saves it from a thumbprint that nobody asks for.
keystores.registry.register({ kty: "oct", prepare: async (jwk) => Object.assign(jwk, { kid: "cek" }) && octkey.config });

/** The protected header of a JWE to be written. */
export interface ProtectedHeader {
  readonly enc: Encryption;
  readonly cty?: string;
}

/**
 * Encrypts the content and writes a general JWE JSON object (RFC 7516, section 7.2.1).
 *
 * @param cek as long as `enc` asks, `iv` too; both fresh from a random source
 */
export async function encryptContent(plaintext: Buffer, header: ProtectedHeader, cek: Buffer, iv: Buffer, recipients: readonly SealedRecipient[]): Promise<object> {
  const encrypt = JWE.createEncrypt(
    { format: "general", fields: { ...header }, protect: Object.keys(header), cek: { kty: "oct", k: cek.toString("base64url") }, iv },
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
 * Decrypts the content with a CEK that has the length `enc` asks. node-jose's JWE.createDecrypt is not asked: it would
 * parse and merge headers that a stranger wrote, and hangs on an odd epk or a member `length`.
 *
 * @throws something without meaning if the tag does not match
 */
export async function decryptContent({ enc, protected: protectedHeader, aad, iv, ciphertext, tag }: ParsedJwe, cek: Buffer): Promise<Buffer> {
  const key = await keystores.KeyStore.asKey({ kty: "oct", k: cek.toString("base64url") });
  const adata = aad === undefined ? protectedHeader : `${protectedHeader}.${aad}`; // RFC 7516, section 5.1, step 14
  return await key.decrypt(enc, Buffer.from(ciphertext, "base64url"), { iv, tag, adata });
}
