// One file with credentials: auth.json, docker's config.json and its older .dockercfg, read as Go's clients read JSON.

import { parseTree, type Node } from "jsonc-parser";
import { imageError } from "../../errors.ts";
import { readSmallFile } from "../../fs/read.ts";

/** What a file says of a registry or a namespace. */
export interface AuthEntry {
  /** base64 of USER:PASSWORD. */
  readonly auth: string;
  readonly identityToken: string;
}

/** An auth file. */
export interface AuthFile {
  readonly path: string;
  /** .dockercfg: only entries, and every key may be a URL. */
  readonly legacy: boolean;
  readonly auths: ReadonlyMap<string, AuthEntry>;
  /** The credential helper of a registry. */
  readonly helpers: ReadonlyMap<string, string>;
  /** The credential helper of every other registry, for docker alone. */
  readonly store: string;
}

const MAX_AUTH_FILE = 1024 * 1024; // bytes; who works with many registries has hundreds of entries

/** Reads a file. @returns undefined if there is none. @throws KeystoreError `image` if Go's clients refuse it too */
export function readAuthFile(path: string, legacy: boolean): AuthFile | undefined {
  const bytes = readSmallFile(path, MAX_AUTH_FILE)?.bytes;
  if (bytes === undefined) return undefined;
  const root = parse(bytes.toString("utf8"), path);
  if (legacy) return { path, legacy, auths: entries(root, path), helpers: new Map(), store: "" };
  const fields = structOf(root, path, ["auths", "credhelpers", "credsstore"]);
  return {
    path,
    legacy,
    auths: new Map(fields("auths").flatMap((node) => [...entries(node, path)])),
    helpers: new Map(
      fields("credhelpers").flatMap((node) =>
        members(node, path).map(([name, value]): [string, string] => [name, textOf(value, path)]),
      ),
    ),
    // Only docker reads this member: one that is no text is not skopeo's concern.
    store: fields("credsstore").reduce((former, { value }) => (typeof value === "string" ? value : former), ""),
  };
}

/** JSON.parse decides what is JSON. jsonc-parser keeps every member, and reads escaped names right (nodejs/node#63785). */
function parse(text: string, path: string): Node {
  let root: Node | undefined;
  try {
    JSON.parse(text);
    root = parseTree(text);
  } catch {
    // said below, without V8's message, which quotes the file
  }
  if (root === undefined) throw imageError(`${path} is not JSON`, "log in again, or fix the file");
  return root;
}

function entries(node: Node, path: string): Map<string, AuthEntry> {
  const found = new Map<string, AuthEntry>();
  for (const [name, value] of members(node, path)) {
    const fields = structOf(value, path, ["auth", "identitytoken"]);
    const last = (field: string): string => fields(field).reduce((_, text) => textOf(text, path), "");
    found.set(name, { auth: last("auth"), identityToken: last("identitytoken") });
  }
  return found;
}

/** The values of an object's members whose names are fields: Go ignores case, and the last of several counts. */
function structOf(node: Node, path: string, fields: readonly string[]): (field: string) => Node[] {
  const found = Map.groupBy(members(node, path), ([name]) => fields.find((field) => field === name.toLowerCase()));
  return (field) => (found.get(field) ?? []).map(([, value]) => value);
}

/** An object's members in their order; null has none. */
function members({ type, children = [] }: Node, path: string): [string, Node][] {
  if (type !== "object" && type !== "null") throw misplaced(type, path);
  return children.flatMap(({ children: [name, value] = [] }) =>
    name === undefined || value === undefined ? [] : [[String(name.value), value]],
  );
}

function textOf({ type, value }: Node, path: string): string {
  if (type === "null") return "";
  if (type !== "string") throw misplaced(type, path);
  return String(value);
}

function misplaced(type: string, path: string): Error {
  return imageError(`${path} has a member that is wrongly of the type ${type}`, "log in again, or fix the file");
}
