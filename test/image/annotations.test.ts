// Annotations of encrypted layers: read as clients write them, written as Go does.

import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  annotationName,
  annotationValue,
  isJweScheme,
  keyAnnotations,
  mustBeJweScheme,
  shownKid,
} from "../../src/image/annotations.ts";
import { IMAGE_LIMITS, type Descriptor } from "../../src/image/documents.ts";

const layer = (annotations: Readonly<Record<string, string>>): Descriptor => ({
  mediaType: "application/vnd.oci.image.layer.v1.tar+encrypted",
  digest: `sha256:${"0".repeat(64)}`,
  size: 1,
  annotations: new Map(Object.entries(annotations)),
  platform: undefined,
});

test("reads each scheme with its parts, and leaves other annotations out", () => {
  const found = keyAnnotations(
    layer({
      "org.opencontainers.image.enc.keys.jwe": "YQ==,Yg==",
      "org.opencontainers.image.enc.keys.provider.ks": "-_8=",
      "org.opencontainers.image.enc.pubopts": "e30=",
      title: "keys.jwe",
    }),
  );
  assert.equal(found, [
    { scheme: "jwe", parts: [Buffer.from("a"), Buffer.from("b")] },
    { scheme: "provider:ks", parts: [Buffer.from([0xfb, 0xff])] },
  ]);
  assert.equal(
    found.map(({ scheme }) => annotationName(scheme)),
    ["org.opencontainers.image.enc.keys.jwe", "org.opencontainers.image.enc.keys.provider.ks"],
  );
  assert.equal(
    found.map(({ parts }) => annotationValue(parts)),
    ["YQ==,Yg==", "+/8="],
  );
});

test("reads what clients read of a value that is not base64: the parts before, and nothing of an empty one", () => {
  const name = "org.opencontainers.image.enc.keys.jwe";
  for (const [value, texts] of [
    ["", undefined],
    ["YQ==,", ["a", ""]],
    ["YQ\r\n==\n", ["a"]],
    ["YQ==,*,Yg==", ["a", "*,Yg=="]],
    ["Y Q=", ["Y Q="]],
    ["a===", ["a==="]],
  ] as const) {
    const read = keyAnnotations(layer({ [name]: value })).map(({ parts }) => parts.map(String));
    assert.equal(read, texts === undefined ? [] : [texts], value);
  }
});

test("refuses too many parts", () => {
  const value = Array.from({ length: IMAGE_LIMITS.layerParts + 1 }, () => "YQ==").join();
  assert.throws(() => keyAnnotations(layer({ "org.opencontainers.image.enc.keys.jwe": value })), /wrapped keys/);
});

test("can write jwe and providers, no other scheme", () => {
  for (const scheme of ["jwe", "provider:ks"]) {
    assert.ok(isJweScheme(scheme));
    assert.is(mustBeJweScheme(scheme), scheme);
  }
  for (const scheme of ["pgp", "pkcs7", "pkcs11", "provider:", "provider", "JWE", ""]) {
    assert.not.ok(isJweScheme(scheme), scheme);
    assert.throws(() => mustBeJweScheme(scheme), /scheme/);
  }
  for (const scheme of ["provider:a,b", "provider:a b", "provider:a:b"]) assert.throws(() => mustBeJweScheme(scheme));
});

test("shows a kid so that it is not mistaken for a name, and moves no cursor", () => {
  const kid = "A".repeat(43);
  assert.is(shownKid(kid), kid);
  assert.is(shownKid("alice"), '"alice"');
  assert.not.match(shownKid("\u001b[2J"), "\u001b");
});

test.run();
