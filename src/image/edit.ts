// Edits of a JSON text that leave everything else byte for byte: member order, unusual numbers, white space.
// JSON.parse and stringify would lose the order of integer-like names, 1.0, -0 and large numbers.

import { parseTree, type Node } from "jsonc-parser";

/** A change to one place of a document; no value removes the member. Members are added to existing objects only. */
export interface Edit {
  readonly path: readonly (string | number)[];
  readonly value: string | number | undefined;
}

/** The edits by their paths: a tree as the document is one. */
interface Edits {
  readonly below: Map<string | number, Edits>;
  edit: Edit | undefined;
}

/** A piece of the text with what comes in its place. */
interface Replacement {
  readonly start: number;
  readonly end: number;
  readonly text: string;
}

/**
 * The text, which is valid JSON, with the edits made. Of two edits of one place the last counts. The text is walked
 * once, however many edits there are.
 */
export function editJson(text: string, edits: readonly Edit[]): string {
  const tree = edits.length === 0 ? undefined : parseTree(text);
  if (tree === undefined) return text;
  const replacements: Replacement[] = [];
  editValue(text, tree, byPath(edits), replacements);
  const pieces: string[] = [];
  let end = 0;
  for (const replacement of replacements.toSorted((one, other) => one.start - other.start)) {
    pieces.push(text.slice(end, replacement.start), replacement.text);
    end = replacement.end;
  }
  return [...pieces, text.slice(end)].join("");
}

function byPath(edits: readonly Edit[]): Edits {
  const root: Edits = { below: new Map(), edit: undefined };
  for (const edit of edits) {
    let place = root;
    for (const step of edit.path) {
      const next = place.below.get(step) ?? { below: new Map(), edit: undefined };
      place.below.set(step, next);
      place = next;
    }
    place.edit = edit;
  }
  return root;
}

function editValue(text: string, node: Node, { edit, below }: Edits, replacements: Replacement[]): void {
  if (edit?.value !== undefined) {
    replacements.push({ start: node.offset, end: endOf(node), text: JSON.stringify(edit.value) });
  } else if (node.type === "object") {
    editObject(text, node, below, replacements);
  } else if (node.type === "array") {
    for (const [place, edits] of below) {
      const child = typeof place === "number" ? node.children?.[place] : undefined;
      if (child !== undefined) editValue(text, child, edits, replacements);
    }
  }
}

function editObject(text: string, node: Node, below: Edits["below"], replacements: Replacement[]): void {
  const { offset, children: properties = [] } = node;
  const present = new Set<string | number>();
  let kept = 0;
  for (const [place, property] of properties.entries()) {
    const [name, value] = property.children ?? [];
    const edits = below.get(String(name?.value));
    present.add(String(name?.value));
    if (edits?.edit !== undefined && edits.edit.value === undefined) {
      // It goes with the comma before it or, where nothing before it stays, with the one after it.
      const [before, after] = [properties[place - 1], properties[place + 1]];
      const start = kept > 0 && before !== undefined ? endOf(before) : property.offset;
      replacements.push({ start, end: kept > 0 || after === undefined ? endOf(property) : after.offset, text: "" });
    } else {
      if (edits !== undefined && value !== undefined) editValue(text, value, edits, replacements);
      kept++;
    }
  }
  const last = properties.at(-1);
  const end = last === undefined ? offset + 1 : endOf(last);
  for (const [name, { edit }] of below) {
    if (edit?.value === undefined || present.has(name)) continue;
    const before = kept++ > 0 ? separator(text, offset, properties) : "";
    const added = `${JSON.stringify(name)}${colon(text, last)}${JSON.stringify(edit.value)}`;
    replacements.push({ start: end, end, text: before + added });
  }
}

function endOf({ offset, length }: Node): number {
  return offset + length;
}

/** What stands between two members of the object that starts there, or would. */
function separator(text: string, start: number, properties: readonly Node[]): string {
  const [before, last] = properties.slice(-2);
  if (before !== undefined && last !== undefined) return text.slice(endOf(before), last.offset);
  return before === undefined ? "," : `,${text.slice(start + 1, before.offset)}`;
}

/** What stands between a member's name and its value. */
function colon(text: string, property: Node | undefined): string {
  const [name, value] = property?.children ?? [];
  return name === undefined || value === undefined ? ":" : text.slice(endOf(name), value.offset);
}
