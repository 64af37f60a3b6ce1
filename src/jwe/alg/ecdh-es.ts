// ECDH-ES with a key wrap (RFC 7518, section 4.6): the key-encryption key is agreed on with an ephemeral key.

import { decodeBase64url } from "../../base64.ts";
import { member, type JsonObject } from "../../json.ts";
import { agreementOf, checkJwk, isPrivate, toPublicKey, type AsymmetricJwk, type Jwk } from "../../jwk/jwk.ts";
import type { KeyAgreement } from "../../jwk/key-type.ts";
import type { PrivateJwk, PublicJwk } from "../../jwk/jwk.ts";
import type { WrappedCek, Family } from "./family.ts";
import { aesKeyUnwrap, aesKeyWrap, concatKdf, WRAP_OVERHEAD } from "./key-wrap.ts";

// Bytes of the key-encryption key.
const KEK_BYTES = new Map([
  ["ECDH-ES+A128KW", 16],
  ["ECDH-ES+A192KW", 24],
  ["ECDH-ES+A256KW", 32],
]);
const MAX_PARTY_INFO = 1024; // bytes of apu and apv
const NO_PARTY_INFO = Buffer.alloc(0);

interface EcdhWrappedCek extends WrappedCek {
  /** The ephemeral public key: a point of full length and on its curve, no private part (section 4.6.1.1). */
  readonly epk: AsymmetricJwk;
  readonly apu: Buffer;
  readonly apv: Buffer;
}

/** ECDH-ES+A128KW, +A192KW and +A256KW, for every type of key that agrees on a secret. */
export const ecdhEs: Family<AsymmetricJwk, Exclude<PrivateJwk, { kty: "oct" }>, EcdhWrappedCek> = {
  algs: [...KEK_BYTES.keys()],
  builtIn: true,
  operations: [{ name: "ecdh", alg: undefined }],
  serves: (jwk: Jwk): jwk is AsymmetricJwk => agreementOf(jwk) !== undefined,
  natural: () => "ECDH-ES+A256KW",
  seal(alg, jwk, cek) {
    const { epk, z } = mustAgree(jwk).ephemeral(jwk);
    return {
      parameters: { epk },
      encryptedKey: aesKeyWrap(keyEncryptionKey(z, { alg, apu: NO_PARTY_INFO, apv: NO_PARTY_INFO }), cek),
    };
  },
  read(alg, header, encryptedKey, cekBytes) {
    const [epk, apu, apv] = [ephemeralKey(member(header, "epk")), partyInfo(header, "apu"), partyInfo(header, "apv")];
    if (encryptedKey.length !== cekBytes + WRAP_OVERHEAD || epk === undefined) return undefined;
    return apu === undefined || apv === undefined ? undefined : { alg, encryptedKey, epk, apu, apv };
  },
  fits: (jwk, { epk }) => jwk.kty === epk.kty && mustAgree(jwk).sameCurve(jwk, epk),
  perform: (jwk, { epk }) => mustAgree(jwk).secret(jwk, epk),
  ofHolder: ({ epk }) => ({
    name: "ecdh",
    input: toPublicKey(epk).export({ type: "spki", format: "der" }),
    answerBytes: mustAgree(epk).secretBytes(epk),
  }),
  cek(z, wrapped) {
    if (z.length !== mustAgree(wrapped.epk).secretBytes(wrapped.epk))
      throw new Error("the shared secret has the wrong length");
    return aesKeyUnwrap(keyEncryptionKey(z, wrapped), wrapped.encryptedKey);
  },
};

function mustAgree(jwk: Jwk): KeyAgreement<PublicJwk, PrivateJwk> {
  const agreement = agreementOf(jwk);
  if (agreement === undefined) throw new Error("this type of key has no key agreement");
  return agreement;
}

function keyEncryptionKey(z: Buffer, { alg, apu, apv }: Pick<EcdhWrappedCek, "alg" | "apu" | "apv">): Buffer {
  const bytes = KEK_BYTES.get(alg);
  if (bytes === undefined) throw new Error("the alg is not one of ECDH-ES");
  return concatKdf(z, alg, apu, apv, bytes);
}

function ephemeralKey(value: unknown): AsymmetricJwk | undefined {
  let epk: Jwk;
  try {
    epk = checkJwk(value, (reason) => new Error(reason));
  } catch {
    return undefined;
  }
  return ecdhEs.serves(epk) && !isPrivate(epk) ? epk : undefined;
}

/** Sections 4.6.1.2 and 4.6.1.3: absent is empty. */
function partyInfo(header: JsonObject, name: "apu" | "apv"): Buffer | undefined {
  const text = Object.hasOwn(header, name) ? header[name] : "";
  const bytes = typeof text === "string" ? decodeBase64url(text) : undefined;
  return bytes !== undefined && bytes.length <= MAX_PARTY_INFO ? bytes : undefined;
}
