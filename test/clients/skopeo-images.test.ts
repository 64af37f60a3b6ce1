// Layouts and archives beside real skopeo: what it reads of them we read, and the same layers in them. Where we differ,
// the row says how.

import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { errorLine } from "../../src/errors.ts";
import { digestOf } from "../../src/image/documents.ts";
import { inspectImage } from "../../src/image/inspect.ts";
import { openImage } from "../../src/image/source/open.ts";
import { entry, HandMade, INDEX, MANIFEST, skopeo, tag } from "../support/encrypted-images.ts";
import { temporaryFolder } from "../support/folders.ts";
import { sampled, testWith } from "../support/parts.ts";
import type { Skopeo } from "../support/skopeo.ts";

const OCI = "application/vnd.oci.image";
const DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json";
const XML = "application/xml";
const ABSENT = `"digest":"sha256:${"0".repeat(64)}","size":9`;
const KEYS = '"org.opencontainers.image.enc.keys.provider.ks":"AAAA"';

/** A layout that is written by hand, with what most rows need. */
class Layout extends HandMade {
  readonly config = this.blob('{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}');

  layer(content: string, more = ""): string {
    return `{"mediaType":"${OCI}.layer.v1.tar+gzip+encrypted",${this.blob(content)},"annotations":{${KEYS}${more}}}`;
  }

  /** A manifest's text. `more` are its other members. */
  text(layers: string, more = ""): string {
    const config = `{"mediaType":"${OCI}.config.v1+json",${this.config}}`;
    return `{"schemaVersion":2,"mediaType":"${MANIFEST}","config":${config},"layers":[${layers}]${more}}`;
  }

  manifest(content = "a", more = ""): string {
    return this.blob(this.text(this.layer(content), more));
  }

  /** Writes index.json. */
  write(...entries: readonly string[]): string {
    return this.index(`{"schemaVersion":2,"manifests":[${entries.join(",")}]}`);
  }

  archive(): string {
    const dir = temporaryFolder();
    const owner = ["--owner", String(process.getuid?.() ?? 0), "--group", String(process.getgid?.() ?? 0)];
    const made = spawnSync("tar", ["-cf", join(dir, "image.tar"), ...owner, "-C", this.dir, "."]);
    assert.is(made.status, 0, String(made.stderr));
    return join(dir, "image.tar");
  }
}

const platform = (architecture: string): string => `,"platform":{"os":"linux","architecture":"${architecture}"}`;
const single = (make: (layout: Layout) => string): string => {
  const layout = new Layout();
  return layout.write(entry(make(layout)));
};

/** An archive of a layout, its bytes changed. */
function archived(change: (tar: Buffer) => Buffer, layout = sample()): string {
  const file = layout.archive();
  writeFileSync(file, change(readFileSync(file)));
  return `oci-archive:${file}`;
}

function sample(): Layout {
  const layout = new Layout();
  layout.write(entry(layout.manifest()));
  return layout;
}

const half = (bytes: Buffer): [Buffer, Buffer] => [bytes.subarray(0, 3000), bytes.subarray(3000)];
const compressed = (command: string, bytes: Buffer): Buffer => spawnSync(command, ["-c"], { input: bytes }).stdout;

/** What both read, or what both refuse. */
const AGREE: readonly (readonly [name: string, make: () => string])[] = [
  ["one image", () => single((layout) => layout.manifest())],
  ["one image at its place", () => `${single((layout) => layout.manifest())}:@0`],
  ["a place with a sign", () => `${single((layout) => layout.manifest())}:@+0`],
  ["a place that is not there", () => `${single((layout) => layout.manifest())}:@1`],
  ["a place that is no number", () => `${single((layout) => layout.manifest())}:@x`],
  ["an empty tag", () => `${single((layout) => layout.manifest())}:`],
  ["a tag that is not there", () => `${single((layout) => layout.manifest())}:none`],
  [
    "the second of two images without tags",
    () => {
      const layout = new Layout();
      return `${layout.write(entry(layout.manifest("a")), entry(layout.manifest("b")))}:@1`;
    },
  ],
  [
    "a tag that is a whole reference",
    () => {
      const layout = new Layout();
      const name = "docker.io/library/app:1.0";
      return `${layout.write(entry(layout.manifest("a")), entry(layout.manifest("b"), tag(name)))}:${name}`;
    },
  ],
  ["an empty index", () => new Layout().write()],
  ["an index of null", () => new Layout().index('{"schemaVersion":2,"manifests":null}')],
  ["an index that is a list", () => new Layout().index("[]")],
  ["an index with a BOM", () => new Layout().index('\ufeff{"manifests":[]}')],
  [
    "docker save: a platform that is not there",
    () => {
      const layout = new Layout();
      const entries = [entry(ABSENT, platform("arm64")), entry(layout.manifest(), platform("amd64"))];
      return layout.write(entry(layout.blob(`{"schemaVersion":2,"manifests":[${entries.join(",")}]}`), "", INDEX));
    },
  ],
  [
    "an attestation that is not there",
    () => {
      const layout = new Layout();
      const manifest = layout.manifest();
      const about = `"vnd.docker.reference.type":"attestation-manifest","vnd.docker.reference.digest":"${digestIn(manifest)}"`;
      const attestation = entry(
        ABSENT,
        `,"annotations":{${about}},"platform":{"os":"unknown","architecture":"unknown"}`,
      );
      const entries = [entry(manifest, platform("amd64")), attestation];
      return layout.write(entry(layout.blob(`{"schemaVersion":2,"manifests":[${entries.join(",")}]}`), "", INDEX));
    },
  ],
  [
    "a tagged image that is not there",
    () => {
      const layout = new Layout();
      return `${layout.write(entry(ABSENT, tag("a")), entry(layout.manifest(), tag("b")))}:a`;
    },
  ],
  [
    "a tagged image beside one that is not there",
    () => {
      const layout = new Layout();
      return `${layout.write(entry(ABSENT, tag("a")), entry(layout.manifest(), tag("b")))}:b`;
    },
  ],
  ["the only image is not there", () => new Layout().write(entry(ABSENT))],
  ["an index that is not there", () => new Layout().write(entry(ABSENT, tag("a"), INDEX))],
  [
    "an entry of another media type beside the image",
    () => {
      const layout = new Layout();
      const entries = [entry(layout.blob("<a/>"), platform("s390x"), XML), entry(layout.manifest(), platform("amd64"))];
      return layout.write(entry(layout.blob(`{"schemaVersion":2,"manifests":[${entries.join(",")}]}`), "", INDEX));
    },
  ],
  [
    "an entry of another media type in index.json",
    () => {
      const layout = new Layout();
      return `${layout.write(entry(ABSENT, tag("sbom"), XML), entry(layout.manifest(), tag("a")))}:a`;
    },
  ],
  [
    "a quote in an annotation's name",
    () => single((layout) => layout.manifest("a", String.raw`,"annotations":{"a\"b":"1"}`)),
  ],
  [
    "an accent in an annotation's name",
    () => single((layout) => layout.manifest("a", String.raw`,"annotations":{"caf\u00e9":"1"}`)),
  ],
  [
    "Go's escape of <",
    () => single((layout) => layout.manifest("a", String.raw`,"annotations":{"\u003cno value\u003e":"\u0026"}`)),
  ],
  [
    "an escaped name in a layer",
    () => single((layout) => layout.blob(layout.text(layout.layer("a", String.raw`,"\\\t\/":"1"`)))),
  ],
  ...["", "!", "AAAA,", String.raw`AA\nAA`].map((value): readonly [string, () => string] => [
    `a scheme whose wrapped keys are "${value}" beside another one`,
    () =>
      single((layout) =>
        layout.blob(layout.text(layout.layer("a", `,"org.opencontainers.image.enc.keys.pgp":"${value}"`))),
      ),
  ]),
  [
    "members whose names are written with escapes",
    () =>
      single((layout) =>
        layout.blob(
          layout
            .text(layout.layer("a"))
            .replace('"layers"', String.raw`"\u006cayers"`)
            .replace('"config"', String.raw`"c\u006fnfig"`),
        ),
      ),
  ],
  [
    "unknown members in two spellings",
    () => single((layout) => layout.manifest("a", ',"foo":1,"Foo":[{"BAR":2,"bar":3}]')),
  ],
  [
    "annotations and other members that are null",
    () => single((layout) => layout.manifest("a", ',"annotations":null,"subject":null')),
  ],
  ["layers that are null", () => single((layout) => layout.blob(layout.text("").replace("[]", "null")))],
  [
    "no media type in the manifest",
    () => single((layout) => layout.blob(layout.text(layout.layer("a")).replace(`"mediaType":"${MANIFEST}",`, ""))),
  ],
  [
    "white space everywhere",
    () =>
      single((layout) =>
        layout.blob(`\r\n\t ${layout.text(layout.layer("a"), ' \n,\t"x" : 1.0').replaceAll(":{", " : {")} \n`),
      ),
  ],
  ["members in the place of a list", () => single((layout) => layout.blob(layout.text("").replace("[]", "{}")))],
  ["broken JSON", () => single((layout) => layout.blob("{"))],
  [
    "no configuration",
    () => single((layout) => layout.blob(layout.text(layout.layer("a")).replace(layout.config, ABSENT))),
  ],
  [
    "a manifest with a SHA-512 digest",
    () =>
      single((layout) => {
        const text = layout.text(layout.layer("a"));
        const digest = digestOf(Buffer.from(text), "sha512");
        mkdirSync(join(layout.dir, "blobs/sha512"));
        writeFileSync(join(layout.dir, "blobs", digest.replace(":", "/")), text);
        return `"digest":"${digest}","size":${text.length}`;
      }),
  ],
  [
    "an entry and a layer with a digest of an unknown algorithm",
    () => {
      const layout = new Layout();
      const odd = '"digest":"blake3:00","size":9';
      const manifest = layout.blob(layout.text(`${layout.layer("a")},{"mediaType":"x",${odd}}`));
      const entries = [entry(odd, platform("s390x"), XML), entry(manifest, platform("amd64"))];
      return layout.write(entry(layout.blob(`{"schemaVersion":2,"manifests":[${entries.join(",")}]}`), "", INDEX));
    },
  ],
  [
    "a layer without a size and a media type that is null",
    () => single((layout) => layout.blob(layout.text(`{"mediaType":null,"digest":"sha256:${"1".repeat(64)}"}`))),
  ],
  [
    "an index whose layers are null",
    () => {
      const layout = new Layout();
      const more = '"layers":null,"config":null';
      return layout.index(`{"schemaVersion":2,"manifests":[${entry(layout.manifest())}],${more}}`);
    },
  ],
  [
    "a list of docker's with OCI manifests",
    () => {
      const layout = new Layout();
      const list = `{"schemaVersion":2,"mediaType":"${DOCKER_LIST}","manifests":[${entry(layout.manifest(), platform("amd64"))}]}`;
      return layout.write(entry(layout.blob(list), "", INDEX));
    },
  ],
  ["a folder that is not there", () => `oci:${join(temporaryFolder(), "none")}`],
  ["a file in the place of a folder", () => `oci:${sample().archive()}`],
  ["an archive", () => archived((tar) => tar)],
  ["an archive that is not there", () => `oci-archive:${join(temporaryFolder(), "none")}`],
  ["a folder in the place of an archive", () => `oci-archive:${sample().dir}`],
  [
    "an archive as docker save writes it",
    () => {
      const layout = sample();
      writeFileSync(join(layout.dir, "manifest.json"), "[]");
      writeFileSync(join(layout.dir, "repositories"), "{}");
      return archived((tar) => tar, layout);
    },
  ],
  [
    "a docker archive of old",
    () => {
      const layout = sample();
      writeFileSync(join(layout.dir, "manifest.json"), "[]");
      rmSync(join(layout.dir, "index.json"));
      return archived((tar) => tar, layout);
    },
  ],
  ["gzip", () => archived(gzipSync)],
  ["gzip in two streams", () => archived((tar) => Buffer.concat(half(tar).map((part) => gzipSync(part))))],
  ["gzip with zeros behind it", () => archived((tar) => Buffer.concat([gzipSync(tar), Buffer.alloc(1000)]))],
  ["gzip that is cut off", () => archived((tar) => gzipSync(tar).subarray(0, 200))],
  ["gzip twice", () => archived((tar) => gzipSync(gzipSync(tar)))],
  ["zstd", () => archived(zstdCompressSync)],
  ["zstd in two frames", () => archived((tar) => Buffer.concat(half(tar).map((part) => zstdCompressSync(part))))],
  ["zstd that is cut off", () => archived((tar) => zstdCompressSync(tar).subarray(0, 200))],
  ["no archive at all", () => archived(() => Buffer.from("no tar"))],
];

/** What skopeo reads and we refuse, and what we say. */
const STRICTER: readonly (readonly [name: string, make: () => string, line: RegExp])[] = [
  [
    "layers in another spelling, which only Go reads",
    () => single((layout) => layout.blob(layout.text(layout.layer("a")).replace('"layers"', '"Layers"'))),
    /has a member that is spelled "Layers"/,
  ],
  [
    "layers twice, of which Go reads the last",
    () => single((layout) => layout.manifest("a", ',"layers":[]')),
    /has a duplicate member name/,
  ],
  [
    "layers twice, once with an escape",
    () => single((layout) => layout.manifest("a", String.raw`,"\u006cayers":[]`)),
    /has a duplicate member name/,
  ],
  [
    "a name that reaches a prototype in JavaScript",
    () => single((layout) => layout.manifest("a", String.raw`,"annotations":{"__pr\u006fto__":"1"}`)),
    /has a forbidden member name/,
  ],
  [
    "a size that is not the manifest's",
    () => single((layout) => layout.manifest().replace(/"size":\d+/, '"size":1')),
    /is not what its digest/,
  ],
  [
    "gzip with more behind it",
    () => archived((tar) => Buffer.concat([gzipSync(tar), Buffer.from("more")])),
    /cannot be decompressed/,
  ],
  [
    "bzip2",
    () => archived((tar) => compressed("bzip2", tar)),
    /is compressed with bzip2.*decompress it first: bzip2 -d/,
  ],
  ["xz", () => archived((tar) => compressed("xz", tar)), /is compressed with xz.*decompress it first: xz -d/],
  [
    "skopeo's own folders",
    () => {
      const layout = sample();
      const dir = join(temporaryFolder(), "dir");
      cpSync(join(layout.dir, "blobs/sha256"), dir, { recursive: true });
      writeFileSync(join(dir, "manifest.json"), layout.text(layout.layer("a")));
      return `dir:${dir}`;
    },
    /dir:.* is a folder in skopeo's own format; copy it first: skopeo copy dir:.* oci:DIR/,
  ],
];

/** What we read and skopeo refuses. */
const LOOSER: readonly (readonly [name: string, make: () => string, layers: number])[] = [
  [
    "several images without a tag: we show all",
    () => {
      const layout = new Layout();
      return layout.write(entry(layout.manifest("a")), entry(layout.manifest("b")));
    },
    2,
  ],
  [
    "an image for other platforms: we show it",
    () => {
      const layout = new Layout();
      const entries = [entry(layout.manifest(), platform("arm64")), entry(ABSENT, platform("amd64"))];
      return layout.write(entry(layout.blob(`{"schemaVersion":2,"manifests":[${entries.join(",")}]}`), "", INDEX));
    },
    1,
  ],
  [
    "a tag that names an entry of another media type: we say what it is",
    () => {
      const layout = new Layout();
      return `${layout.write(entry(layout.blob("<a/>"), tag("sbom"), XML), entry(layout.manifest(), tag("a")))}:sbom`;
    },
    0,
  ],
];

function digestIn(descriptor: string): string {
  return /sha256:\w+/.exec(descriptor)?.[0] ?? "";
}

/** The layers that skopeo sees, or why it does not. */
function bySkopeo({ command: [file = "", ...args] }: Skopeo, image: string): string[] | string {
  const { status, stdout, stderr } = spawnSync(
    file,
    [...args, "--override-os", "linux", "--override-arch", "amd64", "inspect", "--format", "{{.Layers}}", image],
    { encoding: "utf8", env: {} },
  );
  return status === 0 ? (stdout.match(/\w+:\w+/g) ?? []) : stderr;
}

/** The layers that we see, or why we do not. */
async function byUs(image: string): Promise<string[] | string> {
  try {
    const manifests = await inspectImage(await openImage(image), { nameOf: () => undefined });
    return manifests.flatMap(({ layers }) => layers.map(({ digest }) => digest));
  } catch (error) {
    return errorLine(error);
  }
}

const MISSING = "a skopeo that knows provider:";
const isRefusal = (outcome: string[] | string): boolean => typeof outcome === "string";

testWith(
  skopeo,
  MISSING,
  "reads what skopeo reads, with the same layers, and refuses what it refuses",
  async (tool) => {
    assert.ok(AGREE.length > 30);
    for (const [name, make] of sampled(AGREE, 2)) {
      const image = make();
      const [theirs, ours] = [bySkopeo(tool, image), await byUs(image)];
      if (isRefusal(theirs) || isRefusal(ours)) {
        assert.equal(
          [isRefusal(ours), isRefusal(theirs)],
          [true, true],
          `${name}: ${String(ours)} / ${String(theirs)}`,
        );
        assert.match(String(ours), /^ocicrypt-keystore: [^\n]+; [^\n]+$/, name);
        assert.not.match(String(ours), /internal error/, name);
      } else assert.equal(ours, theirs, name);
    }
  },
);

testWith(
  skopeo,
  MISSING,
  "refuses what clients read differently, or what is not read here, and says so",
  async (tool) => {
    for (const [name, make, line] of STRICTER) {
      const image = make();
      const theirs = bySkopeo(tool, image);
      assert.not.ok(isRefusal(theirs), `${name}: ${String(theirs)}`);
      assert.match(String(await byUs(image)), line, name);
    }
  },
);

testWith(skopeo, MISSING, "shows what skopeo does not, because it takes one image only", async (tool) => {
  for (const [name, make, layers] of LOOSER) {
    const image = make();
    assert.ok(isRefusal(bySkopeo(tool, image)), name);
    assert.is((await byUs(image)).length, layers, name);
  }
});

test.run();
