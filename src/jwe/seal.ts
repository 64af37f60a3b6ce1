// Seals bytes for one or more recipients as one JWE.

import { randomBytes } from "node:crypto";
import { keyError, KeystoreError, requestError } from "../errors.ts";
import { isSymmetric, type Jwk } from "../jwk/jwk.ts";
import { ENCRYPTIONS, familyFor, forbids, naturalAlgorithm } from "./alg/algorithms.ts";
import { encryptContent, type SealedRecipient } from "./engine.ts";
import { ANNOTATION_LIMITS, parseJwe } from "./gate.ts";
import type { Recipient } from "./key.ts";

const ENC = "A256GCM"; // what ocicrypt's built-in jwe writes

/**
 * Seals a plaintext: general JSON serialization, protected `{"enc":"A256GCM"}`, fresh CEK, IV and ephemeral keys.
 *
 * @param recipients at least one; the same key twice counts once
 * @returns the JWE as JSON text in UTF-8, as {@link open} takes it
 * @throws KeystoreError `request` if the plaintext is empty or too large, or there are too many recipients; `key` if a
 * key cannot be used to wrap
 */
export async function seal(plaintext: Buffer, recipients: readonly Recipient[]): Promise<Buffer> {
  if (plaintext.length === 0) throw tooMuch("there is nothing to wrap: the request's optsdata is empty");
  const distinct = [...new Map(recipients.map((recipient) => [recipient.kid, recipient])).values()];
  if (distinct.length > ANNOTATION_LIMITS.recipients)
    throw tooMuch(`more than ${ANNOTATION_LIMITS.recipients} recipients`);

  const cek = randomBytes(ENCRYPTIONS[ENC].cek);
  const iv = randomBytes(ENCRYPTIONS[ENC].iv);
  const sealed = distinct.map((recipient) => sealCek(cek, recipient));
  const jwe = Buffer.from(JSON.stringify(await encryptContent(plaintext, { enc: ENC }, cek, iv, sealed)));
  if (jwe.length > ANNOTATION_LIMITS.bytes) {
    throw tooMuch("the request's optsdata is too large: the annotation would be larger than 256 KiB");
  }
  parseJwe(jwe); // our own gate must accept it
  return jwe;
}

/** The error for a request that asks for more than an annotation can hold. */
export function tooMuch(message: string): KeystoreError {
  const hint = "a client wraps a layer key of a few hundred bytes for a few recipients: check the client";
  return requestError(message, hint);
}

function sealCek(cek: Buffer, { kid, jwk }: Recipient): SealedRecipient {
  const alg = algorithmFor(kid, jwk);
  const { parameters, encryptedKey } = familyFor(jwk).seal(alg, jwk, cek);
  return { header: { alg, kid, ...parameters }, encryptedKey };
}

/** The key's own alg, else the natural one of its type. */
function algorithmFor(kid: string, jwk: Jwk): string {
  const natural = naturalAlgorithm(jwk);
  const alg = jwk.alg ?? natural;
  const otherSize = isSymmetric(jwk) && natural !== undefined && alg !== natural;
  const obstacle = forbids(jwk, "wrap") ?? (otherSize ? 'its "alg" does not match its size' : undefined);
  if (obstacle === undefined && alg !== undefined && natural !== undefined) return alg;
  throw keyError(`key ${kid} cannot encrypt: ${obstacle ?? "its secret is not there"}`, "name another recipient");
}
