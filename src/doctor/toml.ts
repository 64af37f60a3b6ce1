// Configurations in TOML: a file's tables, and values in them.

import { readFileSync } from "node:fs";
import { parse } from "smol-toml";
import { errorCode, printable } from "../errors.ts";
import { isObject, member, type JsonObject } from "../json.ts";

/** A file's content, or why its reader refuses it: words that follow the file's path. */
export type Toml =
  | { readonly table: JsonObject }
  | { readonly refused: string }
  /** This user may not read it; the service, which is root's, can. */
  | { readonly unreadable: true };

/** Words that follow the path of such a file, and what to do. */
export const UNREADABLE = ["cannot be read by this user", "run doctor as root"] as const;

/** Reads a file; undefined if it is not there. */
export function readToml(path: string): Toml | undefined {
  try {
    const table: unknown = parse(readFileSync(path, "utf8"), { integersAsBigInt: "asNeeded" });
    return isObject(table) ? { table } : { refused: "is not TOML" };
  } catch (error) {
    const code = errorCode(error);
    if (code === "ENOENT") return undefined;
    if (code === "EACCES" || code === "EPERM") return { unreadable: true };
    if (code !== undefined) return { refused: `cannot be read (${code})` };
    // The first line of the message; the others quote the file.
    const [reason = ""] = (error instanceof Error ? error.message : "")
      .replace(/^Invalid TOML document: /, "")
      .split("\n");
    return { refused: `is not valid TOML: ${printable(reason, 200)}` };
  }
}

/** A table in a table; an empty one if it is not there. */
export function tableIn(table: JsonObject, ...names: readonly string[]): JsonObject {
  let found: unknown = table;
  for (const name of names) found = isObject(found) ? member(found, name) : undefined;
  return isObject(found) ? found : {};
}

/** The strings of a list; none if it is not there. */
export function stringsIn(table: JsonObject, name: string): string[] {
  const list = member(table, name);
  return Array.isArray(list) ? list.filter((item) => typeof item === "string") : [];
}

/** Two tables in one: the second wins, table by table. */
export function merged(to: JsonObject, from: JsonObject): JsonObject {
  const result: Record<string, unknown> = { ...to };
  for (const [name, value] of Object.entries(from)) {
    const before = member(to, name);
    result[name] = isObject(before) && isObject(value) ? merged(before, value) : value;
  }
  return result;
}
