// The key provider request. ocicrypt's Go library pipes it to the program; the Rust library sends it over gRPC.

import { decodeBase64 } from "../base64.ts";
import { KeystoreError, printable, requestError } from "../errors.ts";
import { isObject, member, parseJson, type JsonObject } from "../json.ts";

const DEPTH = 8; // the deepest are the Rust library's lists of lists of integers

/**
 * A request, checked and copied. Parameters may hold secrets of other providers: they are never shown and never
 * logged.
 */
export type Request =
  | { readonly op: "keywrap"; readonly parameters: ReadonlyMap<string, readonly Buffer[]>; readonly optsdata: Buffer }
  | { readonly op: "keyunwrap"; readonly annotation: Buffer };

/**
 * Parses a request. Unknown members are ignored; lists and byte strings may be null, and bytes may be a list of
 * integers.
 *
 * @throws KeystoreError `request` if the bytes are not a request; the message quotes no value
 */
export function parseRequest(bytes: Uint8Array): Request {
  if (bytes.length === 0) throw malformed("is empty");
  const request = parseJson(bytes, DEPTH, malformed);
  if (!isObject(request)) throw malformed("is not a JSON object");
  const op = member(request, "op");
  if (op === "keywrap") {
    const params = objectMember(request, "keywrapparams") ?? {};
    const ec = objectMember(params, "ec") ?? {};
    return {
      op,
      parameters: parseParameters(objectMember(ec, "Parameters") ?? {}),
      optsdata: parseBytes(member(params, "optsdata"), "optsdata"),
    };
  }
  if (op === "keyunwrap") {
    const params = objectMember(request, "keyunwrapparams") ?? {};
    return { op, annotation: parseBytes(member(params, "annotation"), "annotation") };
  }
  throw malformed(typeof op === "string" ? `has the unknown op "${printable(op, 32)}"` : "has no op");
}

function objectMember(object: JsonObject, name: string): JsonObject | undefined {
  const value = member(object, name) ?? undefined;
  if (value !== undefined && !isObject(value)) throw malformed(`has ${article(name)} that is not an object`);
  return value;
}

function parseParameters(parameters: JsonObject): Map<string, Buffer[]> {
  const parsed = new Map<string, Buffer[]>();
  for (const [provider, values] of Object.entries(parameters)) {
    if (values !== null && !Array.isArray(values)) throw malformed("has Parameters that are not lists");
    parsed.set(
      provider,
      (values ?? []).map((value: unknown) => parseBytes(value, "Parameters")),
    );
  }
  return parsed;
}

/** Reads bytes: padded standard base64, a list of integers, or JSON text itself (the Rust library sends that). */
function parseBytes(value: unknown, name: string): Buffer {
  if (value === undefined || value === null) return Buffer.alloc(0);
  if (typeof value === "string") {
    const bytes = !value.startsWith("{") ? decodeBase64(value) : value.isWellFormed() ? Buffer.from(value) : undefined;
    if (bytes !== undefined) return bytes;
  }
  if (Array.isArray(value) && value.every((byte) => Number.isInteger(byte) && byte >= 0 && byte <= 255))
    return Buffer.from(value);
  throw malformed(`has ${article(name)} that is not base64`);
}

function article(name: string): string {
  return /^[aeo]/.test(name) ? `an ${name}` : `a ${name}`;
}

function malformed(reason: string): KeystoreError {
  const hint = "standard input must be an ocicrypt key provider request; for commands see ocicrypt-keystore --help";
  return requestError(`the key provider request ${reason}`, hint);
}
