// OCI documents: digests, and what is an attestation.

import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  digestOf,
  isAttestation,
  isDigest,
  parseDocument,
  verify,
  type Descriptor,
  type Document,
  type Manifest,
} from "../../src/image/documents.ts";

const descriptor = (bytes: Buffer, annotations: Readonly<Record<string, string>> = {}): Descriptor => ({
  mediaType: "application/vnd.oci.image.manifest.v1+json",
  digest: digestOf(bytes),
  size: bytes.length,
  annotations: new Map(Object.entries(annotations)),
  platform: undefined,
});

test("takes bytes that are what their descriptor says, and no others", () => {
  const bytes = Buffer.from("hello");
  assert.is(digestOf(bytes), "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
  assert.is(verify(bytes, descriptor(bytes), "it"), bytes);
  assert.throws(() => verify(Buffer.from("hellp"), descriptor(bytes), "it"), /it /);
  assert.throws(() => verify(bytes, { ...descriptor(bytes), size: 4 }, "it"), /it /);
});

test("knows a digest by its algorithm and its length", () => {
  for (const text of [`sha256:${"0".repeat(64)}`, `sha384:${"a".repeat(96)}`, `sha512:${"f".repeat(128)}`])
    assert.ok(isDigest(text), text);
  const wrong = ["", "sha256:", "sha256:../../x", `sha256:${"0".repeat(63)}`, `sha256:${"F".repeat(64)}`];
  for (const text of [...wrong, `sha512:${"0".repeat(64)}`, `md5:${"0".repeat(32)}`])
    assert.not.ok(isDigest(text), text);
});

test("tells an index from a manifest, and refuses what is both or neither", () => {
  const parse = (value: object): string => parseDocument(Buffer.from(JSON.stringify(value)), "it").kind;
  assert.is(parse({ manifests: [] }), "index");
  assert.is(parse({ layers: [] }), "manifest");
  for (const value of [{}, [], { manifests: [], layers: [] }]) assert.throws(() => parse(value), /it /);
});

test("needs no more of a descriptor than its digest, which may be of any algorithm", () => {
  const manifest = (layer: string): Document => parseDocument(Buffer.from(`{"layers":[${layer}]}`), "it");
  for (const digest of [`blake3:${"0".repeat(64)}`, "sha256+b64u:LCa0a2j_xo-5m0U8HTBBNBNCLXBkg7-g_YpeiGJm564"]) {
    const { kind, layers } = manifest(
      `{"digest":"${digest}","size":null,"mediaType":null,"annotations":null}`,
    ) as Manifest;
    assert.equal([kind, layers[0]?.digest, layers[0]?.mediaType, layers[0]?.size], ["manifest", digest, "", 0]);
  }
  for (const digest of ["", "sha256:0", "x", "a:b/c", "a:..", "../a:b", "A:b", `a:${"0".repeat(300)}`])
    assert.throws(() => manifest(`{"digest":"${digest}"}`), /without a valid digest/);
  assert.throws(() => manifest(`{"digest":"a:b","size":-1}`), /without a size/);
  assert.throws(() => manifest(`{"digest":"a:b","mediaType":1}`), /without a media type/);
});

test("takes null for what Go leaves out", () => {
  const parse = (text: string): Document => parseDocument(Buffer.from(text), "it");
  assert.equal(parse('{"manifests":null}').kind, "index");
  assert.equal(parse('{"manifests":null,"layers":[],"config":null}').kind, "manifest");
  assert.equal(parse('{"manifests":[],"layers":null,"config":null}').kind, "index");
  assert.equal(parse('{"layers":null}').kind, "manifest");
});

test("knows BuildKit's attestations", () => {
  const bytes = Buffer.from("{}");
  assert.ok(isAttestation(descriptor(bytes, { "vnd.docker.reference.type": "attestation-manifest" })));
  assert.not.ok(isAttestation(descriptor(bytes)));
});

test.run();
