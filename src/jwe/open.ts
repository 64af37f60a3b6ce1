// Opens a JWE with whichever of the store's private keys it was sealed for (rules 9 to 11 and 14 of README.md).

import { foreignError, KeystoreError, unusableError } from "../errors.ts";
import { member } from "../json.ts";
import { ENCRYPTIONS, familyOf, forbids } from "./alg/algorithms.ts";
import type { Ask, Family } from "./alg/family.ts";
import { decryptContent } from "./engine.ts";
import { parseJwe, type ParsedJwe, type ParsedRecipient } from "./gate.ts";
import type { PrivateKey, PrivateKeys } from "./key.ts";

const MAX_TRIALS = 256; // private operations that one annotation may cause
const HOLDER_TRIALS = 32; // what a command counts among them: eight at most

/** A recipient that our algorithms could open: whom it names, and what it asks of that key. */
interface Candidate {
  readonly kid: string | undefined;
  readonly family: Family;
  readonly ask: Ask;
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
  const [alg, kid] = [member(header, "alg"), member(header, "kid")];
  const family = familyOf(alg);
  if (typeof alg !== "string" || family === undefined || (kid !== undefined && typeof kid !== "string")) return undefined;
  const ask = family.read(alg, header, encryptedKey, ENCRYPTIONS[jwe.enc].cek);
  return ask && { kid, family, ask };
}

function compatible({ kid, jwk, holder }: PrivateKey, { family, ask, kid: wanted }: Candidate): boolean {
  if (holder !== undefined && wanted !== undefined && wanted !== kid) return false; // no command runs for what names another key
  return family.serves(jwk) && forbids(jwk, "unwrap", ask.alg) === undefined && family.fits(jwk, ask);
}

/** One trial. Of a holder that was named, an answer which opens nothing is a failure. */
async function attempt(jwe: ParsedJwe, one: Candidate, key: PrivateKey): Promise<Buffer | undefined> {
  const plaintext = await tryToOpen(jwe, one, key);
  if (plaintext !== undefined || key.holder === undefined || one.kid !== key.kid) return plaintext;
  throw unusableError(`the holder of key ${key.kid} answered, but not with what was wrapped for that key`, "see with ocicrypt-keystore doctor whether it holds that key; if it does, the annotation is damaged");
}

/** Wrong key, bad wrap, wrong length, bad tag and bad padding are all the same: undefined. */
async function tryToOpen(jwe: ParsedJwe, one: Candidate, key: PrivateKey): Promise<Buffer | undefined> {
  try {
    const cek = one.family.cek(await key.perform(one.ask), one.ask);
    if (cek.length !== ENCRYPTIONS[jwe.enc].cek) return undefined;
    const plaintext = await decryptContent(jwe, cek);
    return plaintext.length === 0 ? undefined : plaintext; // an empty plaintext is no layer key
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
      `none of the annotation's recipients is one this provider can open (alg ${[...algorithms].slice(0, 4).join(", ")})`,
      "encrypt the image for a key of this store",
  );
  }
  const kids = candidates.map(({ kid }) => kid?.slice(0, 64)).filter((kid) => kid !== undefined);
  const wanted = kids.length === 0 ? "it names no kid" : `it was made for ${kids.slice(0, 4).join(", ")}${kids.length > 4 ? ", …" : ""}`;
  return foreignError(
    `no private key of the store opens this annotation (${wanted})`,
    "bring that key into the store, or name the store that has it with --keystore",
  );
}
