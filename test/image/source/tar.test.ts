// Tar archives of every kind: what real skopeo sees in one is what we see, or we refuse it; and nothing ends without a word.

import { createHash } from "node:crypto";
import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { KeystoreError } from "../../../src/errors.ts";
import { openArchive } from "../../../src/image/source/archive.ts";
import { countLayers, inspectImage, type LayerReport } from "../../../src/image/inspect.ts";
import { copy, skopeo } from "../../support/encrypted-images.ts";
import { temporaryFolder } from "../../support/folders.ts";
import { manifestLayers } from "../../support/images.ts";
import { endurance, testWith } from "../../support/parts.ts";
import { assertFailure, run, succeed } from "../../support/program.ts";
import { wrap } from "../../support/requests.ts";
import { kidOf, makeStore } from "../../support/stores.ts";
import { base256, GNU, longName, pax, TAR_END, tarPart, type TarPart, writeChecksum } from "../../support/tars.ts";

const store = makeStore("alice", "bob");
const NAMES = new Map(["alice", "bob"].map((name) => [kidOf(store, name), name]));
const OCI = "application/vnd.oci.image";
const LAYER = tarPart({ name: "file", content: "public" });
const blobs = new Map<string, Buffer>();

function blob(bytes: Buffer | string): { digest: string; size: number } {
  const hash = createHash("sha256").update(bytes).digest("hex");
  blobs.set(`blobs/sha256/${hash}`, Buffer.from(bytes));
  return { digest: `sha256:${hash}`, size: Buffer.from(bytes).length };
}

/** The text of an index.json with one image, whose blobs are in every archive. */
function image(layer: object): string {
  const config = blob(
    JSON.stringify({
      architecture: process.arch === "x64" ? "amd64" : process.arch,
      os: "linux",
      rootfs: { type: "layers", diff_ids: [blob(LAYER).digest] },
    }),
  );
  const manifest = {
    schemaVersion: 2,
    mediaType: `${OCI}.manifest.v1+json`,
    config: { mediaType: `${OCI}.config.v1+json`, ...config },
    layers: [layer],
  };
  return JSON.stringify({
    schemaVersion: 2,
    manifests: [{ mediaType: manifest.mediaType, ...blob(JSON.stringify(manifest)) }],
  });
}

const annotations = {
  "org.opencontainers.image.enc.keys.provider.keystore": wrap(store, ["alice", "bob"]).toString("base64"),
  "org.opencontainers.image.enc.pubopts": "e30=",
};
const SECRET = image({
  mediaType: `${OCI}.layer.v1.tar+encrypted`,
  ...blob("what the layer is, encrypted"),
  annotations,
});
const OPEN = image({ mediaType: `${OCI}.layer.v1.tar`, ...blob(LAYER) });
const file = (part: Partial<TarPart>): Buffer => tarPart({ name: "index.json", content: SECRET, ...part });
const open = (part: Partial<TarPart>): Buffer => tarPart({ name: "index.json", content: OPEN, ...part });
const BLOBS = Buffer.concat([
  tarPart({ name: "oci-layout", content: '{"imageLayoutVersion":"1.0.0"}' }),
  ...[...blobs].map(([name, content]) => tarPart({ name, content })),
]);
const INDEX = file({});
const tar = (...parts: readonly Buffer[]): Buffer => Buffer.concat([BLOBS, ...parts, TAR_END]);
const folder = (part: Partial<TarPart>): Buffer => tarPart({ name: "blobs/", type: "5", ...part });
const link = (name: string, target: string, type = "2"): Buffer =>
  tarPart({ name, type, patch: (header) => header.write(target, 157) });
const LONG = "d".repeat(120);

/** Archives that must be read as skopeo reads them. */
const READABLE: Readonly<Record<string, Buffer>> = {
  "as skopeo writes it": tar(INDEX),
  "of GNU's format": tar(file({ magic: GNU })),
  "with the index in front": Buffer.concat([INDEX, BLOBS, TAR_END]),
  "with names as tar writes them for a folder": Buffer.concat([
    folder({ name: "./" }),
    tar(file({ name: "./index.json" })),
  ]),
  "with a folder that has a size": tar(folder({ size: 4096 }), INDEX),
  "with a folder that has a size and comes last": tar(INDEX, folder({ size: 512 })),
  "with a folder twice": tar(folder({}), folder({ name: "blobs" }), INDEX),
  "with the oldest type of a file": tar(file({ type: "\0" })),
  "with a size in base 256": tar(file({ size: base256(Buffer.byteLength(SECRET)) })),
  "with a size in spaces": tar(file({ size: Buffer.from(`${Buffer.byteLength(SECRET).toString(8).padStart(10)} \0`) })),
  "with times in a pax header": tar(pax({ mtime: "1700000000.5", "SCHILY.xattr.user.a": "b" }), INDEX),
  "with a pax path": tar(pax({ path: "index.json" }), file({ name: "PaxHeader" })),
  "with the size again in a pax header": tar(pax({ size: String(Buffer.byteLength(SECRET)) }), INDEX),
  "with a GNU long name": tar(longName(`./${LONG}/other`), tarPart({ name: "cut", magic: GNU }), INDEX),
  "with a prefix": tar(tarPart({ name: "other", prefix: LONG }), INDEX),
  "with a comment for all": tar(pax({ comment: "of git archive" }, "g", "pax_global_header"), INDEX),
  "with records of 10 KiB": Buffer.concat([tar(INDEX), Buffer.alloc(9216)]),
};

const REFUSED: Readonly<Record<string, readonly [Buffer, RegExp]>> = {
  "an index after the end": [Buffer.concat([tar(INDEX), open({}), TAR_END]), /after its end/],
  "a byte after the end": [Buffer.concat([tar(INDEX), Buffer.alloc(100_000), Buffer.from("x")]), /after its end/],
  "one block of zeros, and another index": [tar(INDEX, Buffer.alloc(512), open({})), /after its end/],
  "a symlink to the folder": [tar(INDEX, link("a", "."), open({ name: "a/index.json" })), /of a kind/],
  "a symlink to above the blobs": [tar(INDEX, link("a", "blobs/.."), open({ name: "a/index.json" })), /of a kind/],
  "a symlink in the place of the index": [
    tar(INDEX, open({ name: "other" }), link("index.json", "other")),
    /of a kind/,
  ],
  "a hard link in its place": [tar(INDEX, open({ name: "other" }), link("index.json", "other", "1")), /of a kind/],
  "two indexes": [tar(INDEX, open({})), /two entries of one name/],
  "two indexes, one in other spelling": [
    tar(INDEX, open({ name: "./blobs/../index.json" })),
    /two entries of one name/,
  ],
  "two indexes, one in other case": [tar(INDEX, open({ name: "Index.JSON" })), /two entries of one name/],
  "an index above": [tar(INDEX, open({ name: "../index.json" })), /name that tools read differently/],
  "an index that ends in a slash": [tar(INDEX, open({ name: "index.json/" })), /name that tools read differently/],
  "a lone index that ends in a slash": [tar(file({ name: "index.json/" })), /name that tools read differently/],
  "an index of the oldest type that ends in a slash": [
    tar(INDEX, open({ name: "index.json/", type: "\0" })),
    /name that tools read differently/,
  ],
  "a folder of the index's name": [tar(INDEX, folder({ name: "index.json" })), /two entries of one name/],
  "a file in the place of the blobs": [tar(INDEX, tarPart({ name: "blobs" })), /two entries of one name/],
  "a file below the index": [tar(INDEX, tarPart({ name: "index.json/x" })), /file in the place of a folder/],
  "a sparse name": [
    tar(
      INDEX,
      pax({ "GNU.sparse.name": "index.json", "GNU.sparse.major": "1", "GNU.sparse.minor": "0" }),
      open({ name: "other" }),
    ),
    /GNU\.sparse\.name/,
  ],
  "a sparse file": [tar(INDEX, tarPart({ name: "other", type: "S" })), /of a kind/],
  "a long name and a pax path": [
    tar(INDEX, longName("index.json"), pax({ path: "other" }), open({ name: "x" })),
    /name that tools read differently/,
  ],
  "a pax path and a long name": [
    tar(INDEX, pax({ path: "other" }), longName("index.json"), open({ name: "x" })),
    /name that tools read differently/,
  ],
  "two long names": [
    tar(INDEX, longName("index.json"), longName("other"), open({ name: "x" })),
    /name that tools read differently/,
  ],
  "two pax headers": [
    tar(INDEX, pax({ path: "index.json" }), pax({ mtime: "1" }), open({ name: "x" })),
    /name that tools read differently/,
  ],
  "a path for all": [tar(pax({ path: "index.json" }, "g"), open({ name: "x" }), INDEX), /global header/],
  "a global header of the index's name": [
    tar(INDEX, pax({ comment: "x" }, "g", "index.json")),
    /two entries of one name/,
  ],
  "a global header after a pax header": [
    tar(pax({ path: "index.json" }), pax({ comment: "x" }, "g"), open({ name: "x" }), INDEX),
    /global header/,
  ],
  "a path twice": [
    tar(tarPart({ name: "p", type: "x", content: "14 path=other\n19 path=index.json\n" }), open({ name: "x" }), INDEX),
    /pax header that tools read differently/,
  ],
  "an empty path": [tar(INDEX, pax({ path: "" }), open({ name: "x" })), /name that tools read differently/],
  "a pax header that is none": [
    tar(tarPart({ name: "p", type: "x", content: "99 path=x\n" }), INDEX),
    /pax header that cannot be read/,
  ],
  "two sizes": [tar(pax({ size: "512" }), INDEX), /two sizes/],
  "a prefix in GNU's format": [
    tar(INDEX, open({ name: "index.json", prefix: ".", magic: GNU })),
    /name that tools read differently/,
  ],
  "a name with something behind it": [
    tar(INDEX, tarPart({ name: "x\0index.json" })),
    /name that tools read differently/,
  ],
  "a name that moves the cursor": [tar(INDEX, tarPart({ name: "\u001b[2J" })), /name that tools read differently/],
  "a name of Windows": [tar(INDEX, open({ name: "blobs\\..\\index.json" })), /name that tools read differently/],
  "an unknown type": [tar(INDEX, tarPart({ name: "x", type: "Z", content: "x" })), /of a kind/],
  "a contiguous file": [tar(file({ type: "7" })), /of a kind/],
  "a device with a size": [tar(INDEX, tarPart({ name: "x", type: "3", size: 4096 })), /of a kind/],
  "a FIFO with a size": [tar(INDEX, tarPart({ name: "x", type: "6", size: 4096 })), /of a kind/],
  "a volume's name": [tar(INDEX, tarPart({ name: "x", type: "V", magic: GNU })), /of a kind/],
  "a size below zero": [tar(file({ size: base256(1, 0xff) })), /size that cannot be read/],
  "a size of 2^80": [tar(file({ size: Buffer.from("800400000000000000000000", "hex") })), /size that cannot be read/],
  "a size that is not there": [tar(file({ size: base256(2 ** 46) })), /is cut off/],
  "a size of letters": [tar(file({ size: Buffer.from("lots of it \0") })), /size that cannot be read/],
  "a long name of 10 MB": [tar(longName("x".repeat(10_000_000)), INDEX), /header larger than 1024 KiB/],
  "folders without end": [
    tar(longName("x/".repeat(40)), tarPart({ name: "x", type: "5" }), INDEX),
    /folders nested deeper/,
  ],
  "a wrong checksum": [Buffer.concat([BLOBS, Buffer.from(INDEX).fill(1, 500, 501), TAR_END]), /is damaged at byte \d+/],
  "a gzip stream that looks like a header": [
    Buffer.concat([
      tarPart({ name: "\x1f", type: "x", patch: (header) => header.set([0x1f, 0x8b, 0x08, 0x04], 0) }),
      tar(file({})),
    ]),
    /cannot be decompressed/,
  ],
  "a bzip2 stream that looks like one": [
    Buffer.concat([tarPart({ name: "BZh91AY&SY" }), tar(file({}))]),
    /is compressed with bzip2/,
  ],
  nothing: [Buffer.alloc(0), /is empty/],
  zeros: [Buffer.alloc(10_240), /has no index\.json/],
  "a pax header at the end": [tar(file({}), pax({ mtime: "1" })), /is cut off/],
};
const INTACT = tar(file({}));
const CUTS = [
  200,
  512,
  BLOBS.length - 1,
  BLOBS.length,
  BLOBS.length + 100,
  BLOBS.length + 512,
  BLOBS.length + 700,
  INTACT.length - 1024,
  INTACT.length - 700,
  INTACT.length - 512,
  INTACT.length - 1,
];

function write(bytes: Buffer): string {
  const path = join(temporaryFolder(), "image.tar");
  writeFileSync(path, bytes);
  return path;
}

/** The encrypted layers that this process finds, if no other ones are there. */
async function inspect(path: string): Promise<readonly LayerReport[]> {
  const { encrypted, plain, untold } = countLayers(
    await inspectImage(await openArchive(path, undefined), { nameOf: (kid) => NAMES.get(kid) }),
  );
  return plain.length + untold.length === 0 ? encrypted : [];
}

/** Why this process refuses an archive. */
async function refusal(path: string): Promise<string> {
  const error: unknown = await inspect(path).catch((thrown: unknown) => thrown);
  assert.instance(error, KeystoreError);
  return (error as KeystoreError).message;
}

for (const [name, bytes] of Object.entries(READABLE)) {
  test(`reads and rewraps an archive ${name}`, async () => {
    const path = write(bytes);
    succeed(["inspect", `oci-archive:${path}`, "--require-encrypted", "--keystore", store]);
    succeed(["rewrap", `oci-archive:${path}`, "--remove", "alice", "--keystore", store]);
    assert.equal(
      (await inspect(path)).map(({ annotations: [first] }) =>
        first?.parts[0]?.recipients.map((recipient) => recipient.name),
      ),
      [["bob"]],
    );
    assert.is(spawnSync("tar", ["-xOf", path, "--", "oci-layout"]).status, 0);
  });
}

// Without root skopeo fails to give the folders that an archive does not name to root.
testWith(
  process.getuid?.() === 0 ? skopeo : undefined,
  "root and skopeo",
  "of each archive that passes --require-encrypted, skopeo takes encrypted layers only",
  async (tool) => {
    let passed = 0;
    for (const [name, bytes] of [
      ...Object.entries(READABLE),
      ...Object.entries(REFUSED).map(([refused, [content]]) => [refused, content] as const),
    ]) {
      const path = write(bytes);
      if ((await inspect(path).catch(() => [])).length === 0) continue;
      passed++;
      const target = join(temporaryFolder(), "copy");
      const { ok, stderr } = copy(tool, store, `oci-archive:${path}`, `oci:${target}`);
      assert.ok(ok, `${name}: ${stderr}`);
      assert.ok(
        manifestLayers(target).every(({ mediaType }) => mediaType.endsWith("+encrypted")),
        name,
      );
    }
    assert.is(passed, Object.keys(READABLE).length);
  },
);

test("refuses what tools read differently, in one line and with every command", async () => {
  const commands = [["inspect"], ["inspect", "--require-encrypted"], ["rewrap", "--remove", "alice"]] as const;
  for (const [place, [name, [bytes, line]]] of Object.entries(REFUSED).entries()) {
    const path = write(bytes);
    assert.match(await refusal(path), line, name);
    const [command, ...args] = commands[place % commands.length] ?? ["inspect"];
    if (place % 4 === 0)
      assert.match(assertFailure(run([command, `oci-archive:${path}`, ...args, "--keystore", store]), 1), line, name);
  }
});

test("refuses an archive that is cut off, wherever", async () => {
  for (const length of CUTS) {
    assert.match(await refusal(write(INTACT.subarray(0, length))), /is cut off|is no tar file/, String(length));
  }
});

test("reads what GNU tar writes of a layout, in each format", async () => {
  const dir = join(temporaryFolder(), "layout");
  mkdirSync(join(dir, "blobs/sha256"), { recursive: true });
  mkdirSync(join(dir, LONG));
  for (const [name, content] of [
    ...blobs,
    ["index.json", SECRET],
    ["oci-layout", "{}"],
    [`${LONG}/${LONG}`, "x"],
  ] as const)
    writeFileSync(join(dir, name), content);
  for (const [format, what] of [
    ["gnu", ["."]],
    ["oldgnu", ["."]],
    ["posix", ["."]],
    ["pax", ["index.json", "oci-layout", "blobs"]],
  ] as const) {
    const path = `${dir}.${format}.tar`;
    assert.is(spawnSync("tar", ["-cf", path, `--format=${format}`, "-C", dir, ...what]).status, 0);
    assert.is((await inspect(path)).length, 1, format);
  }
});

test("comes to an end with a word on any archive, however it was changed", async () => {
  const whole = [...Object.values(READABLE), ...Object.values(REFUSED).map(([bytes]) => bytes)].filter(
    ({ length }) => length > 0 && length < 100_000,
  );
  const change = fc.record({
    at: fc.nat(),
    length: fc.nat(600),
    bytes: fc.oneof(
      fc.uint8Array({ maxLength: 8 }),
      fc.constantFrom("x", "g", "L", "5", "1", "\0".repeat(512), "77777777777").map((text) => Buffer.from(text)),
    ),
  });
  const path = join(temporaryFolder(), "image.tar");
  let place = 0;
  const few = Math.ceil(endurance(2000) / 8);
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...whole),
      fc.array(change, { minLength: 1, maxLength: 3 }),
      fc.boolean(),
      async (valid, changes, summed) => {
        let bytes = Buffer.from(valid);
        for (const { at, length, bytes: put } of changes) {
          // Headers are where most of it depends on, so half of the changes are in one, and it gets its right checksum.
          const from = summed
            ? ((at % Math.ceil(bytes.length / 512)) * 512 + (length % 512)) % bytes.length
            : at % bytes.length;
          bytes = Buffer.concat([
            bytes.subarray(0, from),
            put,
            bytes.subarray(from + (summed || put.length > 0 ? put.length : length)),
          ]);
          if (summed) correctChecksum(bytes, from - (from % 512));
        }
        writeFileSync(path, bytes);
        const found = await inspect(path).catch((error: unknown) => {
          assert.instance(error, KeystoreError);
          return undefined;
        });
        if (place++ % few !== 0) return;
        const result = run(["inspect", `oci-archive:${path}`, "--require-encrypted", "--keystore", store]);
        if (found !== undefined && found.length > 0) assert.is(result.code, 0);
        else if (result.stdout === "") assertFailure(result, 1);
        else assert.is(result.code, 1);
      },
    ),
    { numRuns: endurance(2000), seed: 20_260_725, includeErrorInReport: true },
  );
});

function correctChecksum(bytes: Buffer, at: number): void {
  const header = bytes.subarray(at, at + 512);
  if (header.length === 512) writeChecksum(header);
}

test.run();
