// Edits of JSON text: the value is what the edits say, every other byte stays, and many edits take no longer than they must.

import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { editJson } from "../../src/image/edit.ts";
import { endurance } from "../support/parts.ts";

test("replaces, adds and removes, and leaves every other byte", () => {
  const text = '{ "a" : [ 1.0, {"b":"\\u0041" , "c":-0} ],\n "2":1e2,"1":[] }';
  assert.is(
    editJson(text, [
      { path: ["a", 1, "b"], value: "new\n" },
      { path: ["2"], value: 3 },
    ]),
    '{ "a" : [ 1.0, {"b":"new\\n" , "c":-0} ],\n "2":3,"1":[] }',
  );
  assert.equal(
    JSON.parse(
      editJson(text, [
        { path: ["a", 1, "c"], value: undefined },
        { path: ["1"], value: undefined },
      ]),
    ),
    { a: [1, { b: "A" }], 2: 100 },
  );
  assert.equal(
    JSON.parse(
      editJson(text, [
        { path: ["a", 1, "d"], value: "x" },
        { path: ["a", 1, "b"], value: "y" },
      ]),
    ),
    { a: [1, { b: "y", c: -0, d: "x" }], 2: 100, 1: [] },
  );
  assert.is(
    editJson(text, [
      { path: ["none"], value: undefined },
      { path: ["a", 5, "b"], value: undefined },
    ]),
    text,
  );
  assert.is(editJson(text, []), text);
});

test("finds names that are written with escapes, and leaves them as they are written", () => {
  const text = String.raw`{"\u0061":{"caf\u00e9":1,"a\"b":2,"\u003c":3},"b":"\u003c"}`;
  assert.is(
    editJson(text, [
      { path: ["a", "café"], value: "new" },
      { path: ["a", 'a"b'], value: undefined },
      { path: ["a", "<"], value: 4 },
      { path: ["b\n"], value: 5 },
    ]),
    String.raw`{"\u0061":{"caf\u00e9":"new","\u003c":4},"b":"\u003c","b\n":5}`,
  );
});

test("adds as its neighbours stand, and takes the right comma along", () => {
  const edits = (...names: readonly string[]): { path: string[]; value: string | undefined }[] =>
    names.map((name) => ({ path: [name.slice(1)], value: name.startsWith("+") ? "v" : undefined }));
  const expected: readonly [text: string, changes: readonly string[], after: string][] = [
    ["{}", ["+x"], '{"x":"v"}'],
    ["{ }", ["+x", "+y"], '{"x":"v","y":"v" }'],
    ['{"a":1}', ["+x"], '{"a":1,"x":"v"}'],
    ['{\n  "a": 1\n}', ["+x"], '{\n  "a": 1,\n  "x": "v"\n}'],
    ['{\n  "a": 1,\n  "b": 2\n}', ["+x", "+y"], '{\n  "a": 1,\n  "b": 2,\n  "x": "v",\n  "y": "v"\n}'],
    ['{"a":1,"b":2,"c":3}', ["-a"], '{"b":2,"c":3}'],
    ['{"a":1,"b":2,"c":3}', ["-b"], '{"a":1,"c":3}'],
    ['{"a":1,"b":2,"c":3}', ["-c"], '{"a":1,"b":2}'],
    ['{"a":1,"b":2,"c":3}', ["-a", "-b"], '{"c":3}'],
    ['{"a":1,"b":2,"c":3}', ["-b", "-c", "+x"], '{"a":1,"x":"v"}'],
    ['{ "a" : 1 , "b" : 2 }', ["-a", "-b"], "{  }"],
    ['{ "a" : 1 }', ["-a", "+x", "+y"], '{ "x" : "v", "y" : "v" }'],
    ['{"a":1,"b":2}', ["-b", "+b"], '{"a":1,"b":"v"}'],
  ];
  for (const [text, changes, after] of expected)
    assert.is(editJson(text, edits(...changes)), after, `${text} ${changes.join(" ")}`);
});

test("gives what the same edits make of the parsed document, whatever they are", () => {
  const name = fc.constantFrom("a", "b", "c", "1", "2");
  const members = fc.dictionary(name, fc.nat(9));
  const edit = fc.record({ place: fc.nat(1), name, value: fc.option(fc.string(), { nil: undefined }) });
  fc.assert(
    fc.property(
      fc.tuple(members, members),
      fc.uniqueArray(edit, { selector: (one) => `${one.place} ${one.name}` }),
      fc.constantFrom("", " ", "\t"),
      (documents, edits, space) => {
        const edited = editJson(
          JSON.stringify(documents, null, space),
          edits.map((one) => ({ path: [one.place, one.name], value: one.value })),
        );
        const expected = structuredClone(documents) as Record<string, unknown>[];
        for (const { place, name: changed, value } of edits) {
          const object = expected[place] ?? {};
          if (value === undefined) delete object[changed];
          else object[changed] = value;
        }
        assert.equal(JSON.parse(edited), expected);
      },
    ),
    { numRuns: endurance(20_000), seed: 1 },
  );
});

test("edits thousands of places in seconds", () => {
  const places = [...Array(5000).keys()];
  const text = JSON.stringify({ manifests: places.map((digest) => ({ digest, data: "AAAA", size: 1 })) });
  const started = Date.now();
  const edited = editJson(
    text,
    places.flatMap((place) => [
      { path: ["manifests", place, "digest"], value: "new" },
      { path: ["manifests", place, "data"], value: undefined },
      { path: ["manifests", place, "new"], value: 2 },
    ]),
  );
  assert.ok(Date.now() - started < 10_000, `${Date.now() - started} ms`); // one parse; a parse for each edit takes minutes
  assert.is(edited, JSON.stringify({ manifests: places.map(() => ({ digest: "new", size: 1, new: 2 })) }));
});

test.run();
