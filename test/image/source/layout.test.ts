// OCI layouts: which entries of index.json a tag selects.

import { test } from "uvu";
import * as assert from "uvu/assert";
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

test("names the tags there are, or says that there are none", () => {
  const failure = (bytes: Buffer): unknown => {
    try {
      return selected(bytes, "c");
    } catch (error) {
      return error;
    }
  };
  const tags = ["a", "b"].map((tag) => entry("0", tag));
  assert.equal({ hint: "", ...(failure(index(...tags)) as object) }.hint, "it has a, b");
  assert.match({ hint: "", ...(failure(index(entry("0"))) as object) }.hint, "it has no tags");
});

test("refuses a manifest in the place of index.json", () => {
  const manifest = { schemaVersion: 2, config: entry("0"), layers: [] };
  assert.throws(() => selected(Buffer.from(JSON.stringify(manifest))), /index\.json of \/image/);
});

test.run();
