import { randomBytes } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { decodeBase64, decodeBase64url } from "../src/base64.ts";

test("decodes the test vectors of RFC 4648, section 10", () => {
  for (const [text, plain] of [
    ["", ""],
    ["Zg==", "f"],
    ["Zm8=", "fo"],
    ["Zm9v", "foo"],
    ["Zm9vYg==", "foob"],
    ["Zm9vYmE=", "fooba"],
    ["Zm9vYmFy", "foobar"],
  ] as const) {
    assert.is(decodeBase64(text)?.toString(), plain);
    assert.is(decodeBase64url(text.replaceAll("=", ""))?.toString(), plain);
  }
});

test("takes exactly one spelling of any bytes (RFC 4648, section 3.5)", () => {
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
  for (const [decode, encoding, last] of [
    [decodeBase64, "base64", "+/"],
    [decodeBase64url, "base64url", "-_"],
  ] as const) {
    for (let length = 0; length < 50; length++) {
      const bytes = randomBytes(length);
      const text = bytes.toString(encoding);
      assert.equal(decode(text), bytes);
      const body = text.replaceAll("=", "");
      const alike = (alphabet + last)
        .split("")
        .filter((letter) => Buffer.from(body.slice(0, -1) + letter, encoding).equals(bytes));
      const spellings = alike.filter((letter) => decode(text.replace(body, body.slice(0, -1) + letter)) !== undefined);
      assert.ok(length === 0 || alike.length === [1, 16, 4][length % 3], "what a lax decoder takes for the same");
      assert.equal(spellings, length === 0 ? [] : [body.slice(-1)]);
    }
  }
});

test("refuses the other alphabet, white space, stray padding, a single letter and anything that is no letter", () => {
  for (const text of [
    "-_-_",
    "Zg",
    "Zg=",
    "Zg===",
    "=",
    "====",
    "Zm9v=",
    "Zm9vA",
    "Zm 9v",
    "Zm9v\n",
    "\tZm9v",
    "Zm9v\0",
    "Zm9v\u0100",
    "Zm9v.",
    "Z=g=",
    "Zh==",
  ])
    assert.is(decodeBase64(text), undefined, text);
  for (const text of [
    "+/+/",
    "Zg==",
    "Zg=",
    "Zm9v=",
    "A",
    "Zm9vA",
    "Zm 9v",
    "Zm9v\n",
    " Zm9v",
    "Zm9v\u0141",
    "Zh",
    "Zm9v Zm9v",
  ])
    assert.is(decodeBase64url(text), undefined, text);
});

test.run();
