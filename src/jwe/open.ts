// Opens a JWE with the private keys of a store (rules 9 to 11 and 14 of README.md).

import { foreignError, KeystoreError, unusableError } from "../errors.ts";
import { member } from "../json.ts";
import { ENCRYPTIONS, familyOf, forbids } from "./alg/algorithms.ts";
import type { WrappedCek, Family } from "./alg/family.ts";
import { decryptContent } from "./engine.ts";
import { parseJwe, type ParsedJwe, type ParsedRecipient } from "./gate.ts";
import type { PrivateKey, PrivateKeys } from "./key.ts";

const MAX_TRIALS = 256; // private operations that one annotation may cause
const HOLDER_TRIALS = 32; // a holder's command counts as so many, so at most eight run

/** A recipient whose alg, epk and lengths we accept (README.md, rules 7 to 9). */
interface Candidate {
  readonly kid: string | undefined;
  readonly family: Family;
  readonly wrapped: WrappedCek;
}

/**
 * Opens an annotation: first with the keys that its recipients name, then with every compatible key.
 *
 * @param annotation a compact or JSON JWE, decoded from base64
 * @returns the plaintext, never empty
 * @throws KeystoreError `annotation` (exit code 1) if it is malformed or forbidden, `foreign` (3) if no key opens it,
 * or the error that `keys` threw for a key that could not be used
 */
export async function open(annotation: Buffer, keys: PrivateKeys): Promise<Buffer> {
  const jwe = parseJwe(annotation);
  const candidates = jwe.recipients.flatMap((recipient) => readCandidate(jwe, recipient) ?? []);
  let unusable: KeystoreError | undefined;
  let trials = 0;
  const tried = new Set<string>();
  // The kids of holders that failed for a recipient that names them. They are not asked again: a token may count
  // wrong PINs.
  const failed = new Set<string>();

  const note = (error: unknown): undefined => {
    if (!(error instanceof KeystoreError)) throw error;
    unusable ??= error;
  };
  const tryKey = async (kid: string, among: readonly Candidate[]): Promise<Buffer | undefined> => {
    const key = await keys.privateKey(kid).catch(note);
    if (key === undefined) return undefined;
    for (const candidate of among) {
      const trial = `${candidates.indexOf(candidate)} ${kid}`;
      if (trials >= MAX_TRIALS || tried.has(trial) || failed.has(kid) || !compatible(key, candidate)) continue;
      tried.add(trial);
      trials += key.holder === undefined ? 1 : HOLDER_TRIALS;
      const plaintext = await attempt(jwe, candidate, key).catch((error: unknown) => {
        if (candidate.kid === kid) failed.add(kid);
        return note(error);
      });
      if (plaintext !== undefined) return plaintext;
    }
    return undefined;
  };

  for (const candidate of candidates) {
    const plaintext = candidate.kid === undefined ? undefined : await tryKey(candidate.kid, [candidate]);
    if (plaintext !== undefined) return plaintext;
  }
  for (const kid of candidates.length === 0 ? [] : ((await keys.privateKids().catch(note)) ?? [])) {
    const plaintext = await tryKey(kid, candidates);
    if (plaintext !== undefined) return plaintext;
    if (trials >= MAX_TRIALS) break;
  }
  throw unusable ?? foreign(jwe, candidates);
}

/** A recipient with its parameters checked, undefined if no key of ours can open it. */
function readCandidate(jwe: ParsedJwe, { header, encryptedKey }: ParsedRecipient): Candidate | undefined {
  const [alg, kid] = [member(header, "alg"), member(header, "kid")];
  const family = familyOf(alg);
  if (typeof alg !== "string" || family === undefined || (kid !== undefined && typeof kid !== "string"))
    return undefined;
  const wrapped = family.read(alg, header, encryptedKey, ENCRYPTIONS[jwe.enc].cek);
  return wrapped && { kid, family, wrapped };
}

function compatible({ kid, jwk, holder }: PrivateKey, { family, wrapped, kid: wanted }: Candidate): boolean {
  // No command runs for a recipient that names another key.
  if (holder !== undefined && wanted !== undefined && wanted !== kid) return false;
  return family.serves(jwk) && forbids(jwk, "unwrap", wrapped.alg) === undefined && family.fits(jwk, wrapped);
}

/** One trial. If the recipient names a holder's key and the holder's answer does not open it, that is a failure. */
async function attempt(jwe: ParsedJwe, candidate: Candidate, key: PrivateKey): Promise<Buffer | undefined> {
  const plaintext = await tryToOpen(jwe, candidate, key);
  if (plaintext !== undefined || key.holder === undefined || candidate.kid !== key.kid) return plaintext;
  const message = `the holder of key ${key.kid} answered, but not with what was wrapped for that key`;
  const hint = "run ocicrypt-keystore doctor to see whether it holds that key; if it does, the annotation is damaged";
  throw unusableError(message, hint);
}

/** For a wrong key, a bad wrap, a wrong length, a bad tag and bad padding the result is the same: undefined. */
async function tryToOpen(jwe: ParsedJwe, candidate: Candidate, key: PrivateKey): Promise<Buffer | undefined> {
  const { family, wrapped } = candidate;
  try {
    const cek = family.cek(await key.perform(wrapped), wrapped);
    if (cek.length !== ENCRYPTIONS[jwe.enc].cek) return undefined;
    const plaintext = await decryptContent(jwe, cek);
    return plaintext.length === 0 ? undefined : plaintext; // an empty plaintext is not a layer key
  } catch (error) {
    if (error instanceof KeystoreError) throw error; // the holder failed: not a fault of the annotation
    return undefined;
  }
}

function algorithmShown(alg: unknown): string {
  return typeof alg === "string" ? alg.slice(0, 32) : "none";
}

function foreign(jwe: ParsedJwe, candidates: readonly Candidate[]): KeystoreError {
  if (candidates.length === 0) {
    const algorithms = new Set(jwe.recipients.map(({ header }) => algorithmShown(member(header, "alg"))));
    return foreignError(
      `this provider can open none of the annotation's recipients (alg ${[...algorithms].slice(0, 4).join(", ")})`,
      "encrypt the image for a key of this store",
    );
  }
  const kids = candidates.map(({ kid }) => kid?.slice(0, 64)).filter((kid) => kid !== undefined);
  const wanted =
    kids.length === 0
      ? "it names no kid"
      : `it was made for ${kids.slice(0, 4).join(", ")}${kids.length > 4 ? ", …" : ""}`;
  return foreignError(
    `no private key of the store opens this annotation (${wanted})`,
    "import that key, or name the key store that has it with --keystore DIR",
  );
}
