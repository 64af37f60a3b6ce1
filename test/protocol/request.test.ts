// The request as clients write it, and everything else that may stand in its place.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { KeystoreError } from "../../src/errors.ts";
import { parseRequest, type Request } from "../../src/protocol/request.ts";
import { OPTSDATA, recorded, unwrapRequest, wrapRequest } from "../support/requests.ts";

const parse = (request: unknown): Request => parseRequest(Buffer.from(typeof request === "string" ? request : JSON.stringify(request)));
const base64 = (text: string): string => Buffer.from(text).toString("base64");
const integers = (text: string): number[] => [...Buffer.from(text)];

function refused(request: unknown): string {
  try {
    parse(request);
  } catch (error) {
    assert.ok(error instanceof KeystoreError, String(error));
    assert.equal([error.code, error.exitCode], ["request", 1]);
    return error.message.replace("the key provider request ", "");
  }
  throw new Error(`taken: ${JSON.stringify(request)}`);
}

/** A wrap request as values; `Parameters` as they are handed in. */
const wrapOf = (Parameters: unknown, optsdata: unknown = base64(OPTSDATA)): object => ({ op: "keywrap", keywrapparams: { ec: { Parameters }, optsdata } });
const unwrapOf = (annotation: unknown): object => ({ op: "keyunwrap", keyunwrapparams: { annotation } });

function wrapParts(request: unknown): { parameters: Record<string, string[]>; optsdata: string } {
  const parsed = parse(request);
  if (parsed.op !== "keywrap") throw new Error("not a wrap");
  return { parameters: Object.fromEntries([...parsed.parameters].map(([name, values]) => [name, values.map(String)])), optsdata: parsed.optsdata.toString() };
}

function annotationOf(request: unknown): string {
  const parsed = parse(request);
  if (parsed.op !== "keyunwrap") throw new Error("not an unwrap");
  return parsed.annotation.toString();
}

test("parses what skopeo sent, to wrap and to unwrap", () => {
  const provider = { one: ["alice"], two: ["alice", "bob"], colon: ["alice:bob"], empty: [""], novalue: ["Enabled"], withjwe: ["alice"] };
  for (const [name, values] of Object.entries(provider)) {
    const { parameters, optsdata } = wrapParts(recorded(`wrap-skopeo-${name}`));
    assert.equal(parameters["keystore"], values);
    assert.equal(Object.keys(JSON.parse(optsdata) as object), ["symkey", "digest", "cipheroptions"]);
  }
  assert.ok("pubkeys" in wrapParts(recorded("wrap-skopeo-withjwe")).parameters);
  for (const name of ["", "-privkey", "-foreignkey"]) assert.is(annotationOf(recorded(`unwrap-skopeo${name}`)), '{"replace":"with a JWE of your own"}');
});

test("parses the requests of both ops that Go marshals with null pointers", () => {
  assert.equal(wrapParts(wrapRequest(["alice", ""])), { parameters: { keystore: ["alice", ""] }, optsdata: OPTSDATA });
  assert.is(annotationOf(unwrapRequest("hello")), "hello");
});

test("takes null, or nothing, for a map, a list, an element and bytes", () => {
  for (const Parameters of [null, undefined, {}]) assert.equal(wrapParts(wrapOf(Parameters)).parameters, {});
  assert.equal(wrapParts(wrapOf({ a: null, b: [null], c: [], d: [null, base64("x")] })).parameters, { a: [], b: [""], c: [], d: ["", "x"] });
  for (const params of [null, undefined, {}, { ec: null, optsdata: null }]) assert.equal(wrapParts({ op: "keywrap", keywrapparams: params }), { parameters: {}, optsdata: "" });
  for (const params of [null, undefined, {}, { annotation: null }]) assert.is(annotationOf({ op: "keyunwrap", keyunwrapparams: params }), "");
});

test("takes bytes as lists of integers, as the Rust client writes them", () => {
  assert.equal(wrapParts(wrapOf({ ks: [integers("alice"), [], base64("bob")] }, integers(OPTSDATA))), { parameters: { ks: ["alice", "", "bob"] }, optsdata: OPTSDATA });
  assert.is(annotationOf(unwrapOf([0x7b, 0x7d])), "{}");
  assert.equal(parse(unwrapOf([0, 127, 128, 255])), { op: "keyunwrap", annotation: Buffer.from([0, 127, 128, 255]) });
});

test("takes raw text that starts with a brace for what it is, as the Rust client sends optsdata", () => {
  assert.is(wrapParts(wrapOf({}, OPTSDATA)).optsdata, OPTSDATA);
  assert.is(wrapParts(wrapOf({}, '{"é":"\u{1f600}"}')).optsdata, '{"é":"\u{1f600}"}');
  assert.is(refused(wrapOf({}, ` ${OPTSDATA}`)), "has an optsdata that is not base64");
});

test("refuses raw text that no UTF-8 can hold: it would be wrapped as something else", () => {
  assert.is(refused('{"op":"keywrap","keywrapparams":{"optsdata":"{\\ud800}"}}'), "has an optsdata that is not base64");
  assert.is(refused('{"op":"keyunwrap","keyunwrapparams":{"annotation":"{\\udc00}"}}'), "has an annotation that is not base64");
});

test("ignores members that nobody knows, whatever they hold", () => {
  const known = JSON.parse(wrapRequest(["alice"])) as { keywrapparams: { ec: object } };
  const more = { extra: [{ a: [[[1]]] }], keyunwrapparams: "not ours here" };
  const request = { ...known, ...more, keywrapparams: { ...known.keywrapparams, ...more, ec: { ...known.keywrapparams.ec, ...more, DecryptConfig: 5 } } };
  assert.equal(wrapParts(request).parameters, { keystore: ["alice"] });
  assert.is(annotationOf({ ...unwrapOf(base64("x")), keywrapparams: 5, keyunwrapparams: { annotation: base64("x"), dc: ["anything"] } }), "x");
});

const WRONG = [0, 1.5, true, false, "x", "YQ", [], {}];
test("refuses wrong types in every member, and names the member", () => {
  const is = (value: unknown, ...fine: unknown[]): boolean => fine.some((one) => JSON.stringify(one) === JSON.stringify(value));
  for (const value of WRONG) {
    assert.is(refused({ op: value }), typeof value === "string" ? `has the unknown op "${value}"` : "has no op");
    if (!is(value, {})) {
      assert.is(refused({ op: "keywrap", keywrapparams: value }), "has a keywrapparams that is not an object");
      assert.is(refused({ op: "keyunwrap", keyunwrapparams: value }), "has a keyunwrapparams that is not an object");
      assert.is(refused({ op: "keywrap", keywrapparams: { ec: value } }), "has an ec that is not an object");
      assert.is(refused(wrapOf(value)), "has a Parameters that is not an object");
    }
    if (!is(value, [])) {
      assert.is(refused(wrapOf({ ks: value })), "has Parameters that are not lists");
      assert.is(refused(wrapOf({ ks: [value] })), "has a Parameters that is not base64");
      assert.is(refused(wrapOf({ pubkeys: [value], ks: [] })), "has a Parameters that is not base64");
      assert.is(refused(wrapOf({}, value)), "has an optsdata that is not base64");
      assert.is(refused(unwrapOf(value)), "has an annotation that is not base64");
    }
  }
});

test("refuses lists that are no bytes, and lax base64", () => {
  for (const value of [[256], [-1], [1.5], ["1"], [null], [[1]], [true], [1, {}], [2 ** 60]]) {
    assert.is(refused(unwrapOf(value)), "has an annotation that is not base64");
    assert.is(refused(wrapOf({ ks: [value] })), "has a Parameters that is not base64");
  }
  for (const value of ["YQ", "YQ=", "YR==", "YQ==\n", " YQ==", "-_-_", "====", "YQ==YQ=="]) assert.is(refused(unwrapOf(value)), "has an annotation that is not base64");
});

test("refuses what is no request, and quotes nothing of it but the op, cut and escaped", () => {
  assert.is(refused(""), "is empty");
  for (const text of [" ", "{", '{"secret"', "secret"]) assert.is(refused(text), "is not JSON");
  for (const text of ["[]", '"keywrap"', "1", "null", "true"]) assert.is(refused(text), "is not a JSON object");
  for (const op of ["keywrap ", "KEYWRAP", "", "__proto__", "toString"]) assert.is(refused({ op }), `has the unknown op "${op}"`);
  assert.is(refused({ op: `\u001b\n${"x".repeat(100)}` }), `has the unknown op "\\u001b\\u000a${"x".repeat(19)}…"`);
  assert.is(refused("{}"), "has no op");
  assert.not.match(refused(wrapOf({ privkeys: ["UDF0CHxh secret"] })), /UDF0|secret/);
});

test("refuses duplicate names, prototypes' names and deep nesting anywhere in it", () => {
  assert.is(refused('{"op":"keyunwrap","op":"keywrap"}'), "has a duplicate member name");
  assert.match(refused(JSON.stringify(wrapOf({ a: [] })).replace('"a":[]', '"a":[],"\\u0061":[]')), /member name/);
  for (const name of ["__proto__", "constructor", "prototype"]) assert.is(refused(`{"op":"keywrap","keywrapparams":{"ec":{"Parameters":{"${name}":["YQ=="]}}}}`), "has a forbidden member name");
  assert.is(refused({ op: "keyunwrap", keyunwrapparams: { dc: [[[[[[[]]]]]]] } }), "is nested too deep");
  assert.is(refused('{"op":"keywrap\\u0000"}'), "has a NUL character");
  assert.is(refused("\ufeff{}"), "is not JSON");
});

test("keeps providers with names of Object's methods apart", () => {
  assert.equal(wrapParts(wrapOf({ toString: [base64("a")], hasOwnProperty: [base64("b")], valueOf: [] })).parameters, { toString: ["a"], hasOwnProperty: ["b"], valueOf: [] });
});

test.run();
