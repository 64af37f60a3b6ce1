// The requests of a client to a provider, and what it reads in the answers. Several checks use this.

import { bytesOf, parseGoJson, readStruct, type GoValue } from "../go-json.ts";

/** A request to wrap for one recipient, or `NO_RECIPIENT`. */
export function wrapRequest(provider: string, recipient: string, optsdata: Buffer): string {
  const parameters = { [provider]: [Buffer.from(recipient).toString("base64")] };
  const keywrapparams = { ec: { Parameters: parameters }, optsdata: optsdata.toString("base64") };
  return JSON.stringify({ op: "keywrap", keywrapparams });
}

/** A request to unwrap. */
export function unwrapRequest(annotation: Buffer): string {
  const keyunwrapparams = { dc: { Parameters: null }, annotation: annotation.toString("base64") };
  return JSON.stringify({ op: "keyunwrap", keyunwrapparams });
}

/**
 * A result in a provider's answer, such as `annotation` of `keywrapresults`; undefined if the answer has none.
 *
 * @throws GoJsonError if clients cannot read the answer
 */
export function resultIn(answer: Uint8Array, results: string, name: string): Buffer | undefined {
  let found: Buffer | undefined;
  const read = (value: GoValue): void =>
    readStruct(value, `has ${results}`, { [name]: (bytes) => (found = bytesOf(bytes, `has an ${name}`)) });
  readStruct(parseGoJson(answer), "is JSON", { [results]: read });
  return found;
}
