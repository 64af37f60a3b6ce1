// rewrap and inspect on images that are damaged, odd or under the knife: one line, nothing written.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { encryptedLayer, HandMade } from "../support/encrypted-images.ts";
import { temporaryFolder } from "../support/folders.ts";
import { endurance } from "../support/parts.ts";
import { assertFailure, BINARY, run, succeed } from "../support/program.ts";
import { kidOf, makeStore } from "../support/stores.ts";

const store = makeStore("alice", "bob");
const rewrap = (reference: string, ...args: readonly string[]): string =>
  assertFailure(run(["rewrap", reference, "--to", "bob", ...args, "--keystore", store], { timeout: 5000 }), 1);
const NONE = "0".repeat(64);

/** A layout of one manifest with one encrypted layer; `change` makes it bad. */
function bad(change: (image: HandMade, manifest: string) => string): { image: HandMade; reference: string } {
  const image = new HandMade();
  const manifest = image.blob(`{"layers":[${encryptedLayer(store, ["alice"])}]}`);
  return { image, reference: image.index(change(image, manifest)) };
}

const entry = (descriptor: string): string =>
  `{"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json",${descriptor}}]}`;
const nested = (image: HandMade, inner: string): string => {
  let descriptor = inner;
  for (let depth = 0; depth < 100; depth++) descriptor = image.blob(entry(descriptor));
  return entry(descriptor);
};

for (const [name, change, line] of [
  ["a missing blob", () => entry(`"digest":"sha256:${NONE}","size":10`), /cannot read .*blobs\/sha256\/0{64}: ENOENT/],
  [
    "a wrong digest",
    (image: HandMade, manifest: string) => {
      const digest = /sha256:\w+/.exec(manifest)?.[0] ?? "";
      writeFileSync(join(image.dir, "blobs", digest.replace(":", "/")), `${image.read(digest)} `);
      return entry(manifest);
    },
    /is not what its digest sha256:\w+ says/,
  ],
  [
    "a wrong size",
    (_: HandMade, manifest: string) => entry(manifest.replace(/"size":\d+/, '"size":1')),
    /is not what its digest/,
  ],
  [
    "a wrong size beside the right one",
    (_: HandMade, manifest: string) =>
      entry(manifest).replace(/\{"mediaType[^}]*\}/, (right) => `${right},${right.replace(/"size":\d+/, '"size":1')}`),
    /is not what its digest/,
  ],
  [
    "a path in a digest",
    () => entry('"digest":"sha256:../../../../etc/passwd","size":10'),
    /descriptor without a valid digest/,
  ],
  ["a manifest of 100 MB", (image: HandMade) => entry(image.blob(" ".repeat(100_000_000))), /is larger than 4 MiB/],
  ["indexes nested 100 deep", nested, /is nested too deep/],
  ["JSON that is broken", (image: HandMade) => entry(image.blob("{")), /is not JSON/],
  [
    "a document that is neither index nor manifest",
    (image: HandMade) => entry(image.blob("{}")),
    /is neither an index nor a manifest/,
  ],
  [
    "duplicate members",
    (image: HandMade) => entry(image.blob('{"layers":[],"layers":[]}')),
    /has a duplicate member name/,
  ],
] as const) {
  test(`refuses ${name}, and writes nothing`, () => {
    const { image, reference } = bad(change);
    const before = image.read();
    const rewrapped = rewrap(reference);
    assert.match(rewrapped, line);
    assert.match(rewrapped, /; nothing was written; /);
    const inspected = assertFailure(run(["inspect", reference], { timeout: 5000 }), 1);
    assert.is(inspected, rewrapped.replace("nothing was written; ", ""), "inspect never writes");
    assert.is(image.read(), before);
  });
}

test("opens no layer by an annotation that is not base64, and writes nothing", () => {
  const { image, reference } = bad((layout) =>
    entry(layout.blob(`{"layers":[${encryptedLayer(store, ["alice"]).replace(/(keystore":")/, "$1!")}]}`)),
  );
  const before = image.read();
  const refused = assertFailure(run(["rewrap", reference, "--to", "bob", "--keystore", store]), 3);
  assert.match(refused, /no key of the store opens layer \S+; nothing was written; see .* inspect/);
  assert.is(image.read(), before);
});

test("names the tags there are where one is asked for that is not", () => {
  const { reference } = bad((_, manifest) =>
    entry(manifest).replace("}]}", ',"annotations":{"org.opencontainers.image.ref.name":"1.0"}}]}'),
  );
  assert.match(rewrap(`${reference}:2.0`), /no image 2\.0 in .*; it has 1\.0/);
});

test("says where there is no image, without a word about writing to whom only looks", () => {
  const dir = join(temporaryFolder(), "none");
  for (const reference of [`oci:${dir}`, `oci:${dir}:tag`]) {
    const inspected = assertFailure(run(["inspect", reference]), 1);
    assert.match(
      inspected,
      /cannot read .*none\/index\.json: ENOENT; check the path, and that it is a complete OCI layout$/,
    );
    assert.match(rewrap(reference), /none\/index\.json: ENOENT; nothing was written; check the path/);
  }
  const archive = assertFailure(run(["inspect", `oci-archive:${dir}`]), 1);
  assert.match(archive, /there is no archive .*none; check the path$/);
});

test("refuses what is no layout and no archive", () => {
  const dir = temporaryFolder();
  assert.match(rewrap(`oci:${dir}`), /cannot read .*index\.json: ENOENT/);
  writeFileSync(join(dir, "file.tar"), "no tar");
  assert.match(rewrap(`oci-archive:${join(dir, "file.tar")}`), /is no tar file|has no index\.json/);
  assert.match(rewrap(`oci-archive:${join(dir, "none.tar")}`), /there is no archive/);
});

test("leaves the old or the new image when it is killed at any instant", async () => {
  const image = new HandMade();
  const layers = Array.from({ length: 20 }, () => encryptedLayer(store, ["alice"])).join(",");
  const reference = image.index(entry(image.blob(`{"layers":[${layers}]}`)));
  const started = Date.now();
  succeed(["rewrap", reference, "--to", "bob", "--keystore", store]);
  const normal = Date.now() - started;
  const kids = [kidOf(store, "alice"), kidOf(store, "bob")];
  const seen = new Set<string>();
  for (let round = 0; round < endurance(200); round++) {
    const child = spawn(
      BINARY,
      ["rewrap", reference, "--to", round % 2 === 0 ? "alice" : "bob", "--prune", "--keystore", store],
      { stdio: "ignore", env: {} },
    );
    const closed = once(child, "close");
    await sleep(Math.random() * normal * 1.1);
    child.kill("SIGKILL");
    await closed;
    const shown = succeed(["inspect", reference, "--verify", "--json", "--keystore", store]);
    const found = kids.filter((kid) => shown.includes(kid));
    assert.is(found.length, 1, "all layers are for one or for the other");
    assert.not.match(shown, '"opens": false');
    seen.add(found.join());
  }
  for (const file of readdirSync(join(image.dir, "blobs/sha256")))
    if (file.startsWith(".tmp-")) rmSync(join(image.dir, "blobs/sha256", file));
  assert.ok(readFileSync(join(image.dir, "index.json")).length > 0);
  assert.ok(seen.size >= 1);
});

test.run();
