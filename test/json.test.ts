// Strict JSON. How an annotation with such faults ends is in jwe/gate.test.ts.

import { randomInt } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { isObject, member, parseJson } from "../src/json.ts";

const parse = (text: string | Buffer, depth = 8): unknown =>
  parseJson(Buffer.from(text), depth, (reason) => new Error(reason));
const refuses = (text: string | Buffer, reason: string | RegExp, depth?: number): void =>
  assert.throws(
    () => parse(text, depth),
    (error: Error) => (typeof reason === "string" ? error.message === reason : reason.test(error.message)),
    String(text).slice(0, 80),
  );
const NAME = /^has an? \w+ member name$/; // an escaped name may be refused for itself

test("parses what JSON.parse parses", () => {
  for (const text of [
    '{"a":[1,-2.5e3,true,false,null,"\\u00e9\\n\\"\\\\"],"b":{}}',
    " [ ] ",
    '"x"',
    "0",
    "null",
    '{"":0," ":1}',
    '{"0":1,"00":2,"é":3,"e\u0301":4}',
    '{"ａ":"\u{1f600}"}',
  ]) {
    assert.equal(parse(text), JSON.parse(text));
  }
});

test("parses the bytes that it is given, not those around them", () => {
  const bytes = Buffer.from('xx{"a":1}xx');
  assert.equal(
    parseJson(bytes.subarray(2, -2), 2, (reason) => new Error(reason)),
    { a: 1 },
  );
  assert.equal(
    parseJson(new Uint8Array(bytes).subarray(2, -2), 2, (reason) => new Error(reason)),
    { a: 1 },
  );
});

test("refuses what is not JSON, and quotes nothing of it", () => {
  for (const text of [
    "",
    " ",
    "{",
    '{"secret":',
    "{'a':1}",
    '{"a":1,}',
    "[1,]",
    "01",
    "NaN",
    "undefined",
    "secret",
    '"a" "b"',
    '{"a":1}{"a":1}',
    '"\n"',
    '"\\x41"',
    "// secret\n1",
    "\ufeff{}",
    "{}\ufeff",
    "{}\0",
    '"\0"',
    "\u00a0{}",
  ]) {
    refuses(text, "is not JSON");
  }
});

test("refuses what is not UTF-8", () => {
  for (const bytes of [[0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xe2, 0x82], [0x80]])
    refuses(Buffer.from([0x22, ...bytes, 0x22]), "is not valid UTF-8");
});

test("refuses NUL characters in values and names, at every depth", () => {
  for (const text of ['"\\u0000"', '["a\\u0000"]', '{"a":{"b":["\\u0000"]}}']) refuses(text, "has a NUL character");
  refuses('{"a":{"a\\u0000":1}}', NAME);
  assert.is(parse('"\\\\u0000"'), "\\u0000");
});

test("refuses names that reach a prototype, however they are written", () => {
  for (const name of ["__proto__", "constructor", "prototype", "\\u005f_proto__", "constr\\u0075ctor"]) {
    refuses(`{"${name}":1}`, NAME);
    refuses(`[{"a":{"${name}":{}}}]`, NAME);
  }
  assert.equal(parse('{"__proto":1,"Constructor":2,"toString":3,"hasOwnProperty":4}'), {
    __proto: 1,
    Constructor: 2,
    toString: 3,
    hasOwnProperty: 4,
  });
});

test("refuses more nesting than it is told", () => {
  assert.equal(parse("[[[]]]", 3), [[[]]]);
  refuses("[[[[]]]]", "is nested too deep", 3);
  refuses('{"a":[{"b":{}}]}', "is nested too deep", 3);
  assert.is(parse("1", 0), 1);
  refuses("[]", "is nested too deep", 0);
  refuses("[".repeat(1_000_000) + "]".repeat(1_000_000), "is nested too deep");
  refuses("[".repeat(1_000_000), "is not JSON");
});

test("refuses duplicate names, however they are written", () => {
  for (const text of [
    '{"a":1,"a":1}',
    '{"a":1,"\\u0061":2}',
    '{"a" : 1 , "b":2,\n"a"\t:3}',
    '[{"x":{"a":{},"a":{}}}]',
    '{"":1,"":2}',
    '{"\\"":1,"\\u0022":2}',
    '{"\\\\":1,"\\u005c":2}',
    '{"1":0,"1":0}',
    '{"toString":1,"toString":2}',
    '{"/":1,"\\/":2}',
  ]) {
    refuses(text, NAME);
  }
});

test("is not fooled by V8, which reads an escaped name as one with a backslash that it has seen before (nodejs/node#63785)", () => {
  for (const [seen, text] of [
    ['{"q":0,"\\\\":0}', '{"q":1,"\\u0061":2,"a":3}'],
    ['{"alg":0,"\\\\u0":0}', '{"alg":1,"\\u0061lg":2}'],
    ['{"r":0,"\\\\u0":0}', '{"r":1,"\\u007aip":2,"zip":3}'],
    ['{"s":0,"\\\\u005f_pr":0}', '{"s":1,"\\u005f_proto__":2}'],
  ] as const) {
    refuses(text, NAME);
    JSON.parse(seen);
    refuses(text, NAME);
  }
});

test("takes one name in several objects, and strings that look like members", () => {
  for (const text of [
    '[{"a":1},{"a":1}]',
    '{"a":{"a":{"a":1}}}',
    '{"a":"\\"a\\":","b":"{\\"a\\":1,\\"a\\":2}"}',
    '{"a":":","b":[":","a:"]}',
    '{"a":"\\\\","b":"\\\\\\":"}',
  ]) {
    assert.equal(parse(text), JSON.parse(text));
  }
});

// Each with what it means: JSON.parse is not asked, see above.
const NAMES = [
  ['"a"', "a"],
  ['"b"', "b"],
  ['":"', ":"],
  ['"a b"', "a b"],
  ['""', ""],
  ['"\\u0061"', "a"],
  ['"\\""', '"'],
  ['"\\\\"', "\\"],
  ['"\\\\\\":"', '\\":'],
  ['"\\u005c"', "\\"],
] as const;
const SPACE = ["", "", " ", "\n\t"];
const pick = <T>(list: readonly [T, ...T[]] | readonly T[]): T => list[randomInt(list.length)] as T;

/** Random JSON text, what it means, and whether one of its objects has a name twice, or a name with an escape. */
function random(depth: number): { text: string; value: unknown; twice: boolean; escaped: boolean } {
  const kind = depth === 0 ? "string" : pick(["array", "object", "string"]);
  if (kind === "string") {
    const [text, value] = pick(NAMES);
    return { text, value, twice: false, escaped: false };
  }
  const parts = Array.from({ length: randomInt(4) }, () => ({ name: pick(NAMES), ...random(depth - 1) }));
  const own = kind === "object" ? parts.map(({ name }) => name) : [];
  const twice = parts.some((part) => part.twice) || new Set(own.map(([, name]) => name)).size < own.length;
  const escaped = parts.some((part) => part.escaped) || own.some(([text]) => text.includes("\\"));
  const spaced = parts
    .map(
      ({ name, text }) =>
        pick(SPACE) + (kind === "object" ? `${name[0]}${pick(SPACE)}:${pick(SPACE)}` : "") + text + pick(SPACE),
    )
    .join(",");
  const value =
    kind === "object"
      ? Object.fromEntries(parts.map((part) => [part.name[1], part.value]))
      : parts.map((part) => part.value);
  return { text: kind === "object" ? `{${spaced}}` : `[${spaced}]`, value, twice, escaped };
}

test("finds every duplicate name, and none where there is none, in 20,000 random texts", () => {
  const found = { twice: 0, escaped: 0, once: 0 };
  for (let round = 0; round < 20_000; round++) {
    const { text, value, twice, escaped } = random(4);
    found[twice ? "twice" : escaped ? "escaped" : "once"]++;
    if (twice) refuses(text, NAME);
    else if (!escaped) assert.equal(parse(text), value, text);
    else {
      try {
        assert.equal(parse(text), value, text);
      } catch (error) {
        assert.match((error as Error).message, NAME);
      }
    }
  }
  for (const count of Object.values(found)) assert.ok(count > 1000, JSON.stringify(found));
});

test("takes time in proportion to the text, backslashes and quotes and all", () => {
  for (const text of [
    `"${"\\\\".repeat(2_000_000)}"`,
    `"${'\\"'.repeat(2_000_000)}"`,
    `[${'"",'.repeat(1_000_000)}0]`,
    `{"a"${" ".repeat(4_000_000)}:0}`,
    `"${":".repeat(4_000_000)}"`,
  ]) {
    const started = performance.now();
    parse(text);
    assert.ok(performance.now() - started < 2000, text.slice(0, 10));
  }
});

test("reads an object's own members only", () => {
  const object = parse('{"a":null,"toString":1}');
  assert.ok(isObject(object));
  assert.equal(
    [member(object, "a"), member(object, "toString"), member(object, "valueOf"), member(object, "__proto__")],
    [null, 1, undefined, undefined],
  );
  for (const value of [null, [], "x", 1, true, undefined]) assert.not.ok(isObject(value));
});

test.run();
