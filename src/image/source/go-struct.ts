// JSON as Go reads it into a struct, which is how clients read auth files and answers: the names of members in any case,
// the last of several counts, and null is nothing.

import { parseTree, type Node } from "jsonc-parser";
import type { Fail } from "../../json.ts";

/** JSON.parse decides what is JSON. jsonc-parser keeps every member, and reads escaped names right (nodejs/node#63785). */
export function parseTreeAsGo(text: string, fail: Fail): Node {
  let root: Node | undefined;
  try {
    JSON.parse(text);
    root = parseTree(text);
  } catch {
    // said below, without V8's message, which quotes its input
  }
  if (root === undefined) throw fail("is not JSON");
  return root;
}

/** The values of an object's members whose names are fields, in lower case. */
export function structOf(node: Node, fail: Fail, fields: readonly string[]): (field: string) => Node[] {
  const found = Map.groupBy(members(node, fail), ([name]) => fields.find((field) => field === name.toLowerCase()));
  return (field) => (found.get(field) ?? []).map(([, value]) => value);
}

/** An object's members in their order; null has none. */
export function members({ type, children = [] }: Node, fail: Fail): [string, Node][] {
  if (type !== "object" && type !== "null") throw misplaced(type, fail);
  return children.flatMap(({ children: [name, value] = [] }) =>
    name === undefined || value === undefined ? [] : [[String(name.value), value]],
  );
}

/** The last of these texts; empty without any. */
export function lastText(nodes: readonly Node[], fail: Fail): string {
  return nodes.reduce((_, node) => textOf(node, fail), "");
}

/** A text; null is an empty one. */
export function textOf({ type, value }: Node, fail: Fail): string {
  if (type === "null") return "";
  if (type !== "string") throw misplaced(type, fail);
  return String(value);
}

function misplaced(type: string, fail: Fail): Error {
  return fail(`has a member that is wrongly of the type ${type}`);
}
