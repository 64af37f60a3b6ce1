// The requests of a client to a provider, and how it reads the answers. Several checks use this.

import { isObject, member, parseJson, type Fail } from "../json.ts";

const ANSWER_DEPTH = 3; // the answer, its result, a list of integers

/** A request to wrap for one recipient; `""` is the default key. @param optsdata base64 */
export function wrapRequest(provider: string, recipient: string, optsdata: string): string {
  const parameters = { [provider]: [Buffer.from(recipient).toString("base64")] };
  return JSON.stringify({ op: "keywrap", keywrapparams: { ec: { Parameters: parameters }, optsdata } });
}

/** A request to unwrap. @param annotation base64 */
export function unwrapRequest(annotation: string): string {
  return JSON.stringify({ op: "keyunwrap", keyunwrapparams: { dc: { Parameters: null }, annotation } });
}

/**
 * A member of a result in an answer, such as `annotation` of `keywrapresults`; undefined if the answer has none.
 *
 * @param fail makes the error to throw if the answer is not JSON
 */
export function resultIn(answer: Uint8Array, result: string, name: string, fail: Fail): unknown {
  const parsed = parseJson(answer, ANSWER_DEPTH, fail);
  const results = isObject(parsed) ? member(parsed, result) : undefined;
  return isObject(results) ? member(results, name) : undefined;
}
