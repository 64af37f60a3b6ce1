// The one line that a person sees: short, safe to print, and without what only the program should know.

import { readFileSync } from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { asKeystoreError, errorCode, errorLine, KeystoreError, printable } from "../src/errors.ts";

const thrown = (body: () => unknown): unknown => {
  try {
    body();
  } catch (error) {
    return error;
  }
  throw new Error("nothing was thrown");
};

test("ends with 2 for wrong usage, 3 for what no key or no usable key opens, 1 for anything else", () => {
  assert.is(new KeystoreError("usage", "m", "h").exitCode, 2);
  const failures = [
    "io",
    "request",
    "annotation",
    "key",
    "recipient",
    "store",
    "image",
    "denied",
    "busy",
    "late",
  ] as const;
  for (const code of failures) assert.is(new KeystoreError(code, "m", "h").exitCode, 1);
  for (const code of ["foreign", "unusable"] as const) assert.is(new KeystoreError(code, "m", "h").exitCode, 3);
});

test("shows an error as one line with a hint", () => {
  assert.is(errorLine(new KeystoreError("key", "what", "hint")), "ocicrypt-keystore: what; hint");
});

test("cuts the line to 2,048 characters, escapes counted", () => {
  for (const text of ["x".repeat(10_000), "\n".repeat(10_000), "é".repeat(3000), "\u{1f600}".repeat(3000)]) {
    const line = errorLine(new KeystoreError("key", text, "hint"));
    assert.is(line.length, 2048);
    assert.ok(line.endsWith("…"));
  }
});

test("escapes every character that moves a cursor, reorders or breaks a line, and no other", () => {
  const ranges = [
    [0x00, 0x1f],
    [0x7f, 0x9f],
    [0x061c, 0x061c],
    [0x200b, 0x200f],
    [0x2028, 0x202e],
    [0x2060, 0x2069],
    [0xfeff, 0xfeff],
    [0xd800, 0xdfff],
  ] as const;
  for (let code = 0; code <= 0xffff; code++) {
    const escaped = ranges.some(([first, last]) => code >= first && code <= last);
    const shown = printable(`a${String.fromCharCode(code)}b`, 100);
    assert.is(shown, escaped ? `a\\u${code.toString(16).padStart(4, "0")}b` : `a${String.fromCharCode(code)}b`);
  }
});

test("leaves whole surrogate pairs and escapes halves", () => {
  assert.is(printable("\u{1f600}", 10), "\u{1f600}");
  assert.is(printable("\ud83d\ud83d\ude00\ude00", 20), "\\ud83d\u{1f600}\\ude00");
});

test("cuts between characters, wherever the cut falls", () => {
  for (const text of [
    "\u{1f600}".repeat(20),
    `a${"\u{1f600}".repeat(20)}`,
    "a\u{1f600}b\u20ac\u{10ffff}\ud83d".repeat(9),
  ]) {
    for (let max = 1; max < 40; max++) {
      const cut = printable(text, max);
      assert.ok(cut.isWellFormed() && cut.length <= max && cut.endsWith("…"), `${max}: ${cut}`);
    }
  }
});

test("keeps what fits, and cuts what does not", () => {
  assert.equal(
    ["", "abc", "abcd", "a\n"].map((text) => printable(text, 3)),
    ["", "abc", "ab…", "a\\…"],
  );
});

test("passes its own errors through", () => {
  const error = new KeystoreError("store", "m", "h");
  assert.is(asKeystoreError(error), error);
});

test("names system call, path and code of a system error", () => {
  const { code, message, exitCode } = asKeystoreError(thrown(() => readFileSync("/nonexistent/file")));
  assert.equal(
    { code, message, exitCode },
    { code: "io", message: "open /nonexistent/file failed: ENOENT", exitCode: 1 },
  );
  assert.is(errorCode(thrown(() => readFileSync("/nonexistent"))), "ENOENT");
  for (const other of [new Error("x"), { code: "ENOENT" }, "ENOENT", null, Object.assign(new Error("x"), { code: 5 })])
    assert.is(errorCode(other), undefined);
});

test("names the place of a defect and never its message, which could quote a secret", () => {
  const secret = "UDF0CHxhvdjr2p5Q";
  const several = new Error(`${secret}\n    at ${secret} (somewhere)\nand ${secret}`);
  for (const value of [
    new Error(secret),
    thrown(() => JSON.parse(secret)),
    new TypeError(secret),
    several,
    secret,
    { message: secret },
    null,
    undefined,
    0,
  ]) {
    const line = errorLine(value);
    assert.not.match(line, secret);
    assert.match(line, /^ocicrypt-keystore: internal error: \w+ at .+; please report it$/);
  }
  assert.match(errorLine(new RangeError("x")), /RangeError at .*errors\.test\.ts/);
});

test.run();
