// The advertisement of a Tang server: a JWS over a JWK set (RFC 7515, section 7.2; RFC 7517, section 5), signed by
// each of its signing keys.

import { verify } from "node:crypto";
import { decodeBase64url } from "../base64.ts";
import { isObject, member, parseJson, type Fail, type JsonObject } from "../json.ts";
import { isEcPublic, type EcPublicJwk } from "../jwk/ec.ts";
import { checkJwk, thumbprint, toPublicKey } from "../jwk/jwk.ts";

const MAX_KEYS = 32; // keys, and signatures
const DEPTH = 6; // nesting of the JWS and of the JWK set

// RFC 7518, section 3.4
const SIGNATURES = {
  "P-256": { alg: "ES256", digest: "sha256" },
  "P-384": { alg: "ES384", digest: "sha384" },
  "P-521": { alg: "ES512", digest: "sha512" },
} as const;

/**
 * The JWK set in a server's advertisement. Whether its signing keys are trusted is for the caller to decide.
 *
 * @param fail makes the error to throw from words such as "is not signed by all of its signing keys"
 */
export function verifyAdvertisement(bytes: Buffer, fail: Fail): JsonObject {
  const jws = parseJson(bytes, DEPTH, fail);
  const payload = isObject(jws) ? decodedMember(jws, "payload") : undefined;
  if (!isObject(jws) || payload === undefined) throw fail("is not a JWS with a payload");
  const adv = parseJson(payload.bytes, DEPTH, (reason) => fail(`has a payload that ${reason}`));
  if (!isObject(adv)) throw fail("has a payload that is not a JWK set");
  const signers = signingKeys(adv, fail);
  if (signers.length === 0) throw fail("has no signing key");
  const written = member(jws, "signatures") ?? [jws];
  if (!Array.isArray(written) || written.length > MAX_KEYS || !written.every(isObject)) {
    throw fail(`has signatures that are not a list of at most ${MAX_KEYS} objects`);
  }
  for (const key of signers) {
    if (!written.some((signature) => isSignedBy(key, signature, payload.text)))
      throw fail("is not signed by each of its signing keys");
  }
  return adv;
}

/** The signing keys of a set. @throws what `fail` makes, as {@link advertisedKeys} */
export function signingKeys(adv: JsonObject, fail: Fail): EcPublicJwk[] {
  return advertisedKeys(adv, fail).filter(({ key_ops }) => key_ops?.includes("verify"));
}

/**
 * The exchange key that clevis takes: the first.
 *
 * @throws what `fail` makes if there is none, or as {@link advertisedKeys}
 */
export function exchangeKey(adv: JsonObject, fail: Fail): EcPublicJwk {
  const key = advertisedKeys(adv, fail).find(({ key_ops, alg }) => key_ops?.includes("deriveKey") && alg === "ECMR");
  if (key === undefined) throw fail("has no exchange key");
  return key;
}

/**
 * The exchange key with a thumbprint: SHA-256, or SHA-1 as clevis wrote it once.
 *
 * @throws what `fail` makes if there is none, or as {@link advertisedKeys}
 */
export function exchangeKeyOf(adv: JsonObject, kid: unknown, fail: Fail): EcPublicJwk {
  const key = advertisedKeys(adv, fail).find((candidate) =>
    ["sha256", "sha1"].some((hash) => thumbprint(candidate, hash) === kid),
  );
  if (key === undefined) throw fail("has no exchange key with the kid of its header");
  return key;
}

/** Every key of a set. All must be public EC keys, as Tang's are. */
function advertisedKeys(adv: JsonObject, fail: Fail): EcPublicJwk[] {
  const keys = member(adv, "keys");
  if (!Array.isArray(keys) || keys.length > MAX_KEYS) throw fail(`has keys that are not a list of at most ${MAX_KEYS}`);
  return keys.map((value) => {
    const jwk = checkJwk(value, (reason) => fail(`has a key that ${reason}`));
    if (!isEcPublic(jwk)) throw fail("has a key that is not a public EC key");
    return jwk;
  });
}

/** RFC 7515, section 5.2. Only the protected header counts, and `crit` is not accepted. */
function isSignedBy(key: EcPublicJwk, signature: JsonObject, payload: string): boolean {
  const [header, value] = [decodedMember(signature, "protected"), decodedMember(signature, "signature")];
  if (header === undefined || value === undefined) return false;
  const { alg, digest } = SIGNATURES[key.crv];
  let parsed: unknown;
  try {
    parsed = parseJson(header.bytes, DEPTH, (reason) => new Error(reason));
  } catch {
    return false;
  }
  if (!isObject(parsed) || member(parsed, "alg") !== alg || (key.alg ?? alg) !== alg) return false;
  if (member(parsed, "crit") !== undefined) return false;
  const signed = Buffer.from(`${header.text}.${payload}`);
  return verify(digest, signed, { key: toPublicKey(key), dsaEncoding: "ieee-p1363" }, value.bytes);
}

function decodedMember(object: JsonObject, name: string): { text: string; bytes: Buffer } | undefined {
  const text = member(object, name);
  const bytes = typeof text === "string" ? decodeBase64url(text) : undefined;
  return typeof text === "string" && bytes !== undefined ? { text, bytes } : undefined;
}
