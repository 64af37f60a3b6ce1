// Which keys are tried, how often, and how foreign kids are shown. Whole annotations that open or stay closed are in
// test/vectors.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { KeystoreError } from "../../src/errors.ts";
import type { PrivateKeys } from "../../src/jwe/key.ts";
import { open } from "../../src/jwe/open.ts";
import { assertForeign, assertSkipped, keys, privateKeys, storeOf } from "../support/attacks.ts";
import { OPTSDATA } from "../support/requests.ts";
import { forge, newKey, type Forged, type Header } from "../support/second-jwe.ts";

// Rule 10 of src/jwe/README.md

const opened = async (jwe: Forged, from: PrivateKeys): Promise<string> =>
  (await open(Buffer.from(JSON.stringify(jwe)), from)).toString();
const failure = async (jwe: Forged, from: PrivateKeys): Promise<KeystoreError> => {
  try {
    await opened(jwe, from);
  } catch (error) {
    if (error instanceof KeystoreError) return error;
    throw error;
  }
  throw new Error("it opened");
};

test("stops after 256 trials, after every key that a recipient names", async () => {
  const named = Object.fromEntries(
    Array.from({ length: 5 }, () => newKey("oct-32")).map((jwk, at) => [`kid${at}`, jwk]),
  );
  const strangers = Array.from({ length: 63 }, () => ({ jwk: newKey("oct-32") }));
  const hidden = (name: string, header: Header = {}): Forged =>
    forge([...strangers, { jwk: named[name] ?? {}, header }]);
  assert.is(await opened(hidden("kid3"), privateKeys(named)), OPTSDATA, "the 256th trial");
  assert.is(await opened(hidden("kid4", { kid: "kid4" }), privateKeys(named)), OPTSDATA, "named");
  assert.is((await failure(hidden("kid4"), privateKeys(named))).exitCode, 3);
});

test("says what is wrong with the key that a recipient names, and opens where another key does", async () => {
  const failing = new KeystoreError("unusable", "the holder of key kid0 does not answer", "start it");
  const held = privateKeys({ kid1: keys.p256 });
  const unread: PrivateKeys = {
    ...held,
    privateKey: async (kid) => (kid === "kid0" ? Promise.reject(failing) : await held.privateKey(kid)),
  };
  const unusable: PrivateKeys = {
    privateKids: async () => ["kid0", "kid1"],
    privateKey: async (kid) => {
      const key = await held.privateKey("kid1");
      return kid === "kid0" && key !== undefined
        ? { ...key, kid, perform: async () => Promise.reject(failing) }
        : await held.privateKey(kid);
    },
  };
  const stranger = { jwk: newKey("P-256"), header: { kid: "kid0" } };
  for (const partly of [unread, unusable]) {
    assert.is(await failure(forge([stranger]), partly), failing);
    const both = forge([stranger, { jwk: keys.p256, header: { kid: "kid1" } }]);
    assert.is(await opened(both, partly), OPTSDATA);
  }
});

test("shows foreign kids and algorithms cut and escaped, in one line", () => {
  const empty = storeOf({ other: newKey("P-384") });
  const kid = `\u001b[2J\u202e\u2028\n${"k".repeat(500)}`;
  const strangers = Array.from({ length: 64 }, () => ({ jwk: keys.a256, header: { kid } }));
  const line = assertForeign(forge(strangers), empty);
  assert.match(line, "\\u001b[2J\\u202e\\u2028\\u000akkk");
  assert.ok(line.length < 1000, line);
  const skipped = assertSkipped(
    forge([{ jwk: keys.a256, header: { alg: `\u009b2J\u2066\r${"a".repeat(500)}` } }]),
    empty,
  );
  assert.match(skipped, "\\u009b2J\\u2066\\u000daaa");
  assert.ok(skipped.length < 300, skipped);
});

test.run();
