// OCI layouts: which entries of index.json a tag selects.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { errorLine } from "../../../src/errors.ts";
import { layoutRoot } from "../../../src/image/source/layout.ts";

const REF_NAME = "org.opencontainers.image.ref.name";
const entry = (digit: string, tag?: string): object => ({
  mediaType: "application/vnd.oci.image.manifest.v1+json",
  digest: `sha256:${digit.repeat(64)}`,
  size: 1,
  ...(tag === undefined ? {} : { annotations: { [REF_NAME]: tag } }),
});
const index = (...manifests: readonly object[]): Buffer => Buffer.from(JSON.stringify({ schemaVersion: 2, manifests }));
const selected = (bytes: Buffer, tag?: string): readonly number[] | undefined =>
  layoutRoot(bytes, tag, "/image").selected;

test("selects every entry without a tag, else each that has it", () => {
  const bytes = index(entry("0", "a"), entry("1", "b"), entry("2"), entry("3", "a"));
  assert.equal(selected(bytes), [0, 1, 2, 3]);
  assert.equal(selected(bytes, "a"), [0, 3]);
  assert.equal(selected(bytes, "b"), [1]);
});

test("names what there is instead: tags, places, or nothing", () => {
  const [tagged, untagged] = [entry("0", "a"), entry("1")];
  for (const [bytes, tag, line] of [
    [index(tagged, entry("0", "b")), "c", "no image c in /image; it has a, b"],
    [index(tagged, untagged, untagged), "c", "no image c in /image; it has a and, without a tag, @1, @2"],
    [index(untagged), "c", "no image c in /image; it has no tags: name it without one"],
    [index(untagged, untagged), "c", "no image c in /image; it has no tags: name an image by its place, from @0 to @1"],
    [index(untagged, untagged), "@2", "no image @2 in /image; its images are @0 to @1"],
    [index(tagged), "@1", "no image @1 in /image; its only image is @0"],
    [index(tagged), "@x", "@x is no place of an image; use @N, from @0 on"],
    [index(tagged), "@-1", "@-1 is no place of an image; use @N, from @0 on"],
    [index(), undefined, "there is no image in /image; its index.json is empty: copy one there"],
    [index(), "a", "there is no image in /image; its index.json is empty: copy one there"],
    [Buffer.from('{"manifests":null}'), "a", "there is no image in /image; its index.json is empty: copy one there"],
  ] as const) {
    assert.throws(
      () => selected(bytes, tag),
      (error: unknown) => {
        assert.is(errorLine(error), `ocicrypt-keystore: ${line}`);
        return true;
      },
    );
  }
});

test("takes the image at a place, whatever its tag", () => {
  const bytes = index(entry("0", "@1"), entry("1"), entry("2"));
  for (const [tag, place] of [
    ["@0", 0],
    ["@1", 1],
    ["@+2", 2],
    ["@02", 2],
  ] as const)
    assert.equal(selected(bytes, tag), [place]);
});

test("refuses a manifest in the place of index.json", () => {
  const manifest = { schemaVersion: 2, config: entry("0"), layers: [] };
  assert.throws(() => selected(Buffer.from(JSON.stringify(manifest))), /index\.json of \/image/);
});

test.run();
