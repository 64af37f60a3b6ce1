// The keys of a file, and which of them is imported.

import { KeystoreError, printable } from "../../errors.ts";
import { forbids, naturalAlgorithm } from "../../jwe/alg/algorithms.ts";
import { isPrivate, isSymmetric, kidOf, publicHalf, type Jwk } from "../../jwk/jwk.ts";
import { refused } from "./refusal.ts";

const LISTED = 8; // keys that a refusal names

/** What was read of one key. */
export interface Found {
  readonly jwk: Jwk;
  /** What the user must know about it, a line each. */
  readonly notes?: readonly string[];
  /** What shows which key of several it is: a subject, a comment. */
  readonly label?: string;
}

/** One key of a file: what was read, or why it cannot be imported. */
export type Candidate = Found | { readonly error: KeystoreError; readonly kid?: string | undefined };

/** Reads one key of several: an error is kept, since another key may be the one. */
export function candidate(read: () => Found, kid?: string): Candidate {
  try {
    const found = read();
    return { ...found, jwk: usable(found.jwk) };
  } catch (error) {
    if (!(error instanceof KeystoreError)) throw error;
    return { error, kid };
  }
}

/** Checks that a key can wrap; if it is private, that it can unwrap too. */
function usable(jwk: Jwk): Jwk {
  const key = withSize(jwk);
  const obstacle = forbids(key, isPrivate(key) ? "unwrap" : "wrap") ?? forbids(publicHalf(key), "wrap");
  if (obstacle !== undefined) throw refused(`cannot be used here: ${obstacle}`);
  if (isSymmetric(key) && !isPrivate(key)) throw refused("is a symmetric key without its k");
  return key;
}

function withSize(jwk: Jwk): Jwk {
  const natural = isSymmetric(jwk) ? naturalAlgorithm(jwk) : undefined;
  if (natural === undefined) return jwk;
  if (jwk.alg !== undefined && jwk.alg !== natural)
    throw refused('cannot be used here: its "alg" does not match its size');
  return { ...jwk, alg: natural };
}

/**
 * The one key of a file that can be used.
 *
 * @param kid the key's kid, or its thumbprint, if the user chose one
 * @throws KeystoreError `key` if there is no such key, or if several can be used
 */
export function choose(candidates: readonly Candidate[], kid: string | undefined): Found {
  const asked = kid === undefined ? candidates : candidates.filter((one) => kidsOf(one).includes(kid));
  const found = distinct(asked.filter((one) => "jwk" in one));
  const [only, ...more] = found;
  if (only !== undefined && more.length === 0) return only;
  if (only !== undefined) {
    const list = namesOf(found);
    throw refused(`has ${found.length} keys that can be used, by kid: ${list}`, "choose one with --kid KID");
  }
  const [failed, ...others] = asked.filter((one) => "error" in one);
  if (failed === undefined) {
    const list = namesOf(candidates);
    if (kid === undefined) throw refused("has no key in it", "name a file with a key");
    throw refused("has no key with that kid", list === "" ? "leave --kid out" : `--kid can be ${list}`);
  }
  if (others.length === 0) throw failed.error;
  const reason = failed.error.message.replace(/^the key to import /, "");
  const hint = failed.error.hint.replace(/^nothing was imported; /, "");
  throw refused(`has ${asked.length} keys, none of which can be used: the first ${reason}`, hint);
}

/** The names by which a user can choose a key: its own kid, and its thumbprint. */
function kidsOf(one: Candidate): string[] {
  if ("error" in one) return one.kid === undefined ? [] : [one.kid];
  const own = one.jwk.kid === undefined ? [] : [one.jwk.kid];
  return isSymmetric(one.jwk) ? own : [...own, kidOf(one.jwk)];
}

/** Each key once; of a pair the private key. */
function distinct(found: readonly Found[]): readonly Found[] {
  const keys = new Map<string, Found>();
  for (const [place, one] of found.entries()) {
    const id = isSymmetric(one.jwk) ? `symmetric ${place}` : kidOf(one.jwk);
    const known = keys.get(id);
    if (known === undefined || (isPrivate(one.jwk) && !isPrivate(known.jwk))) keys.set(id, one);
  }
  return [...keys.values()];
}

/** The keys as a list of kids. A kid that several keys have does not tell them apart: then it is the thumbprint. */
function namesOf(candidates: readonly Candidate[]): string {
  const all = candidates.flatMap((one) => kidsOf(one).slice(0, 1));
  const names = candidates.flatMap((one) => {
    const [own, thumbprint] = kidsOf(one);
    if (own === undefined) return "jwk" in one ? ["one without a kid"] : [];
    const name = all.indexOf(own) === all.lastIndexOf(own) ? own : (thumbprint ?? own);
    const label = "jwk" in one && one.label !== undefined && one.label !== "" ? ` (${printable(one.label, 64)})` : "";
    return [printable(name, 64) + label];
  });
  const more = names.length > LISTED ? `, and ${names.length - LISTED} more` : "";
  return names.slice(0, LISTED).join(", ") + more;
}
