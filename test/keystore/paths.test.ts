// The names of the files in a store: what is written is read again, and nothing else is taken for a key.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { KeystoreError } from "../../src/errors.ts";
import {
  inForm,
  isKid,
  isName,
  keyFileName,
  mustBeName,
  parseKeyFileName,
  temporaryName,
  temporaryWriter,
} from "../../src/keystore/paths.ts";

const KID = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";

test("reads the name of every key file, and writes it again", () => {
  for (const [file, copy, form, isPublic] of [
    [`${KID}.jwk`, 1, "jwk", false],
    [`${KID}.jwe`, 1, "jwe", false],
    [`${KID}.holder`, 1, "holder", false],
    [`${KID}.2.jwk`, 2, "jwk", false],
    [`${KID}.9999.jwe`, 9999, "jwe", false],
    [`${KID}.public.jwk`, 1, "jwk", true],
  ] as const) {
    const name = parseKeyFileName(file);
    assert.equal(name, { kid: KID, copy, form, public: isPublic });
    assert.is(name && keyFileName(name), file);
  }
});

for (const [what, ...endings] of [
  ["no form, or one that there is not", "", ".", ".pem", ".jwk.", ".JWK", ".__proto__", ".toString"],
  ["a copy that is not counted so", ".0.jwk", ".1.jwk", ".02.jwk", ".-2.jwk", ".2e1.jwk", ".10000.jwk", "..jwk"],
  ["a public mark where none belongs", ".public.jwe", ".public.holder", ".2.public.jwk", ".public.2.jwk", ".public"],
] as const) {
  test(`is no key file with ${what}`, () => {
    for (const ending of endings) assert.is(parseKeyFileName(KID + ending), undefined, ending);
  });
}

test("is no key file without a kid, or with a temporary file's name", () => {
  for (const file of [".jwk", "a b.jwk", "../a.jwk", `${"A".repeat(129)}.jwk`, `.tmp-12-${KID}.jwk`]) {
    assert.is(parseKeyFileName(file), undefined, file);
  }
});

test("names the same key in another form, its copy kept", () => {
  assert.is(inForm(`/s/removed/${KID}.2.jwk`, "jwe"), `/s/removed/${KID}.2.jwe`);
  assert.is(inForm(`/s/private/${KID}.jwe`, "jwk"), `/s/private/${KID}.jwk`);
  assert.throws(() => inForm("/s/default", "jwe"), /not the name of a key/);
});

test("knows whose a temporary file is", () => {
  assert.is(temporaryWriter(temporaryName("x")), process.pid);
  for (const file of [".tmp-", ".tmp-x-1", "tmp-1-x", ".tmp-1"]) assert.is(temporaryWriter(file), undefined, file);
});

test("takes a name of 1 to 64 letters, digits, dots, underscores and dashes, and no other", () => {
  for (const text of ["a", "A".repeat(64), "0.9_-", "-a", "enabled"]) assert.is(mustBeName(text), text);
  for (const text of ["", ".a", "a/b", "a b", "ä", "a\n", "A".repeat(65), "Enabled", "..", "a:b"]) {
    assert.not.ok(isName(text), text);
    assert.throws(
      () => mustBeName(text),
      (error: unknown) => error instanceof KeystoreError && error.exitCode === 2,
    );
  }
  for (const text of ["", ".", "a.b", "a\n", "A".repeat(129)]) assert.not.ok(isKid(text), text);
});

test.run();
