// Edits of a JSON text that leave everything else byte for byte: member order, unusual numbers, white space.
// JSON.parse and stringify would lose the order of integer-like names, 1.0, -0 and large numbers.

import { applyEdits, findNodeAtLocation, modify, parseTree } from "jsonc-parser";

/** A change to one place of a document; no value removes the member. */
export interface Edit {
  readonly path: readonly (string | number)[];
  readonly value: string | number | undefined;
}

/** The text with the edits made, one after another. The text is valid JSON. */
export function editJson(text: string, edits: readonly Edit[]): string {
  const tree = parseTree(text);
  const found = edits.map((edit) => ({ ...edit, node: tree && findNodeAtLocation(tree, [...edit.path]) }));
  // Values in place of values move nothing, so all of them at once: an index may have thousands, and modify() parses the text anew for each.
  const pieces: string[] = [];
  let end = 0;
  for (const { node, value } of found.toSorted((one, other) => (one.node?.offset ?? 0) - (other.node?.offset ?? 0))) {
    if (node === undefined || value === undefined) continue;
    pieces.push(text.slice(end, node.offset), JSON.stringify(value));
    end = node.offset + node.length;
  }
  const replaced = [...pieces, text.slice(end)].join("");

  const indented = /^\s*\{\s*\n/.test(text);
  const formattingOptions = { insertSpaces: true, tabSize: 2, ...(indented ? {} : { keepLines: true }) };
  const others = found.filter(({ node, value }) => (node === undefined) !== (value === undefined));
  return others.reduce((edited, { path, value }) => applyEdits(edited, modify(edited, [...path], value, { formattingOptions })), replaced);
}
