// Seals bytes for one or more recipients as one JWE.

import { randomBytes } from "node:crypto";
import { keyError, KeystoreError, requestError } from "../errors.ts";
import { isSymmetric, type Jwk } from "../jwk/jwk.ts";
import { ENCRYPTIONS, familyFor, forbids, naturalAlgorithm } from "./alg/algorithms.ts";
import { encryptContent, type SealedRecipient } from "./engine.ts";
import { LIMITS, parseJwe } from "./gate.ts";
import type { Recipient } from "./key.ts";

const ENC = "A256GCM"; // what ocicrypt's built-in jwe writes

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
  return requestError(message, "a layer's key is a few hundred bytes, wrapped for a few recipients: check the client");
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
  const obstacle = forbids(jwk, "wrap") ?? (otherSize ? 'its "alg" is not for its size' : undefined);
  if (obstacle === undefined && alg !== undefined && natural !== undefined) return alg;
  throw keyError(`key ${kid} cannot wrap: ${obstacle ?? "it has no symmetric key"}`, "name another recipient");
}
