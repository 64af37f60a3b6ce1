// Edits of a JSON text that leave everything else byte for byte: member order, unusual numbers, white space.
// JSON.parse and stringify would lose the order of integer-like names, 1.0, -0 and large numbers.

import { applyEdits, modify } from "jsonc-parser";

/** A change to one place of a document; no value removes the member. */
export interface Edit {
  readonly path: readonly (string | number)[];
  readonly value: string | number | undefined;
}

/** The text with the edits made, one after another. The text is valid JSON. */
export function editJson(text: string, edits: readonly Edit[]): string {
  const indented = /^\s*\{\s*\n/.test(text);
  const formattingOptions = { insertSpaces: true, tabSize: 2, ...(indented ? {} : { keepLines: true }) };
  return edits.reduce((edited, { path, value }) => applyEdits(edited, modify(edited, [...path], value, { formattingOptions })), text);
}
