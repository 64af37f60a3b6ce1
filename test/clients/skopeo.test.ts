// The real skopeo, which starts the binary as its ocicrypt.conf says: the example that the project began with, and on.

import { spawnSync } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { constants, copyFileSync, cpSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { open } from "../../src/jwe/open.ts";
import { openStore } from "../../src/keystore/store.ts";
import { moveAnnotations, recipients, schemes } from "../support/annotations.ts";
import { temporaryFolder } from "../support/folders.ts";
import { placeKey, privateKeyPem, storeWithOnly, type PrivateJwk } from "../support/foreign-keys.ts";
import { layerDigests, makeImage, manifestLayers } from "../support/images.ts";
import { sampled, testWith } from "../support/parts.ts";
import { BINARY, succeed, type Result } from "../support/program.ts";
import { findSkopeo, type Skopeo } from "../support/skopeo.ts";
import { kidOf, makeStore, noSecrets } from "../support/stores.ts";

const found = findSkopeo({ download: false, say: () => {} });
const withSkopeo = (name: string, body: (skopeo: Skopeo) => void | Promise<void>): void =>
  testWith(found, "a skopeo with ocicrypt 1.1 or later: run test/support/skopeo.ts", name, body);

/** What stands below a provider's `cmd` in ocicrypt.conf. */
interface Command {
  readonly path: string;
  readonly args: readonly string[];
}

/** A folder to run skopeo in: it has the image `alpine` and, where there are providers, an ocicrypt.conf. */
function workplace(providers: Readonly<Record<string, Command>>, layers = 2): string {
  const dir = temporaryFolder();
  makeImage(join(dir, "alpine"), { layers });
  writeFileSync(
    join(dir, "ocicrypt.conf"),
    JSON.stringify({
      "key-providers": Object.fromEntries(Object.entries(providers).map(([name, cmd]) => [name, { cmd }])),
    }),
  );
  return dir;
}

/** The binary under another name. */
function linkedAs(name: string): string {
  const path = join(temporaryFolder(), name);
  symlinkSync(BINARY, path);
  return path;
}

/** Runs `skopeo copy` in a workplace; the provider learns its store from the environment. */
function copy({ command }: Skopeo, dir: string, store: string, ...args: readonly string[]): Result {
  const [file = "", ...options] = command;
  const env = { OCICRYPT_KEYPROVIDER_CONFIG: join(dir, "ocicrypt.conf"), OCICRYPT_KEYSTORE: store };
  const { status, stdout, stderr } = spawnSync(file, [...options, "copy", ...args], {
    cwd: dir,
    env,
    encoding: "utf8",
    timeout: 60_000,
  });
  // logrus quotes the message as Go does
  return { code: status, stdout, stderr: stderr.replaceAll('\\"', '"') };
}

function mustCopy(skopeo: Skopeo, dir: string, store: string, ...args: readonly string[]): void {
  const { code, stderr } = copy(skopeo, dir, store, ...args);
  assert.is(code, 0, `skopeo copy ${args.join(" ")}: ${stderr}`);
}

const encryptFor = (keys: readonly string[]): string[] => keys.flatMap((key) => ["--encryption-key", key]);

/** Asserts that `encrypted` opens to `alpine`, layer by layer. */
function assertDecrypts(skopeo: Skopeo, dir: string, store: string, key = "provider:ks"): void {
  rmSync(join(dir, "decrypted"), { recursive: true, force: true });
  mustCopy(skopeo, dir, store, "--decryption-key", key, "oci:encrypted", "oci:decrypted");
  assert.equal(layerDigests(join(dir, "decrypted")), layerDigests(join(dir, "alpine")));
  assert.equal(
    manifestLayers(join(dir, "decrypted")).map(({ mediaType }) => mediaType),
    manifestLayers(join(dir, "alpine")).map(({ mediaType }) => mediaType),
  );
}

/** Asserts that each of these keys of a store alone opens the annotation of each layer of `encrypted`. */
async function assertEachOpens(dir: string, from: string, names: readonly string[]): Promise<void> {
  for (const name of names) {
    const keys = openStore(storeWithOnly(from, name), noSecrets);
    for (const { annotations } of manifestLayers(join(dir, "encrypted"))) {
      const annotation = annotations["org.opencontainers.image.enc.keys.provider.ks"] ?? "";
      assert.match((await open(Buffer.from(annotation, "base64"), keys)).toString(), /^\{"symkey":"/, name);
    }
  }
}

/** Asserts that skopeo fails and shows its user the one line of ours. */
function assertShows({ code, stderr }: Result, line: RegExp): void {
  assert.is(code, 1, stderr);
  const shown = /stderr: (ocicrypt-keystore: .*?)\\n: exit status/.exec(stderr)?.[1];
  assert.match(shown ?? `no line of ours in ${stderr}`, line);
}

/** The kids that each layer of `encrypted` is wrapped for; every layer must be encrypted. */
function kidsOfLayers(dir: string, scheme = "provider.ks"): unknown[][] {
  const layers = manifestLayers(join(dir, "encrypted"));
  const originals = layerDigests(join(dir, "alpine"));
  assert.is(layers.length, originals.length);
  for (const { mediaType, digest } of layers) {
    assert.match(mediaType, /^application\/vnd\.oci\.image\.layer\.v1\.tar\+gzip\+encrypted$/);
    assert.not.ok(originals.includes(digest));
  }
  return layers.map((layer) => recipients(layer, scheme).map(({ kid }) => kid));
}

const FOREIGN = /no private key of the store opens this annotation \(it was made for [\w, -]+\); .*--keystore DIR$/;
const store = makeStore(
  "zoe",
  "abc",
  "alice",
  "bob",
  "rsa:--type rsa --bits 2048",
  "oct:--type oct",
  "p384:--curve P-384",
  "p521:--curve P-521",
);
const ks: Command = { path: BINARY, args: ["--provider", "ks"] };
const kids = (...names: readonly string[]): string[] => names.map((name) => kidOf(store, name));

for (const [how, place] of [
  ["a symlink to it", (path: string) => symlinkSync(BINARY, path)],
  ["a copy of it", (path: string) => copyFileSync(BINARY, path, constants.COPYFILE_FICLONE)],
] as const) {
  withSkopeo(`the first example works as it was written, the binary being ${how}`, (skopeo) => {
    const path = join(temporaryFolder(), "simplecrypt");
    place(path);
    const dir = workplace({ simplecrypt: { path, args: [] } });
    mustCopy(skopeo, dir, store, "--encryption-key", "provider:simplecrypt:abc", "oci:alpine", "oci:encrypted");
    assert.equal(kidsOfLayers(dir, "provider.simplecrypt"), [kids("abc"), kids("abc")]);
    for (const layer of manifestLayers(join(dir, "encrypted")))
      assert.ok("org.opencontainers.image.enc.keys.provider.simplecrypt" in layer.annotations);
    mustCopy(
      skopeo,
      dir,
      store,
      "--decryption-key",
      "provider:simplecrypt:extra-params",
      "oci:encrypted",
      "oci:decrypted",
    );
    assert.equal(layerDigests(join(dir, "decrypted")), layerDigests(join(dir, "alpine")));
  });
}

withSkopeo("what `config` prints is an ocicrypt.conf that skopeo takes as it is", (skopeo) => {
  const dir = workplace({});
  writeFileSync(join(dir, "ocicrypt.conf"), succeed(["config", "--keystore", store, "--provider", "ks"]));
  mustCopy(skopeo, dir, "/nonexistent", "--encryption-key", "provider:ks:alice", "oci:alpine", "oci:encrypted");
  assert.equal(kidsOfLayers(dir), [kids("alice"), kids("alice")]);
  assertDecrypts(skopeo, dir, "/nonexistent");
});

for (const [flag, hints] of [
  ["provider:ks", ["provider:ks:", "provider:ks:abc"]],
  ["provider:ks:", ["provider:ks", "provider:ks:extra-params"]],
] as const) {
  withSkopeo(`${flag} means the default key`, (skopeo) => {
    const dir = workplace({ ks }, 1);
    mustCopy(skopeo, dir, store, "--encryption-key", flag, "oci:alpine", "oci:encrypted");
    assert.equal(kidsOfLayers(dir), [kids("zoe")]);
    for (const hint of hints) assertDecrypts(skopeo, dir, store, hint);
  });
}

for (const [place, [form, flags]] of [
  ["two flags", encryptFor(["provider:ks:alice", "provider:ks:bob"])],
  ["one flag with a comma", encryptFor(["provider:ks:alice,provider:ks:bob"])],
  ["a:b", encryptFor(["provider:ks:alice:bob"])],
  [
    "a kid in place of a name, and a repetition",
    encryptFor([`provider:ks:${kidOf(store, "alice")}`, "provider:ks:bob:alice"]),
  ],
].entries() as Iterable<[number, [form: string, flags: string[]]]>) {
  withSkopeo(`${form}: one annotation for two recipients, each of whom opens it alone`, async (skopeo) => {
    const dir = workplace({ ks });
    mustCopy(skopeo, dir, store, ...flags, "oci:alpine", "oci:encrypted");
    assert.equal(kidsOfLayers(dir), [kids("alice", "bob"), kids("alice", "bob")]);
    const names = ["alice", "bob"];
    await assertEachOpens(dir, store, names);
    for (const name of sampled(names, 2, place)) assertDecrypts(skopeo, dir, storeWithOnly(store, name));
    if (!sampled([0, 1, 2, 3], 4).includes(place)) return;
    const others = copy(
      skopeo,
      dir,
      storeWithOnly(store, "zoe"),
      "--decryption-key",
      "provider:ks",
      "oci:encrypted",
      "oci:stolen",
    );
    assertShows(others, FOREIGN);
    for (const kid of kids("alice", "bob")) assert.match(others.stderr, kid);
  });
}

withSkopeo("a machine with public keys only encrypts, and cannot decrypt", (skopeo) => {
  const publicOnly = join(temporaryFolder(), "store");
  cpSync(store, publicOnly, { recursive: true, filter: (path) => !path.includes("/private/") });
  const dir = workplace({ ks }, 1);
  mustCopy(skopeo, dir, publicOnly, ...encryptFor(["provider:ks:alice:rsa"]), "oci:alpine", "oci:encrypted");
  assertDecrypts(skopeo, dir, store);
  assertShows(copy(skopeo, dir, publicOnly, "--decryption-key", "provider:ks", "oci:encrypted", "oci:stolen"), FOREIGN);
});

withSkopeo(
  "an unknown recipient, a missing store and a foreign store: skopeo shows the one line that says so",
  (skopeo) => {
    const dir = workplace({ ks }, 1);
    const encrypt = (key: string, at: string): Result =>
      copy(skopeo, dir, at, "--encryption-key", key, "oci:alpine", "oci:encrypted");
    assertShows(
      encrypt("provider:ks:alice:nobody", store),
      /unknown recipient "nobody": .*; see ocicrypt-keystore list, or make a key with ocicrypt-keystore keygen NAME$/,
    );
    assertShows(
      encrypt("provider:ks:alice", join(dir, "none")),
      /no key store at \S+\/none; make one with ocicrypt-keystore keygen NAME/,
    );
    assert.is(encrypt("provider:ks:alice", store).code, 0);
    const foreign = makeStore("alice");
    assertShows(
      copy(skopeo, dir, foreign, "--decryption-key", "provider:ks:alice", "oci:encrypted", "oci:decrypted"),
      FOREIGN,
    );
  },
);

withSkopeo(
  "eight layers, wrapped and unwrapped in parallel for EC, RSA and symmetric keys: each key opens all of them",
  async (skopeo) => {
    const dir = workplace({ ks }, 8);
    const names = ["oct", "alice", "rsa", "p384", "p521"];
    mustCopy(
      skopeo,
      dir,
      store,
      ...encryptFor(names.map((name) => `provider:ks:${name}`)),
      "oci:alpine",
      "oci:encrypted",
    );
    assert.equal(
      kidsOfLayers(dir),
      Array.from({ length: 8 }, () => kids(...names)),
    );
    const algorithms = manifestLayers(join(dir, "encrypted")).map((layer) =>
      recipients(layer, "provider.ks").map(({ alg }) => alg),
    );
    assert.equal(algorithms[7], ["A256KW", "ECDH-ES+A256KW", "RSA-OAEP-256", "ECDH-ES+A256KW", "ECDH-ES+A256KW"]);
    await assertEachOpens(dir, store, names);
    for (const name of sampled(names, 3)) assertDecrypts(skopeo, dir, storeWithOnly(store, name));
  },
);

withSkopeo("a partly encrypted image opens to the whole", (skopeo) => {
  const dir = workplace({ ks }, 3);
  mustCopy(
    skopeo,
    dir,
    store,
    "--encrypt-layer",
    "0",
    "--encrypt-layer",
    "-1",
    "--encryption-key",
    "provider:ks:alice",
    "oci:alpine",
    "oci:encrypted",
  );
  assert.equal(manifestLayers(join(dir, "encrypted")).map(schemes), [["provider.ks"], [], ["provider.ks"]]);
  assertDecrypts(skopeo, dir, store);
});

for (const [place, [how, providers]] of [
  [
    "the name each was started by, ocicrypt- before it or not",
    { first: { path: linkedAs("first"), args: [] }, second: { path: linkedAs("ocicrypt-second"), args: [] } },
  ],
  [
    "--provider in args",
    { first: { path: BINARY, args: ["--provider", "first"] }, second: { path: BINARY, args: ["--provider=second"] } },
  ],
].entries() as Iterable<[number, [how: string, providers: Record<string, Command>]]>) {
  withSkopeo(`two providers on one command line are told apart by ${how}`, (skopeo) => {
    const dir = workplace(providers);
    mustCopy(
      skopeo,
      dir,
      store,
      ...encryptFor(["provider:first:alice", "provider:second:bob:rsa"]),
      "oci:alpine",
      "oci:encrypted",
    );
    assert.equal(manifestLayers(join(dir, "encrypted")).map(schemes), [
      ["provider.first", "provider.second"],
      ["provider.first", "provider.second"],
    ]);
    assert.equal(kidsOfLayers(dir, "provider.first"), [kids("alice"), kids("alice")]);
    assert.equal(kidsOfLayers(dir, "provider.second"), [kids("bob", "rsa"), kids("bob", "rsa")]);
    for (const name of sampled(["alice", "bob", "rsa"], 2, place))
      assertDecrypts(skopeo, dir, storeWithOnly(store, name), "provider:first");
  });
}

withSkopeo("two providers that nothing tells apart: the line names the setting that does", (skopeo) => {
  const dir = workplace({ first: { path: BINARY, args: [] }, second: { path: BINARY, args: [] } });
  const result = copy(
    skopeo,
    dir,
    store,
    ...encryptFor(["provider:first:alice", "provider:second:bob"]),
    "oci:alpine",
    "oci:encrypted",
  );
  assertShows(
    result,
    /several providers \("(first", "second|second", "first)"\),? .*; set the name: "args": \["--provider", "NAME"\] in ocicrypt\.conf, or serve --provider NAME$/,
  );
});

withSkopeo(
  "two entries of one binary are refused, even if one has the binary's name: both would wrap for it",
  (skopeo) => {
    const dir = workplace({ keystore: { path: BINARY, args: [] }, second: { path: BINARY, args: [] } });
    const keys = encryptFor(["provider:keystore:alice", "provider:second:bob"]);
    assertShows(
      copy(skopeo, dir, store, ...keys, "oci:alpine", "oci:encrypted"),
      /ocicrypt\.conf starts this program without a name for "keystore", "second"; set the name: "args": \["--provider"/,
    );
  },
);

withSkopeo("two providers with a store each, named in their args", (skopeo) => {
  const [blue, green] = [makeStore("key"), makeStore("key")];
  const provider = (name: string, dir: string): Command => ({
    path: BINARY,
    args: ["--keystore", dir, "--provider", name],
  });
  const dir = workplace({ blue: provider("blue", blue), green: provider("green", green) }, 1);
  mustCopy(
    skopeo,
    dir,
    "/nonexistent",
    ...encryptFor(["provider:blue", "provider:green:key"]),
    "oci:alpine",
    "oci:encrypted",
  );
  assert.equal(kidsOfLayers(dir, "provider.blue")[0], [kidOf(blue, "key")]);
  assert.equal(kidsOfLayers(dir, "provider.green")[0], [kidOf(green, "key")]);
  rmSync(blue, { recursive: true });
  assertDecrypts(skopeo, dir, "/nonexistent", "provider:green");
});

// ocicrypt's built-in jwe: the same JWE under another annotation.

const GROUPS = [["rsa"], ["alice"], ["p384"], ["p521"], ["rsa", "alice"], ["bob", "rsa"], ["alice", "bob"]];
for (const names of sampled(GROUPS, 3)) {
  withSkopeo(`ocicrypt's own jwe opens with a plain key file what was wrapped for ${names.join(" and ")}`, (skopeo) => {
    const dir = workplace({ ks }, 1);
    mustCopy(
      skopeo,
      dir,
      store,
      ...encryptFor(names.map((name) => `provider:ks:${name}`)),
      "oci:alpine",
      "oci:encrypted",
    );
    moveAnnotations(join(dir, "encrypted"), "provider.ks", "jwe");
    assert.equal(manifestLayers(join(dir, "encrypted")).map(schemes), [["jwe"]]);
    rmSync(join(dir, "ocicrypt.conf"));
    for (const name of names) assertDecrypts(skopeo, dir, "/nonexistent", privateKeyPem(store, name));
    const other = copy(
      skopeo,
      dir,
      "/nonexistent",
      "--decryption-key",
      privateKeyPem(store, "zoe"),
      "oci:encrypted",
      "oci:stolen",
    );
    assert.is(other.code, 1);
  });
}

/** A key pair that knows nothing of us: the JWK, and the public key's PEM file. */
function foreignKey(kind: string): { jwk: PrivateJwk; pem: string } {
  const { publicKey, privateKey } =
    kind === "RSA"
      ? generateKeyPairSync("rsa", { modulusLength: 2048 })
      : generateKeyPairSync("ec", { namedCurve: kind });
  const pem = join(temporaryFolder(), "public.pem");
  writeFileSync(pem, publicKey.export({ type: "spki", format: "pem" }));
  return { jwk: { ...privateKey.export({ format: "jwk" }) }, pem };
}

const KINDS = [
  ["RSA"],
  ["P-256"],
  ["P-384"],
  ["P-521"],
  ["RSA", "P-256"],
  ["P-256", "RSA"],
  ["P-256", "P-256"],
  ["RSA", "RSA"],
];
for (const kinds of sampled(KINDS, 3)) {
  withSkopeo(`what ocicrypt's own jwe wrote for ${kinds.join(" and ")} opens with that key in a store`, (skopeo) => {
    const dir = workplace({ ks }, 1);
    const keys = kinds.map(foreignKey);
    mustCopy(skopeo, dir, store, ...encryptFor(keys.map(({ pem }) => `jwe:${pem}`)), "oci:alpine", "oci:encrypted");
    moveAnnotations(join(dir, "encrypted"), "jwe", "provider.ks");
    assert.equal(manifestLayers(join(dir, "encrypted")).map(schemes), [["provider.ks"]]);
    assertShows(
      copy(skopeo, dir, store, "--decryption-key", "provider:ks", "oci:encrypted", "oci:stolen"),
      /no private key of the store opens this annotation \(it names no kid\); /,
    );
    for (const { jwk } of keys) {
      const receiver = join(temporaryFolder(), "store");
      cpSync(store, receiver, { recursive: true });
      placeKey(receiver, "foreign", jwk);
      assertDecrypts(skopeo, dir, receiver);
    }
  });
}

withSkopeo("beside ocicrypt's own jwe on one command line both open the image, each alone", (skopeo) => {
  const dir = workplace({ ks: { path: BINARY, args: [] } }, 1);
  const friend = join(temporaryFolder(), "store");
  const { jwk, pem: publicPem } = foreignKey("RSA");
  placeKey(friend, "friend", jwk);
  const pem = privateKeyPem(friend, "friend");
  mustCopy(skopeo, dir, store, ...encryptFor([`jwe:${publicPem}`, "provider:ks:alice"]), "oci:alpine", "oci:encrypted");
  assert.equal(manifestLayers(join(dir, "encrypted")).map(schemes), [["jwe", "provider.ks"]]);
  assertDecrypts(skopeo, dir, store);
  assertDecrypts(skopeo, dir, friend, pem);
  assertDecrypts(skopeo, dir, storeWithOnly(store, "zoe"), pem);
});

test.run();
