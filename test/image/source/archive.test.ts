// Archives: what a tar may hold beside plain files, and that nothing of it is lost or read as something else.

import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  chownSync,
  cpSync,
  createWriteStream,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { pack, type Header } from "tar-stream";
import { encryptedLayer, HandMade } from "../../support/encrypted-images.ts";
import { temporaryFolder } from "../../support/folders.ts";
import { testWith } from "../../support/parts.ts";
import { assertFailure, BINARY, run, succeed } from "../../support/program.ts";
import { makeStore } from "../../support/stores.ts";

const store = makeStore("alice", "bob");
const cli = (...args: readonly string[]): string => succeed([...args, "--keystore", store]);
const refused = (...args: readonly string[]): string => assertFailure(run([...args, "--keystore", store]), 1);
const layout = new HandMade();
const manifest = layout.blob(`{"layers":[${encryptedLayer(store, ["alice"])}]}`);
const INDEX = `{"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json",${manifest}}]}`;
const BLOB = `blobs/${/sha256:\w+/.exec(manifest)?.[0].replace(":", "/") ?? ""}`;
const MANIFEST = readFileSync(join(layout.dir, BLOB), "utf8");
layout.index(INDEX);

interface Entry extends Partial<Header> {
  readonly name: string;
  readonly content?: string | Buffer;
}

/** An archive of entries as they are given. */
async function archive(...entries: readonly Entry[]): Promise<string> {
  const stream = pack();
  for (const { content, ...header } of entries) stream.entry(header, content ?? "");
  stream.finalize();
  const file = join(temporaryFolder(), "image.tar");
  await pipeline(stream, createWriteStream(file));
  return file;
}

const IMAGE: readonly Entry[] = [
  { name: "index.json", content: INDEX },
  { name: BLOB, content: MANIFEST },
];
const OTHER: Entry = { name: "index.json", content: '{"manifests":[]}' };

/** What GNU tar unpacks of an archive. */
function unpack(file: string): string {
  const dir = temporaryFolder();
  const { status, stderr } = spawnSync("tar", ["-xf", file, "-C", dir], { encoding: "utf8" });
  assert.is(status, 0, stderr);
  return dir;
}

test("reads the names as an unpacker would", async () => {
  for (const prefix of ["./", "././", "x/../", "/", ".//"]) {
    const file = await archive(...IMAGE.map(({ name, content = "" }) => ({ name: `${prefix}${name}`, content })));
    assert.match(cli("inspect", `oci-archive:${file}`), /alice/, prefix);
    cli("rewrap", `oci-archive:${file}`, "--to", "bob");
    assert.match(cli("inspect", `oci-archive:${file}`, "--verify"), /bob .* opens/);
  }
});

test("refuses two entries of one name, be one of them a link", async () => {
  assert.match(
    refused("inspect", `oci-archive:${await archive(OTHER, ...IMAGE)}`),
    /has two entries of one name, index\.json; /,
  );
  assert.match(refused("inspect", `oci-archive:${await archive(...IMAGE, OTHER)}`), /has two entries of one name/);
  for (const type of ["symlink", "link"] as const) {
    assert.match(
      refused("inspect", `oci-archive:${await archive(...IMAGE, { name: "index.json", type, linkname: BLOB })}`),
      /has an entry of a kind that no OCI archive needs/,
    );
  }
});

test("takes documents that start with white space", async () => {
  const file = await archive({ name: "index.json", content: `\n ${INDEX}` }, ...IMAGE.slice(1));
  assert.match(cli("inspect", `oci-archive:${file}`), /alice/);
});

test("keeps every other entry as it is: folders, long names, pax headers, owners and times", async () => {
  const long = `${"d".repeat(90)}/${"n".repeat(120)}`;
  const file = await archive(
    { name: "blobs/", type: "directory", mode: 0o700 },
    ...IMAGE,
    { name: long, content: "long" },
    {
      name: "pax",
      content: "pax",
      pax: { "SCHILY.xattr.user.a": "b" },
      mtime: new Date(1e12),
      uid: 7,
      gid: 8,
      mode: 0o640,
    },
    { name: "empty", content: "" },
  );
  const list = (): string =>
    spawnSync("tar", ["--numeric-owner", "-tvf", file, "--exclude=blobs/sha256", "--exclude=index.json"], {
      encoding: "utf8",
    }).stdout;
  const before = list();
  assert.match(before, /-rw-r----- 7\/8 .* pax\n/);
  cli("rewrap", `oci-archive:${file}`, "--to", "bob", "--prune");
  assert.is(list(), before);
  assert.match(readFileSync(file, "latin1"), "SCHILY.xattr.user.a=b");
  const dir = unpack(file);
  assert.is(readFileSync(join(dir, long), "utf8"), "long");
  assert.is(readdirSync(join(dir, "blobs/sha256")).length, 1);
  assert.match(cli("inspect", `oci:${dir}`, "--verify"), /bob .* opens/);
});

test("refuses an archive with a sparse file, which some tools would read as another one", () => {
  const dir = join(temporaryFolder(), "image");
  cpSync(layout.dir, dir, { recursive: true });
  spawnSync("truncate", ["-s", "10M", join(dir, "blobs/sha256/sparse")]);
  for (const [format, line] of [
    ["gnu", /has an entry of a kind/],
    ["pax", /pax header that tools read differently, GNU\.sparse/],
  ] as const) {
    const file = `${dir}.${format}.tar`;
    assert.is(spawnSync("tar", ["-cSf", file, `--format=${format}`, "-C", dir, "."]).status, 0);
    const before = readFileSync(file);
    assert.match(refused("rewrap", `oci-archive:${file}`, "--to", "bob"), line);
    assert.ok(readFileSync(file).equals(before));
  }
});

test("refuses an archive that is cut off, and leaves it alone", async () => {
  const whole = readFileSync(await archive(...IMAGE, { name: "layer", content: Buffer.alloc(10_000, 1) }));
  const file = join(temporaryFolder(), "image.tar");
  for (const bytes of [whole.subarray(0, 700), whole.subarray(0, 6000), whole.subarray(0, -5000)]) {
    writeFileSync(file, bytes);
    assert.match(refused("rewrap", `oci-archive:${file}`, "--to", "bob"), /is no tar file|is cut off/);
    assert.ok(readFileSync(file).equals(bytes));
  }
  assert.match(refused("inspect", `oci-archive:${dirname(file)}`), /is not a regular file; .*oci:/);
  assert.equal(readdirSync(dirname(file)), ["image.tar"]);
});

test("keeps the archive's mode whatever the umask, and a link to it", async () => {
  for (const mode of [0o600, 0o664]) {
    const file = await archive(...IMAGE);
    chmodSync(file, mode);
    const link = join(dirname(file), "link.tar");
    symlinkSync("image.tar", link);
    const script = 'umask 077; exec "$0" rewrap "oci-archive:$1" --to bob --keystore "$2"';
    assert.is(spawnSync("sh", ["-c", script, BINARY, link, store]).status, 0);
    assert.is(statSync(file).mode & 0o777, mode);
    assert.match(cli("inspect", `oci-archive:${file}`), /bob/);
    assert.equal(readdirSync(dirname(file)).toSorted(), ["image.tar", "link.tar"]);
  }
});

testWith(process.getuid?.() === 0 ? true : undefined, "root", "keeps the archive's owner and group", async () => {
  const file = await archive(...IMAGE);
  chownSync(file, 1234, 5678);
  cli("rewrap", `oci-archive:${file}`, "--to", "bob");
  const { uid, gid } = statSync(file);
  assert.equal([uid, gid], [1234, 5678]);
});

test("leaves nothing beside the archive when a signal ends it, and ends as the signal says", async () => {
  const file = await archive(...IMAGE, { name: "layer", content: Buffer.alloc(100_000_000) });
  const { ino } = statSync(file);
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP", "SIGKILL"] as const) {
    const child = spawn(BINARY, ["rewrap", `oci-archive:${file}`, "--to", "bob", "--keystore", store], {
      stdio: "ignore",
      env: {},
    });
    const closed = once(child, "close");
    while (child.exitCode === null && readdirSync(dirname(file)).length === 1) await sleep(1);
    child.kill(signal);
    assert.equal(await closed, [null, signal]);
    assert.is(readdirSync(dirname(file)).length, signal === "SIGKILL" ? 2 : 1, `left beside it by ${signal}`);
    assert.is(statSync(file).ino, ino);
  }
  cli("rewrap", `oci-archive:${file}`, "--to", "bob"); // beside what the SIGKILL left
  assert.match(cli("inspect", `oci-archive:${file}`), /bob/);
});

test("is not stopped by what a killed run of the same process id left behind", async () => {
  const file = await archive(...IMAGE);
  // In a container the process id is the same every time.
  const { status, stderr } = spawnSync(
    "sh",
    ["-c", 'touch "$1.tmp-$$"; exec "$0" rewrap "oci-archive:$1" --to bob --keystore "$2"', BINARY, file, store],
    { encoding: "utf8" },
  );
  assert.is(status, 0, stderr);
});

test("leaves the archive as it was, and nothing beside it, where the disk is full", async () => {
  const file = await archive(...IMAGE, { name: "layer", content: Buffer.alloc(10_000_000) });
  const { ino } = statSync(file);
  const { status, stderr } = spawnSync(
    "sh",
    ["-c", 'ulimit -f 1000; exec "$0" rewrap "oci-archive:$1" --to bob --keystore "$2"', BINARY, file, store],
    { encoding: "utf8" },
  );
  assert.is(status, 1);
  assert.match(stderr, /^ocicrypt-keystore: write failed: EFBIG; [^\n]*free space\n$/);
  assert.is(statSync(file).ino, ino);
  assert.equal(readdirSync(dirname(file)), ["image.tar"]);
});

test("does not undo a change that was made meanwhile", async () => {
  const file = await archive(...IMAGE, { name: "layer", content: Buffer.alloc(200_000_000) });
  const script =
    '"$0" rewrap "oci-archive:$1" --to bob --keystore "$2" 2>"$1.log" & while ! ls "$1".tmp-* 2>&-; do sleep 0.01; done; touch "$1"; wait';
  spawnSync("sh", ["-c", script, BINARY, file, store], { timeout: 60_000 });
  assert.match(readFileSync(`${file}.log`, "utf8"), /was changed by somebody else meanwhile/);
  assert.match(cli("inspect", `oci-archive:${file}`), /alice/);
  assert.equal(readdirSync(dirname(file)).toSorted(), ["image.tar", "image.tar.log"]);
});

test.run();
