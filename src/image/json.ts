// JSON of an image's documents. Docker and Go write some member names with escapes (`\u003c`), and V8 may read such a
// name as another one (nodejs/node#63785): V8 checks the grammar here, and jsonc-parser reads the names and values.

import { isUtf8 } from "node:buffer";
import { parseTree, type Node } from "jsonc-parser";
import { endOfString, isForbiddenName, parseJson, type Fail } from "../json.ts";

const BACKSLASH = 0x5c;

/**
 * Parses a document strictly: valid UTF-8, no BOM, no NUL, no duplicate member names, no member names such as
 * `__proto__`, as they read without escapes.
 *
 * @param maxDepth how many objects and arrays may be nested
 * @throws what `fail` makes
 */
export function parseDocumentJson(bytes: Buffer, maxDepth: number, fail: Fail): unknown {
  if (!bytes.includes(BACKSLASH)) return parseJson(bytes, maxDepth, fail); // nothing to misread, and faster
  if (!isUtf8(bytes)) throw fail("is not valid UTF-8");
  return valueOf(treeOf(bytes, maxDepth, fail), fail);
}

/**
 * Parses JSON of which only some names are shown, such as a configuration: of two members of one name the last counts.
 *
 * @throws what `fail` makes
 */
export function parseLooseJson(bytes: Buffer, maxDepth: number, fail: Fail): unknown {
  if (!bytes.includes(BACKSLASH)) return parseByV8(bytes.toString("utf8"), fail);
  return valueOf(treeOf(bytes, maxDepth, fail), undefined);
}

function treeOf(bytes: Buffer, maxDepth: number, fail: Fail): Node | undefined {
  const text = bytes.toString("utf8");
  parseByV8(text, fail);
  if (isDeeper(text, maxDepth)) throw fail("is nested too deep");
  return parseTree(text);
}

function parseByV8(text: string, fail: Fail): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw fail("is not JSON"); // V8's message quotes its input
  }
}

/** Whether valid JSON nests more objects and arrays than that: jsonc-parser recurses into them. */
function isDeeper(text: string, maxDepth: number): boolean {
  let depth = 0;
  const next = /["[\]{}]/g;
  for (let match = next.exec(text); match !== null; match = next.exec(text)) {
    if (match[0] === '"') next.lastIndex = endOfString(text, match.index);
    else if (match[0] === "[" || match[0] === "{") depth++;
    else depth--;
    if (depth > maxDepth) return true;
  }
  return false;
}

/** @param fail undefined: whatever the names are */
function valueOf(node: Node | undefined, fail: Fail | undefined): unknown {
  const { type, value, children = [] } = node ?? {};
  if (type === "array") return children.map((child) => valueOf(child, fail));
  if (type !== "object") return checkedText(value, fail);
  const members = new Map<string, unknown>();
  for (const { children: [key, content] = [] } of children) {
    const name = String(key?.value);
    if (fail !== undefined && isForbiddenName(name)) throw fail("has a forbidden member name");
    if (fail !== undefined && members.has(name)) throw fail("has a duplicate member name");
    members.set(name, valueOf(content, fail));
  }
  return Object.fromEntries(members);
}

function checkedText(value: unknown, fail: Fail | undefined): unknown {
  if (fail !== undefined && typeof value === "string" && value.includes("\0")) throw fail("has a NUL character");
  return value;
}
