// rewrap on odd layouts, and on those that somebody made to mislead: nothing is lost, and what stays is said.

import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  chownSync,
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { encryptedLayer, entry, HandMade, index, INDEX, second, single, tag } from "../support/encrypted-images.ts";
import { testWith } from "../support/parts.ts";
import { assertFailure, BINARY, run, runHere, succeed, throughBinary } from "../support/program.ts";
import { wrap } from "../support/requests.ts";
import { kidOf, makeStore } from "../support/stores.ts";

runHere();
const store = makeStore("alice", "bob");
const PLAIN = `{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:${"1".repeat(64)}","size":1}`;
const encrypted = (): string => encryptedLayer(store, ["alice"]);
const cli = (...args: readonly string[]): string => succeed([...args, "--keystore", store]);
const digests = (text: string): string[] => text.match(/sha256:[0-9a-f]{64}/g) ?? [];

test("rewraps a manifest and an index.json that are larger than 64 KiB", () => {
  const layers = Array.from({ length: 100 }, encrypted).join(",");
  const image = new HandMade();
  const manifest = image.blob(`{"layers":[${layers}]}`);
  const reference = image.index(
    index(...Array.from({ length: 500 }, (_, place) => entry(manifest, tag(String(place))))),
  );
  assert.ok(layers.length > 65_536 && image.read().length > 65_536);
  cli("rewrap", `${reference}:7`, "--to", "bob", "--prune");
  const [first, seventh] = [digests(image.read())[0], digests(image.read())[7]];
  assert.match(cli("inspect", `${reference}:7`, "--verify"), /bob .* opens/);
  assert.is.not(first, seventh);
});

test("drops the embedded copy of a manifest that changed", () => {
  const manifest = `{"layers":[${encrypted()}]}`;
  const { image, reference } = single(manifest, `,"data":"${Buffer.from(manifest).toString("base64")}"`);
  throughBinary(() => succeed(["rewrap", reference, "--to", "bob", "--keystore", store]));
  assert.not.match(image.read(), '"data"');
  cli("inspect", reference);
});

test("shows whom a rewrap leaves as they are, and says so where nothing is encrypted", () => {
  const layer = second(encrypted(), "pgp", "AAAA");
  assert.match(
    cli("rewrap", single(`{"layers":[${layer}]}`).reference, "--to", "bob"),
    /pgp +not readable +not readable/,
  );
  assert.match(
    run(["rewrap", single(`{"layers":[${PLAIN}]}`).reference, "--to", "bob", "--keystore", store]).stderr,
    /no layer is encrypted/,
  );
});

test("--remove takes somebody off what this store cannot open, too, or says what stays", () => {
  const mallory = makeStore("mallory");
  const kid = kidOf(mallory, "mallory");
  const others = wrap(mallory, ["mallory"]).toString("base64");
  const { reference } = single(
    `{"layers":[${second(encryptedLayer(store, ["alice", "bob"]), "provider.other", others)}]}`,
  );
  assert.match(
    run(["rewrap", reference, "--remove", "bob", "--keystore", store]).stdout,
    new RegExp(`provider:keystore +alice, bob +alice\n.*provider:other +${kid} +${kid}`),
  );
  cli("rewrap", reference, "--remove", kid);
  assert.not.match(cli("inspect", reference), new RegExp(`${kid}|provider:other`));

  for (const [scheme, value] of [
    ["provider.other", "AAAA"],
    ["pgp", "AAAA"],
  ] as const) {
    const foreign = single(`{"layers":[${second(encryptedLayer(store, ["alice", "bob"]), scheme, value)}]}`).reference;
    assert.match(
      run(["rewrap", foreign, "--remove", "bob", "--keystore", store]).stderr,
      new RegExp(`the annotations of ${scheme.replace(".", ":")} were not opened and stay`),
    );
  }
  const unreadable = encrypted().replace(/(keystore":")([^"]*)/, `$1$2,AAAA`);
  assert.match(
    assertFailure(
      run(["rewrap", single(`{"layers":[${unreadable}]}`).reference, "--remove", "bob", "--keystore", store]),
      1,
    ),
    /a recipient without a readable kid/,
  );
});

test("--prune keeps what an unreadable neighbour may need, and says what was done", () => {
  const image = new HandMade();
  const [first, missing] = [image.blob(`{"layers":[${encrypted()}]}`), `"digest":"sha256:${"2".repeat(64)}","size":9`];
  const reference = image.index(index(entry(first, tag("a")), entry(missing, tag("gone"), INDEX)));
  const { code, stderr } = run(["rewrap", `${reference}:a`, "--to", "bob", "--prune", "--keystore", store]);
  assert.is(code, 1, stderr);
  assert.match(stderr, /is rewrapped, but its old manifests are still there: /);
  assert.not.match(stderr, /nothing was written/);
  assert.match(cli("inspect", `${reference}:a`), /bob/);
  assert.ok(image.read(digests(first)[0] ?? ""));

  const sparse = new HandMade();
  const old = sparse.blob(`{"layers":[${encrypted()}]}`);
  const beside = sparse.index(index(entry(old, tag("a")), entry(missing, tag("gone"))));
  cli("rewrap", `${beside}:a`, "--to", "bob", "--prune");
  assert.not.ok(existsSync(join(sparse.dir, "blobs", digests(old)[0]?.replace(":", "/") ?? "")));
});

test("--prune leaves a manifest that another one has as a layer", () => {
  const image = new HandMade();
  const first = image.blob(`{"layers":[${encrypted()}]}`);
  const other = image.blob(`{"layers":[{"mediaType":"x",${first}}]}`);
  const reference = image.index(index(entry(first, tag("a")), entry(other, tag("b"))));
  cli("rewrap", `${reference}:a`, "--to", "bob", "--prune");
  assert.ok(image.read(digests(first)[0] ?? ""));
});

test("--prune leaves a manifest below an index that another one has as a layer", () => {
  const image = new HandMade();
  const first = image.blob(`{"layers":[${encrypted()}]}`);
  const above = image.blob(index(entry(first)));
  const other = image.blob(`{"layers":[{"mediaType":"x",${above}}]}`);
  const reference = image.index(index(entry(first, tag("a")), entry(other, tag("b")), entry(above, tag("c"), INDEX)));
  cli("rewrap", `${reference}:a`, "--to", "bob", "--prune");
  assert.match(cli("inspect", `${reference}:c`), /alice/);
});

test("of two rewraps at once of one layout none is lost without a word", async () => {
  const image = new HandMade();
  const names = ["a", "b", "c", "d"];
  const layers = Array.from({ length: 20 }, encrypted).join(",");
  const reference = image.index(
    index(...names.map((name) => entry(image.blob(`{"name":"${name}","layers":[${layers}]}`), tag(name)))),
  );
  const codes = await Promise.all(
    names.map(async (name) => {
      const child = spawn(BINARY, ["rewrap", `${reference}:${name}`, "--to", "bob", "--keystore", store], {
        stdio: "ignore",
        env: {},
      });
      const [code] = (await once(child, "close")) as [number];
      return code;
    }),
  );
  assert.ok(codes.includes(0));
  for (const [place, name] of names.entries()) {
    assert.is(
      /bob/.test(cli("inspect", `${reference}:${name}`)),
      codes[place] === 0,
      `${name} ended with ${codes[place]}`,
    );
  }
});

test("keeps the mode of index.json, and a link to it", () => {
  const { image, reference } = single(`{"layers":[${encrypted()}]}`);
  const real = join(image.dir, "real.json");
  renameSync(join(image.dir, "index.json"), real);
  symlinkSync("real.json", join(image.dir, "index.json"));
  chmodSync(real, 0o600);
  cli("rewrap", reference, "--to", "bob");
  assert.is(statSync(real).mode & 0o777, 0o600);
  assert.match(readFileSync(real, "utf8"), digests(image.read())[0] ?? "none");
  assert.equal(readdirSync(image.dir).toSorted(), ["blobs", "index.json", "oci-layout", "real.json"]);
});

testWith(
  process.getuid?.() === 0 ? true : undefined,
  "root",
  "gives new files of a layout the mode and owner of index.json, whatever the umask",
  () => {
    for (const mode of [0o644, 0o664, 0o600]) {
      const { image, reference } = single(`{"layers":[${encrypted()}]}`);
      const path = join(image.dir, "index.json");
      chownSync(path, 1234, 5678);
      chmodSync(path, mode);
      const before = readdirSync(join(image.dir, "blobs/sha256"));
      assert.is(
        spawnSync("sh", ["-c", 'umask 077; exec "$0" rewrap "$1" --to bob --keystore "$2"', BINARY, reference, store])
          .status,
        0,
      );
      const fresh = readdirSync(join(image.dir, "blobs/sha256")).filter((name) => !before.includes(name));
      assert.is(fresh.length, 1);
      for (const file of [path, ...fresh.map((name) => join(image.dir, "blobs/sha256", name))]) {
        const stat = statSync(file);
        assert.equal([stat.mode & 0o777, stat.uid, stat.gid], [mode, 1234, 5678], file);
      }
    }
  },
);

test.run();
