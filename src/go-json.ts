// JSON as Go's encoding/json reads it into a struct, which is how clients read their configuration, credentials and the
// answers of providers and registries: names of members in any case, duplicates one after the other, null as "leave it",
// wrong types refused.

import { parseTree, type Node } from "jsonc-parser";
import { decodeBase64 } from "./base64.ts";
import type { Fail } from "./json.ts";

/** A member as it is written; an object may have several of one name. */
export interface GoMember {
  readonly name: string;
  readonly value: GoValue;
}

/** A parsed value. */
export type GoValue =
  | { readonly kind: "null" }
  | { readonly kind: "scalar"; readonly scalar: string | number | boolean }
  | { readonly kind: "array"; readonly items: readonly GoValue[] }
  | { readonly kind: "object"; readonly members: readonly GoMember[] };

/** Why Go refuses a text: a few words that follow the name of what is read, and quote none of its values. */
export class GoJsonError extends Error {}

/** What `read` gives. @throws what `fail` makes if Go refuses the text */
export function orFail<T>(fail: Fail, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw error instanceof GoJsonError ? fail(error.message) : error;
  }
}

const NULL: GoValue = { kind: "null" };

/** Parses bytes. @throws GoJsonError if they are not JSON */
export function parseGoJson(bytes: Uint8Array): GoValue {
  const text = Buffer.from(bytes).toString("utf8"); // as in Go, what is not UTF-8 becomes U+FFFD
  if (text.trim() === "") throw new GoJsonError("is empty");
  if (text.startsWith("\ufeff")) throw new GoJsonError("is not JSON: it begins with a byte order mark");
  try {
    JSON.parse(text); // jsonc-parser is lenient
    return valueOf(parseTree(text));
  } catch {
    throw new GoJsonError("is not JSON"); // V8's message quotes its input
  }
}

function valueOf(node: Node | undefined): GoValue {
  if (node === undefined || node.type === "null") return NULL;
  if (node.type === "array") return { kind: "array", items: (node.children ?? []).map(valueOf) };
  if (node.type !== "object") return { kind: "scalar", scalar: scalarOf(node) };
  const members = (node.children ?? []).map(({ children: [name, value] = [] }) => {
    return { name: String(name?.value).toWellFormed(), value: valueOf(value) };
  });
  return { kind: "object", members };
}

function scalarOf({ value }: Node): string | number | boolean {
  const scalar: unknown = value;
  if (typeof scalar === "number" || typeof scalar === "boolean") return scalar;
  return String(scalar).toWellFormed(); // half of a surrogate pair becomes U+FFFD
}

/** The members of an object; none of null. @throws GoJsonError if it is anything else */
function membersOf(value: GoValue, what: string): readonly GoMember[] {
  if (value.kind === "null") return [];
  if (value.kind !== "object") throw new GoJsonError(`${what} that is not an object`);
  return value.members;
}

/** Sets the fields of a struct, in the order of the members. Members of other names are ignored. */
export function readStruct(
  value: GoValue,
  what: string,
  fields: Readonly<Record<string, (value: GoValue) => void>>,
): void {
  for (const member of membersOf(value, what)) {
    const name = folded(member.name);
    if (Object.hasOwn(fields, name)) fields[name]?.(member.value);
  }
}

/** A map with more entries; null leaves none. @throws GoJsonError if it is not an object */
export function mapOf<T>(
  before: ReadonlyMap<string, T>,
  value: GoValue,
  what: string,
  read: (value: GoValue, name: string) => T,
): ReadonlyMap<string, T> {
  const added = membersOf(value, what).map((member): [string, T] => [member.name, read(member.value, member.name)]);
  return new Map(value.kind === "null" ? [] : [...before, ...added]);
}

/** Go's folding, as far as it leads to ASCII: also of the long s and the Kelvin sign. */
function folded(name: string): string {
  return name.replaceAll("\u017f", "s").toLowerCase();
}

/** A string; null leaves the field as it was. @throws GoJsonError if it is anything else */
export function stringOr(before: string, value: GoValue, what: string): string {
  if (value.kind === "null") return before;
  if (value.kind === "scalar" && typeof value.scalar === "string") return value.scalar;
  throw new GoJsonError(`${what} that is not a string`);
}

/** A boolean; null leaves the field as it was. @throws GoJsonError if it is anything else */
export function booleanOr(before: boolean, value: GoValue, what: string): boolean {
  if (value.kind === "null") return before;
  if (value.kind === "scalar" && typeof value.scalar === "boolean") return value.scalar;
  throw new GoJsonError(`${what} that is neither true nor false`);
}

/** A list of strings; null makes it empty. @throws GoJsonError if it is anything else */
export function strings(before: readonly string[], value: GoValue, what: string): string[] {
  if (value.kind === "null") return [];
  if (value.kind !== "array") throw new GoJsonError(`${what} that are not a list of strings`);
  return value.items.map((item, at) => {
    if (item.kind !== "null" && typeof (item.kind === "scalar" && item.scalar) !== "string")
      throw new GoJsonError(`${what} that are not a list of strings`);
    return stringOr(before[at] ?? "", item, what);
  });
}

/** Bytes: standard base64, or a list of integers; none of null. @throws GoJsonError if it is anything else */
export function bytesOf(value: GoValue, what: string): Buffer | undefined {
  if (value.kind === "null") return undefined;
  if (value.kind === "scalar" && typeof value.scalar === "string") {
    const bytes = decodeBase64(value.scalar.replace(/[\r\n]/g, ""));
    if (bytes !== undefined) return bytes;
  }
  if (value.kind === "array") {
    const items = value.items.map((item) => (item.kind === "scalar" ? item.scalar : -1));
    if (items.every((item) => Number.isInteger(item) && Number(item) >= 0 && Number(item) < 256)) {
      return Buffer.from(items.map(Number));
    }
  }
  throw new GoJsonError(`${what} that is not base64`);
}
