// Strict JSON, for input that is not trusted: requests, annotations, key files.

import { isUtf8 } from "node:buffer";

/** A JSON object: read members with {@link member} only. */
export type JsonObject = { readonly [name: string]: unknown };

/** Makes the error to throw from a few words such as "is not JSON". They never quote the input. */
export type Fail = (reason: string) => Error;

const FORBIDDEN_NAMES = new Set(["__proto__", "constructor", "prototype"]);

/**
 * Parses JSON strictly: valid UTF-8, no BOM, no NUL, no duplicate or escaped member names, no member names such as
 * `__proto__`.
 *
 * @param maxDepth how many objects and arrays may be nested
 * @throws what `fail` makes
 */
export function parseJson(bytes: Uint8Array, maxDepth: number, fail: Fail): unknown {
  if (!isUtf8(bytes)) throw fail("is not valid UTF-8");
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("utf8");
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw fail("is not JSON"); // V8's message quotes its input
  }
  if (checkedMembers(value, maxDepth, fail) !== writtenMembers(text, fail)) throw fail("has a duplicate member name");
  return value;
}

/** How many members the value has, at all depths. */
function checkedMembers(value: unknown, depth: number, fail: Fail): number {
  if (typeof value === "string" && value.includes("\0")) throw fail("has a NUL character");
  if (typeof value !== "object" || value === null) return 0;
  if (depth === 0) throw fail("is nested too deep");
  let count = 0;
  if (Array.isArray(value)) {
    for (const item of value) count += checkedMembers(item, depth - 1, fail);
    return count;
  }
  for (const [name, item] of Object.entries(value)) {
    if (isForbiddenName(name)) throw fail("has a forbidden member name");
    count += 1 + checkedMembers(item, depth - 1, fail);
  }
  return count;
}

/** Whether a member of that name may reach a prototype, or ends early for programs in C. */
export function isForbiddenName(name: string): boolean {
  return FORBIDDEN_NAMES.has(name) || name.includes("\0");
}

/** How many members are written in valid JSON text, duplicates included: strings that a colon follows. */
function writtenMembers(text: string, fail: Fail): number {
  let count = 0;
  for (let start = text.indexOf('"'), end = start; start !== -1; start = text.indexOf('"', end)) {
    end = endOfString(text, start);
    const name = text.slice(start, end);
    while (end < text.length && " \t\n\r".includes(text.charAt(end))) end++;
    if (text.charAt(end) !== ":") continue;
    count++;
    // V8 may read an escaped name as another name (nodejs/node#63785), and no client writes escaped names.
    if (name.includes("\\")) throw fail("has an escaped member name");
  }
  return count;
}

/** Where the string that starts there in valid JSON text ends. */
export function endOfString(text: string, start: number): number {
  for (let at = text.indexOf('"', start + 1); ; at = text.indexOf('"', at + 1)) {
    let backslashes = 0;
    while (text.charAt(at - 1 - backslashes) === "\\") backslashes++;
    if (backslashes % 2 === 0) return at + 1;
  }
}

/** Whether a parsed value is an object, not an array or null. */
export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** An object's own member, undefined if it has no member of that name. */
export function member(object: JsonObject, name: string): unknown {
  return Object.hasOwn(object, name) ? object[name] : undefined;
}
