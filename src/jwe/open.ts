// Opens a JWE with whichever of the store's private keys it was sealed for.

import { KeystoreError } from "../errors.ts";
import { decodeBase64url } from "../base64.ts";
import { member, type JsonObject } from "../json.ts";
import { bytesOf, checkJwk, CURVES, type EcJwk, type Jwk } from "../jwk/jwk.ts";
import { ALGORITHMS, ENCRYPTIONS, forbids, isAlgorithm, type Algorithm } from "./algorithms.ts";
import { decryptContent } from "./engine.ts";
import { parseJwe, type ParsedJwe, type ParsedRecipient } from "./gate.ts";
import type { PrivateKey, PrivateKeys } from "./key.ts";
import { aesKeyUnwrap, concatKdf } from "./key-wrap.ts";

const MAX_TRIALS = 256; // private operations that one annotation may cause
const HOLDER_TRIALS = 32; // what a command counts among them: eight at most
const MAX_PARTY_INFO = 1024; // bytes of apu and apv

/** A recipient that rule 7 to 9 leave standing, with what its algorithm needs. */
interface Candidate {
  readonly alg: Algorithm;
  readonly kid: string | undefined;
  readonly encryptedKey: Buffer;
  readonly epk: EcJwk | undefined;
  readonly apu: Buffer;
  readonly apv: Buffer;
}

/**
 * Opens an annotation: the key that a recipient names first, then every compatible one.
 *
 * @param annotation a compact or JSON JWE, decoded from base64
 * @returns the plaintext, never empty
 * @throws KeystoreError `annotation` (exit code 1) if it is malformed or forbidden, `foreign` (3) if no key opens it, or
 * what `keys` threw for a key that could not be used
 */
export async function open(annotation: Buffer, keys: PrivateKeys): Promise<Buffer> {
  const jwe = parseJwe(annotation);
  const candidates = jwe.recipients.map((recipient) => candidate(jwe, recipient)).filter((found) => found !== undefined);
  let unusable: KeystoreError | undefined;
  let trials = 0;
  const tried = new Set<string>();
  const failed = new Set<string>(); // the kids of holders that failed for a recipient of theirs: they may count wrong PINs

  const note = (error: unknown): undefined => {
    if (!(error instanceof KeystoreError)) throw error;
    unusable ??= error;
  };
  const tryKey = async (kid: string, among: readonly Candidate[]): Promise<Buffer | undefined> => {
    const key = await keys.privateKey(kid).catch(note);
    if (key === undefined) return undefined;
    for (const one of among) {
      const trial = `${candidates.indexOf(one)} ${kid}`;
      if (trials >= MAX_TRIALS || tried.has(trial) || failed.has(kid) || !compatible(key, one)) continue;
      tried.add(trial);
      trials += key.holder === undefined ? 1 : HOLDER_TRIALS;
      const plaintext = await attempt(jwe, one, key).catch((error: unknown) => {
        if (one.kid === kid) failed.add(kid);
        return note(error);
      });
      if (plaintext !== undefined) return plaintext;
    }
    return undefined;
  };

  for (const one of candidates) {
    const plaintext = one.kid === undefined ? undefined : await tryKey(one.kid, [one]);
    if (plaintext !== undefined) return plaintext;
  }
  for (const kid of candidates.length === 0 ? [] : (await keys.privateKids().catch(note)) ?? []) {
    const plaintext = await tryKey(kid, candidates);
    if (plaintext !== undefined) return plaintext;
    if (trials >= MAX_TRIALS) break;
  }
  throw unusable ?? foreign(jwe, candidates);
}

/** The recipient with its parameters checked, undefined if it cannot be one of ours. */
function candidate(jwe: ParsedJwe, { header, encryptedKey }: ParsedRecipient): Candidate | undefined {
  const alg = member(header, "alg");
  if (!isAlgorithm(alg)) return undefined;
  const kid = member(header, "kid");
  if (kid !== undefined && typeof kid !== "string") return undefined;
  if (ALGORITHMS[alg].kty !== "RSA" && encryptedKey.length !== ENCRYPTIONS[jwe.enc].cek + 8) return undefined;
  const apu = partyInfo(header, "apu");
  const apv = partyInfo(header, "apv");
  if (apu === undefined || apv === undefined) return undefined;
  let epk: EcJwk | undefined;
  if (ALGORITHMS[alg].kty === "EC") {
    epk = ephemeralKey(member(header, "epk"));
    if (epk === undefined) return undefined;
  }
  return { alg, kid, encryptedKey, epk, apu, apv };
}

/** RFC 7518, section 4.6.1.1: a public key, its point of full length and on the curve, no d. */
function ephemeralKey(value: unknown): EcJwk | undefined {
  let epk: Jwk;
  try {
    epk = checkJwk(value, (reason) => new Error(reason));
  } catch {
    return undefined;
  }
  return epk.kty === "EC" && epk.d === undefined ? epk : undefined;
}

/** RFC 7518, sections 4.6.1.2 and 4.6.1.3: absent is empty. */
function partyInfo(header: JsonObject, name: "apu" | "apv"): Buffer | undefined {
  const text = Object.hasOwn(header, name) ? header[name] : "";
  const bytes = typeof text === "string" ? decodeBase64url(text) : undefined;
  return bytes !== undefined && bytes.length <= MAX_PARTY_INFO ? bytes : undefined;
}

function compatible({ kid, jwk, holder }: PrivateKey, { alg, epk, encryptedKey, kid: wanted }: Candidate): boolean {
  const needed = ALGORITHMS[alg];
  if (holder !== undefined && wanted !== undefined && wanted !== kid) return false; // no command runs for what names another key
  if (jwk.kty !== needed.kty || forbids(jwk, "unwrap", alg) !== undefined) return false;
  if (jwk.kty === "EC") return jwk.crv === epk?.crv;
  if (jwk.kty === "RSA") return encryptedKey.length === bytesOf(jwk.n).length;
  return jwk.k === undefined || ("kek" in needed && bytesOf(jwk.k).length === needed.kek);
}

/** One trial. Of a holder that was named, an answer which opens nothing is a failure. */
async function attempt(jwe: ParsedJwe, one: Candidate, key: PrivateKey): Promise<Buffer | undefined> {
  const plaintext = await tryToOpen(jwe, one, key);
  if (plaintext !== undefined || key.holder === undefined || one.kid !== key.kid) return plaintext;
  throw new KeystoreError("key", `the holder of key ${key.kid} answered, but not with what was wrapped for that key`, "see with ocicrypt-keystore doctor whether it holds that key; if it does, the annotation is damaged", 3);
}

/** Wrong key, bad wrap, wrong length, bad tag and bad padding are all the same: undefined. */
async function tryToOpen(jwe: ParsedJwe, one: Candidate, key: PrivateKey): Promise<Buffer | undefined> {
  try {
    const cek = await unwrapCek(one, key);
    if (cek.length !== ENCRYPTIONS[jwe.enc].cek) return undefined;
    const plaintext = await decryptContent(jwe, cek);
    return plaintext.length === 0 ? undefined : plaintext; // an empty plaintext is no layer key
  } catch (error) {
    if (error instanceof KeystoreError) throw error; // the holder failed: not a fault of the annotation
    return undefined;
  }
}

async function unwrapCek({ alg, encryptedKey, epk, apu, apv }: Candidate, key: PrivateKey): Promise<Buffer> {
  const parameters = ALGORITHMS[alg];
  if (parameters.kty === "RSA") return await key.rsaOaep(encryptedKey, parameters.hash);
  if (parameters.kty === "oct" || epk === undefined) return await key.aesKeyUnwrap(encryptedKey);
  const z = await key.ecdh(epk);
  if (z.length !== CURVES[epk.crv].bytes) throw new Error("a shared secret of the wrong length");
  return aesKeyUnwrap(concatKdf(z, alg, apu, apv, parameters.kek), encryptedKey);
}

function algorithmShown(alg: unknown): string {
  return typeof alg === "string" ? alg.slice(0, 32) : "none";
}

function foreign(jwe: ParsedJwe, candidates: readonly Candidate[]): KeystoreError {
  if (candidates.length === 0) {
    const algorithms = new Set(jwe.recipients.map(({ header }) => algorithmShown(member(header, "alg"))));
    return new KeystoreError(
      "foreign",
      `none of the annotation's recipients is one this provider can open (alg ${[...algorithms].slice(0, 4).join(", ")})`,
      "encrypt the image for a key of this store",
      3,
    );
  }
  const kids = candidates.map(({ kid }) => kid?.slice(0, 64)).filter((kid) => kid !== undefined);
  const wanted = kids.length === 0 ? "it names no kid" : `it was made for ${kids.slice(0, 4).join(", ")}${kids.length > 4 ? ", …" : ""}`;
  return new KeystoreError(
    "foreign",
    `no private key of the store opens this annotation (${wanted})`,
    "bring that key into the store, or name the store that has it with --keystore",
    3,
  );
}
