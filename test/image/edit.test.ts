// Edits of JSON text: the value is what the edits say, every other byte stays, and many edits take no longer than they must.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { editJson } from "../../src/image/edit.ts";

test("replaces, adds and removes, and leaves every other byte", () => {
  const text = '{ "a" : [ 1.0, {"b":"\\u0041" , "c":-0} ],\n "2":1e2,"1":[] }';
  assert.is(editJson(text, [{ path: ["a", 1, "b"], value: "new\n" }, { path: ["2"], value: 3 }]), '{ "a" : [ 1.0, {"b":"new\\n" , "c":-0} ],\n "2":3,"1":[] }');
  assert.equal(JSON.parse(editJson(text, [{ path: ["a", 1, "c"], value: undefined }, { path: ["1"], value: undefined }])), { a: [1, { b: "A" }], 2: 100 });
  assert.equal(JSON.parse(editJson(text, [{ path: ["a", 1, "d"], value: "x" }, { path: ["a", 1, "b"], value: "y" }])), { a: [1, { b: "y", c: -0, d: "x" }], 2: 100, 1: [] });
  assert.is(editJson(text, [{ path: ["none"], value: undefined }, { path: ["a", 5, "b"], value: undefined }]), text);
  assert.is(editJson(text, []), text);
});

test("edits thousands of places in seconds", () => {
  const places = [...Array(5000).keys()];
  const text = JSON.stringify({ manifests: places.map((digest) => ({ digest, size: 1 })) });
  const started = Date.now();
  const edited = editJson(text, places.flatMap((place) => [{ path: ["manifests", place, "digest"], value: "new" }, { path: ["manifests", place, "data"], value: undefined }]));
  assert.ok(Date.now() - started < 5000, `${Date.now() - started} ms`);
  assert.is(edited, JSON.stringify({ manifests: places.map(() => ({ digest: "new", size: 1 })) }));
});

test.run();
