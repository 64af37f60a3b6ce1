// AES Key Wrap with a symmetric key (RFC 7518, section 4.4).

import { bytesOf, type Jwk } from "../../jwk/jwk.ts";
import type { OctJwk, OctPrivateJwk } from "../../jwk/oct.ts";
import type { Family } from "./family.ts";
import { aesKeyUnwrap, aesKeyWrap, WRAP_OVERHEAD } from "./key-wrap.ts";

/** A128KW, A192KW and A256KW, by the size of the key. */
export const aesKw: Family<OctJwk, OctPrivateJwk> = {
  algs: ["A128KW", "A192KW", "A256KW"],
  builtIn: false,
  operations: [{ name: "a256kw", alg: "A256KW" }], // to open only: wrapping needs the secret
  serves: (jwk: Jwk): jwk is OctJwk => jwk.kty === "oct",
  natural: (jwk) => (jwk.k === undefined ? undefined : algOf(jwk.k)),
  seal(_alg, jwk, cek) {
    if (jwk.k === undefined) throw new Error("a symmetric key without its k");
    return { parameters: {}, encryptedKey: aesKeyWrap(bytesOf(jwk.k), cek) };
  },
  read: (alg, _header, encryptedKey, cekBytes) =>
    encryptedKey.length === cekBytes + WRAP_OVERHEAD ? { alg, encryptedKey } : undefined,
  fits: ({ k }, { alg }) => k === undefined || algOf(k) === alg, // a holder's key has no k here
  perform: ({ k }, { encryptedKey }) => aesKeyUnwrap(bytesOf(k), encryptedKey),
  ofHolder: ({ alg, encryptedKey }) => ({
    name: alg.toLowerCase(),
    input: encryptedKey,
    answerBytes: encryptedKey.length - WRAP_OVERHEAD,
  }),
  cek: (result) => result,
};

function algOf(k: string): string {
  return `A${bytesOf(k).length * 8}KW`;
}
