// Seals bytes for one or more recipients as one JWE.

import { constants, createECDH, publicEncrypt, randomBytes } from "node:crypto";
import { KeystoreError } from "../errors.ts";
import { bytesOf, CURVES, point, pointJwk, toPublicKey, type EcJwk, type Jwk } from "../jwk/jwk.ts";
import { ALGORITHMS, ENCRYPTIONS, forbids, isAlgorithm, naturalAlgorithm, type Algorithm } from "./algorithms.ts";
import { encryptContent, type SealedRecipient } from "./engine.ts";
import { LIMITS, parseJwe } from "./gate.ts";
import type { Recipient } from "./key.ts";
import { aesKeyWrap, concatKdf } from "./key-wrap.ts";

const ENC = "A256GCM"; // what ocicrypt's built-in jwe writes
const NONE = Buffer.alloc(0);

/**
 * Seals a plaintext: general JSON serialization, protected `{"enc":"A256GCM"}`, fresh CEK, IV and ephemeral keys.
 *
 * @param recipients at least one; the same key twice counts once
 * @returns the JWE as JSON text in UTF-8, such as {@link open} takes
 * @throws KeystoreError `request` if there is nothing to seal, too much of it or too many recipients, `key` if a key forbids it
 */
export async function seal(plaintext: Buffer, recipients: readonly Recipient[]): Promise<Buffer> {
  if (plaintext.length === 0) throw tooMuch("there is nothing to wrap: the request's optsdata is empty");
  const distinct = [...new Map(recipients.map((recipient) => [recipient.kid, recipient])).values()];
  if (distinct.length > LIMITS.recipients) throw tooMuch(`more than ${LIMITS.recipients} recipients`);

  const cek = randomBytes(ENCRYPTIONS[ENC].cek);
  const iv = randomBytes(ENCRYPTIONS[ENC].iv);
  const sealed = distinct.map((recipient) => sealCek(cek, recipient));
  const jwe = Buffer.from(JSON.stringify(await encryptContent(plaintext, { enc: ENC }, cek, iv, sealed)));
  if (jwe.length > LIMITS.bytes) throw tooMuch("what is to be wrapped would make an annotation larger than 256 KiB");
  parseJwe(jwe); // nothing leaves that our own gate would not take back
  return jwe;
}

/** The error for a request that asks for more than an annotation can hold. */
export function tooMuch(message: string): KeystoreError {
  return new KeystoreError("request", message, "a layer's key is a few hundred bytes, wrapped for a few recipients: check the client");
}

function sealCek(cek: Buffer, { kid, jwk }: Recipient): SealedRecipient {
  const alg = algorithmFor(kid, jwk);
  if (jwk.kty === "RSA") {
    const padding = { key: toPublicKey(jwk), padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: alg === "RSA-OAEP" ? "sha1" : "sha256" };
    return { header: { alg, kid }, encryptedKey: publicEncrypt(padding, cek) };
  }
  if (jwk.kty === "oct") return { header: { alg, kid }, encryptedKey: aesKeyWrap(bytesOf(jwk.k ?? ""), cek) };
  return sealEcdh(cek, kid, jwk, alg);
}

/** RFC 7518, section 4.6: a key-encryption key agreed on with an ephemeral key of the recipient's curve. */
function sealEcdh(cek: Buffer, kid: string, jwk: EcJwk, alg: Algorithm): SealedRecipient {
  const ephemeral = createECDH(CURVES[jwk.crv].openssl);
  const epk = ephemeral.generateKeys();
  const parameters = ALGORITHMS[alg];
  const kek = concatKdf(ephemeral.computeSecret(point(jwk)), alg, NONE, NONE, "kek" in parameters ? parameters.kek : 0);
  return { header: { alg, kid, epk: pointJwk(jwk.crv, epk) }, encryptedKey: aesKeyWrap(kek, cek) };
}

/** The key's own alg, else the natural one of its type. */
function algorithmFor(kid: string, jwk: Jwk): Algorithm {
  const natural = naturalAlgorithm(jwk);
  const alg = jwk.alg ?? natural;
  const obstacle = forbids(jwk, "wrap") ?? (jwk.kty === "oct" && alg !== natural ? 'its "alg" is not for its size' : undefined);
  if (obstacle !== undefined || !isAlgorithm(alg)) {
    throw new KeystoreError("key", `key ${kid} cannot wrap: ${obstacle ?? "it has no symmetric key"}`, "name another recipient");
  }
  return alg;
}
