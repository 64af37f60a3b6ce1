// JSON of image documents: names as they read without escapes, and as strict as annotations otherwise.

import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { parseDocumentJson, parseLooseJson } from "../../src/image/json.ts";
import { endurance } from "../support/parts.ts";

const fail = (reason: string): Error => new Error(reason);
const parse = (text: string | Buffer, depth = 8): unknown => parseDocumentJson(Buffer.from(text), depth, fail);
const loose = (text: string | Buffer, depth = 8): unknown => parseLooseJson(Buffer.from(text), depth, fail);
const refuses = (read: typeof parse, text: string | Buffer, reason: string, depth?: number): void =>
  assert.throws(
    () => read(text, depth),
    (error: Error) => error.message === reason,
    String(text).slice(0, 80),
  );

test("reads names that are written with escapes", () => {
  for (const [text, value] of [
    [String.raw`{"a\"b":1}`, { 'a"b': 1 }],
    [String.raw`{"caf\u00e9":1}`, { café: 1 }],
    [String.raw`{"\u003cno value\u003e":"\u0026"}`, { "<no value>": "&" }],
    [String.raw`{"a\\b":{"\/":1,"\t":2,"\ud83d\ude00":3}}`, { "a\\b": { "/": 1, "\t": 2, "😀": 3 } }],
    [String.raw`{"\\u0061":1,"a":2}`, { "\\u0061": 1, a: 2 }],
    [String.raw`{"1":1.0,"0":-0,"":1e2}`, { 1: 1, 0: -0, "": 100 }],
  ] as const) {
    assert.equal(parse(text), value, text);
    assert.equal(loose(text), value, text);
  }
});

test("is not fooled by V8, which reads an escaped name as one with a backslash that it has seen before", () => {
  for (const [seen, text, value] of [
    ['{"q":0,"\\\\":0}', '{"q":1,"\\u0061":2}', { q: 1, a: 2 }],
    ['{"lay":0,"\\\\u0":0}', '{"lay":1,"\\u006cayers":2}', { lay: 1, layers: 2 }],
  ] as const) {
    JSON.parse(seen);
    assert.equal(parse(text), value, text);
  }
});

test("refuses names that come twice or reach a prototype, however they are written", () => {
  for (const text of [
    '{"a":1,"a":1}',
    '{"a":1,"\\u0061":2}',
    '[{"x":{"\\"":{},"\\u0022":{}}}]',
    '{"/":1,"\\/":2}',
    '{"\\u006cayers":[],"layers":[]}',
  ])
    refuses(parse, text, "has a duplicate member name");
  for (const name of ["__proto__", "constructor", "prototype", "\\u005f_proto__", "constr\\u0075ctor", "a\\u0000"])
    refuses(parse, `[{"a":{"${name}":{}}}]`, "has a forbidden member name");
  assert.equal(Object.keys(loose('{"a":1,"a":2,"__proto__":3}') as object), ["a", "__proto__"]);
  assert.equal((loose('{"a":1,"\\u0061":2}') as { a: number }).a, 2);
});

test("refuses what is not JSON, not UTF-8 or nested too deep", () => {
  for (const text of ["", "{", "{'a':1}", '{"a":1,}', "[1,]", "01", "// x\n1", "/**/1", "\ufeff{}", '"\n"', "{}{}"]) {
    refuses(parse, text, "is not JSON");
    refuses(loose, text, "is not JSON");
  }
  refuses(parse, Buffer.from([0x22, 0xff, 0x22]), "is not valid UTF-8");
  refuses(parse, '["\\u0000"]', "has a NUL character");
  assert.equal(parse('[[["[[[[\\"[["]]]', 3), [[['[[[["[[']]]);
  for (const inner of ["", String.raw`"\n"`]) {
    refuses(parse, `[[[[${inner}]]]]`, "is nested too deep", 3);
    refuses(parse, `{"a":[{"b":{"c":[${inner}]}}]}`, "is nested too deep", 3);
    refuses(parse, `${"[".repeat(1_000_000)}${inner}${"]".repeat(1_000_000)}`, "is nested too deep");
  }
  refuses(loose, String.raw`[[[["\n"]]]]`, "is nested too deep", 3);
  assert.ok(Array.isArray(loose("[".repeat(100_000) + "]".repeat(100_000)))); // nothing walks it
});

test("reads what is written, whatever it is and however it is escaped", () => {
  const escaped = (text: string): string =>
    text.replaceAll(/[a-c<>é]/g, (c) => (c < "b" ? c : `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`));
  const name = fc.string({ unit: fc.constantFrom("a", "b", "<", "é", '"', "\\", "/", " "), maxLength: 4 });
  const number = fc.double({ noNaN: true, noDefaultInfinity: true }).map((double) => double + 0); // JSON has no -0
  const { value } = fc.letrec((tie) => ({
    value: fc.oneof({ depthSize: "small" }, number, name, tie("list"), tie("object")),
    list: fc.array(tie("value"), { maxLength: 3 }),
    object: fc.dictionary(name, tie("value"), { maxKeys: 3, noNullPrototype: true }),
  }));
  fc.assert(
    fc.property(value, fc.constantFrom("", " ", "\t"), (content, space) => {
      const text = JSON.stringify(content, null, space);
      assert.equal(parse(escaped(text), 100), content); // JSON.parse misreads some names
    }),
    { numRuns: endurance(50_000), seed: 1 },
  );
});

test("takes time in proportion to the text", () => {
  for (const text of [
    `"${"\\\\".repeat(2_000_000)}"`,
    `"${'\\"'.repeat(2_000_000)}"`,
    `[${'"",'.repeat(1_000_000)}0]`,
    `{"a"${" ".repeat(4_000_000)}:0}`,
    `{${Array.from({ length: 100_000 }, (_, at) => `"a${at}":0`).join(",")}}`,
  ]) {
    const started = performance.now();
    parse(text);
    assert.ok(performance.now() - started < 10_000, text.slice(0, 10));
  }
});

test.run();
