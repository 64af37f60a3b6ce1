// rewrap: real skopeo opens with the new keys and no longer with the old.

import { cpSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  assertDecrypts,
  copy,
  encryptedLayer,
  entry,
  HandMade,
  onlyPrivate,
  skopeo,
  tag,
} from "../support/encrypted-images.ts";
import { temporaryFolder } from "../support/folders.ts";
import { makeImage, manifestLayers } from "../support/images.ts";
import { testWith } from "../support/parts.ts";
import { assertFailure, run, runHere, succeed, throughBinary } from "../support/program.ts";
import { kidOf, makeStore } from "../support/stores.ts";

const NONE = "a skopeo that knows provider:";
runHere();
const store = makeStore("alice", "bob:--type rsa --bits 2048", "carol:--type oct", "dave:--curve P-384");
const plain = join(temporaryFolder(), "plain");
makeImage(plain, { layers: 3 });
const cli = (...args: readonly string[]): string => succeed([...args, "--keystore", store]);
const only = (...names: readonly string[]): string => onlyPrivate(store, ...names.map((name) => kidOf(store, name)));
const keyFile = (name: string, ...args: readonly string[]): string => {
  const path = join(temporaryFolder(), `${name}.pem`);
  cli("export", name, "--format", "pem", "-o", path, ...args);
  return path;
};
const encrypted = (tool: NonNullable<typeof skopeo>, key: string, ...args: readonly string[]): string => {
  const dir = join(temporaryFolder(), "encrypted");
  const { ok, stderr } = copy(tool, store, "--encryption-key", key, ...args, `oci:${plain}`, `oci:${dir}:latest`);
  assert.ok(ok, stderr);
  return dir;
};

testWith(skopeo, NONE, "gives a provider's image to somebody else: provider → provider", (tool) => {
  const dir = encrypted(tool, "provider:keystore:alice");
  const before = manifestLayers(dir).map(({ digest }) => digest);
  throughBinary(() => succeed(["rewrap", `oci:${dir}`, "--to", "bob", "--keystore", store]));
  assert.equal(
    manifestLayers(dir).map(({ digest }) => digest),
    before,
    "the layers are untouched",
  );
  assertDecrypts(tool, only("bob"), `oci:${dir}`, plain, "--decryption-key", "provider:keystore");
  assert.not.ok(
    copy(tool, only("alice"), "--decryption-key", "provider:keystore", `oci:${dir}`, `oci:${temporaryFolder()}/x`).ok,
  );
});

testWith(skopeo, NONE, "leaves nothing for a retired key after rotate and rewrap --to", (tool) => {
  const own = makeStore("erin");
  const old = kidOf(own, "erin");
  const dir = join(temporaryFolder(), "encrypted");
  assert.ok(copy(tool, own, "--encryption-key", "provider:keystore:erin", `oci:${plain}`, `oci:${dir}:latest`).ok);
  const fresh = succeed(["rotate", "erin", "--keystore", own]).trim();
  assertDecrypts(tool, own, `oci:${dir}`, plain, "--decryption-key", "provider:keystore");
  succeed(["rewrap", `oci:${dir}`, "--to", "erin", "--prune", "--keystore", own]);
  assertDecrypts(tool, onlyPrivate(own, fresh), `oci:${dir}`, plain, "--decryption-key", "provider:keystore");
  assert.not.ok(
    copy(
      tool,
      onlyPrivate(own, old),
      "--decryption-key",
      "provider:keystore",
      `oci:${dir}`,
      `oci:${temporaryFolder()}/x`,
    ).ok,
  );
  assert.not.match(succeed(["inspect", `oci:${dir}`, "--json", "--keystore", own]), old);
});

testWith(
  skopeo,
  NONE,
  "takes over an image of the built-in jwe: jwe → provider, with the store's key or a key file",
  (tool) => {
    for (const name of ["alice", "bob"]) {
      const dir = encrypted(tool, `jwe:${keyFile(name)}`);
      cli("rewrap", `oci:${dir}`, "--from", "jwe", "--as", "provider:keystore", "--to", "dave");
      assertDecrypts(tool, only("dave"), `oci:${dir}`, plain, "--decryption-key", "provider:keystore");
      assert.not.match(JSON.stringify(manifestLayers(dir)), "enc.keys.jwe");
    }
    const dir = encrypted(tool, `jwe:${keyFile("alice")}`);
    succeed([
      "rewrap",
      `oci:${dir}`,
      "--as",
      "provider:keystore",
      "--to",
      "bob",
      "--key",
      keyFile("alice", "--private"),
      "--keystore",
      only(),
    ]);
    assertDecrypts(tool, only("bob"), `oci:${dir}`, plain, "--decryption-key", "provider:keystore");
  },
);

testWith(skopeo, NONE, "hands an image to the built-in jwe: provider → jwe, EC and RSA at once", (tool) => {
  const dir = encrypted(tool, "provider:keystore:alice");
  cli("rewrap", `oci:${dir}`, "--as", "jwe", "--to", "bob", "--to", "alice");
  for (const name of ["alice", "bob"])
    assertDecrypts(tool, only(), `oci:${dir}`, plain, "--decryption-key", keyFile(name, "--private"));
  assert.match(
    assertFailure(run(["rewrap", `oci:${dir}`, "--to", "carol", "--keystore", store]), 1),
    /no annotation with a recipient of alg A256KW.*--as provider:NAME/,
  );
});

testWith(skopeo, NONE, "adds and removes recipients, a symmetric key beside EC, in two comma parts", (tool) => {
  const dir = encrypted(tool, "provider:keystore:alice");
  cli("rewrap", `oci:${dir}`, "--add", "carol");
  assert.match(
    manifestLayers(dir)[0]?.annotations["org.opencontainers.image.enc.keys.provider.keystore"] ?? "",
    /^[^,]+,[^,]+$/,
  );
  for (const name of ["alice", "carol"])
    assertDecrypts(tool, only(name), `oci:${dir}`, plain, "--decryption-key", "provider:keystore");
  cli("rewrap", `oci:${dir}`, "--remove", "alice");
  assertDecrypts(tool, only("carol"), `oci:${dir}`, plain, "--decryption-key", "provider:keystore");
  assert.not.ok(
    copy(tool, only("alice"), "--decryption-key", "provider:keystore", `oci:${dir}`, `oci:${temporaryFolder()}/x`).ok,
  );
  const several = encrypted(tool, "provider:keystore:alice:bob:carol");
  cli("rewrap", `oci:${several}`, "--remove", kidOf(store, "bob"));
  assertDecrypts(tool, only("carol"), `oci:${several}`, plain, "--decryption-key", "provider:keystore");
  assert.not.ok(
    copy(tool, only("bob"), "--decryption-key", "provider:keystore", `oci:${several}`, `oci:${temporaryFolder()}/x`).ok,
  );
});

testWith(skopeo, NONE, "rewraps a partly encrypted image and one with zstd layers", (tool) => {
  const part = encrypted(tool, "provider:keystore:alice", "--encrypt-layer", "1");
  assert.is(manifestLayers(part).filter(({ mediaType }) => mediaType.endsWith("+encrypted")).length, 1);
  const zstd = join(temporaryFolder(), "zstd");
  assert.ok(copy(tool, store, "--dest-compress-format", "zstd", `oci:${plain}`, `oci:${zstd}:latest`).ok);
  const both = join(temporaryFolder(), "encrypted");
  assert.ok(copy(tool, store, "--encryption-key", "provider:keystore:alice", `oci:${zstd}`, `oci:${both}:latest`).ok);
  assert.match(manifestLayers(both)[0]?.mediaType ?? "", "+zstd+encrypted");
  for (const [dir, original] of [
    [part, plain],
    [both, zstd],
  ] as const) {
    cli("rewrap", `oci:${dir}`, "--to", "bob");
    assertDecrypts(tool, only("bob"), `oci:${dir}`, original, "--decryption-key", "provider:keystore");
  }
});

testWith(skopeo, NONE, "works on an archive, which it writes anew", (tool) => {
  const dir = encrypted(tool, "provider:keystore:alice");
  const archive = join(temporaryFolder(), "image.tar");
  assert.ok(copy(tool, store, `oci:${dir}`, `oci-archive:${archive}:latest`).ok);
  cli("rewrap", `oci-archive:${archive}:latest`, "--to", "bob", "--prune");
  assertDecrypts(tool, only("bob"), `oci-archive:${archive}`, plain, "--decryption-key", "provider:keystore");
});

const PLATFORMS = ["amd64", "arm64"] as const;

/** An index of two platforms that skopeo encrypted, and a plain attestation of the first (skopeo refuses to encrypt those). */
function multiPlatform(tool: NonNullable<typeof skopeo>): { image: HandMade; originals: Map<string, string> } {
  const image = new HandMade();
  const originals = new Map<string, string>();
  const entries = PLATFORMS.map((architecture, place) => {
    const [original, dir] = [join(temporaryFolder(), "plain"), join(temporaryFolder(), "encrypted")];
    makeImage(original, { layers: place + 1, layerBytes: 5000 + place });
    originals.set(architecture, original);
    assert.ok(
      copy(tool, store, "--encryption-key", "provider:keystore:alice", `oci:${original}`, `oci:${dir}:latest`).ok,
    );
    cpSync(join(dir, "blobs"), join(image.dir, "blobs"), { recursive: true });
    const { manifests } = JSON.parse(readFileSync(join(dir, "index.json"), "utf8")) as {
      manifests: { digest: string; size: number }[];
    };
    return `{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"${manifests[0]?.digest ?? ""}","size":${manifests[0]?.size ?? 0},"platform":{"os":"linux","architecture":"${architecture}"}}`;
  });
  const statement = `{"mediaType":"application/vnd.in-toto+json",${image.blob('{"_type":"https://in-toto.io/Statement/v0.1"}')}}`;
  const config = `{"mediaType":"application/vnd.oci.image.config.v1+json",${image.blob("{}")}}`;
  const manifest = image.blob(
    `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":${config},"layers":[${statement}]}`,
  );
  const attested = /sha256:[0-9a-f]{64}/.exec(entries[0] ?? "")?.[0] ?? "";
  entries.push(
    `{"mediaType":"application/vnd.oci.image.manifest.v1+json",${manifest},"annotations":{"vnd.docker.reference.type":"attestation-manifest","vnd.docker.reference.digest":"${attested}"},"platform":{"os":"unknown","architecture":"unknown"}}`,
  );
  const index = image.blob(
    `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[${entries.join(",")}]}`,
  );
  image.index(
    `{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.index.v1+json",${index},"annotations":{"org.opencontainers.image.ref.name":"latest"}}]}`,
  );
  return { image, originals };
}

testWith(
  skopeo,
  NONE,
  "rewraps an index with two platforms and an attestation, and skopeo decrypts each of them",
  (tool) => {
    const { image, originals } = multiPlatform(tool);
    const reference = `oci:${image.dir}:latest`;
    cli("inspect", reference, "--require-encrypted");
    cli("rewrap", reference, "--to", "bob");
    for (const architecture of PLATFORMS) {
      const platform = { ...tool, command: [...tool.command, "--override-arch", architecture] };
      assertDecrypts(
        platform,
        only("bob"),
        reference,
        originals.get(architecture) ?? "",
        "--decryption-key",
        "provider:keystore",
      );
      assert.not.ok(
        copy(platform, only("alice"), "--decryption-key", "provider:keystore", reference, `oci:${temporaryFolder()}/x`)
          .ok,
      );
    }
  },
);

/** An index with two platforms and an attestation, members and numbers that JSON.parse would lose, nested in another index. */
function unusual(): { image: HandMade; reference: string } {
  const image = new HandMade();
  const config = image.blob('{"config":{"Env":["SECRET=1"],"Labels":{"a":"b"}}}');
  const manifest = (name: string, platform: string, layer: string): string =>
    `{"mediaType":"application/vnd.oci.image.manifest.v1+json",${image.blob(`{"schemaVersion":2,"2":1.0,"1":-0,"artifactType":"x/y","config":{"mediaType":"application/vnd.oci.image.config.v1+json",${config}},\n "layers":[ ${layer} ],"subject":{"mediaType":"m","digest":"sha256:${"0".repeat(64)}","size":12345678901234567890},"annotations":{"10":"${name}","2":"z"},"unknown":[1.50,{"b":1,"a":2}],"\\u003cx \\"y\\"\\u003e":"\\u0026"}`)},"platform":{"os":"linux","architecture":"${platform}"},"size2":1.0}`;
  const amd64 = manifest("a", "amd64", encryptedLayer(store, ["alice"]));
  const arm64 = manifest("b", "arm64", encryptedLayer(store, ["alice", "bob"]));
  const statement = `{"mediaType":"application/vnd.in-toto+json",${image.blob("{}")}}`;
  const attested = /sha256:[0-9a-f]{64}/.exec(amd64)?.[0] ?? "";
  const attestation = `{"mediaType":"application/vnd.oci.image.manifest.v1+json",${image.blob(`{"layers":[${statement}]}`)},"annotations":{"vnd.docker.reference.type":"attestation-manifest","vnd.docker.reference.digest":"${attested}"},"platform":{"os":"unknown","architecture":"unknown"}}`;
  const inner = image.blob(
    `{"schemaVersion":2,"manifests":[${amd64},${arm64},${attestation}],"9":0.10,"annotations":{"caf\\u00e9":"\\u00e9"}}`,
  );
  const reference = image.index(
    `{ "schemaVersion" : 2, "manifests":[{"mediaType":"application/vnd.oci.image.index.v1+json",${inner}}],"3":-0 }`,
  );
  return { image, reference };
}

/** The text with everything that a rewrap has to change taken out. */
const masked = (text: string): string =>
  text
    .replace(/"sha256:[0-9a-f]{64}","size":\d+/g, "D")
    .replace(/(enc\.keys\.provider\.keystore"): ?"[^"]*"/g, "$1:K")
    .replace(/(reference\.digest"): ?"[^"]*"/g, "$1:R");

test("keeps every member it does not know, byte for byte, and gets digests and sizes right up the tree", () => {
  const { image, reference } = unusual();
  const digests = (text: string): string[] =>
    [...text.matchAll(/"digest":"(sha256:[0-9a-f]{64})"/g)].map(([, digest = ""]) => digest);
  const tree = (): string[] => {
    const top = image.read();
    const inner = image.read(digests(top)[0]);
    return [top, inner, ...digests(inner).map((digest) => image.read(digest))];
  };
  const before = tree();
  cli("rewrap", reference, "--to", "carol");
  const after = tree();
  assert.equal(after.map(masked), before.map(masked));
  const rows = JSON.parse(cli("inspect", reference, "--json", "--verify")) as {
    manifests: { platform?: string; digest: string }[];
  };
  assert.equal(
    rows.manifests.map(({ platform }) => platform),
    ["linux/amd64", "linux/arm64", "unknown/unknown"],
  );
  assert.match(after[1] ?? "", `"vnd.docker.reference.digest":"${rows.manifests[0]?.digest ?? ""}"`);
  assert.not.match(JSON.stringify(rows), kidOf(store, "alice"));
});

test("writes nothing and ends with 3 where an encrypted layer stays unopened", () => {
  const { image, reference } = unusual();
  const before = image.read();
  assert.match(
    throughBinary(() => assertFailure(run(["rewrap", reference, "--to", "dave", "--keystore", only("bob")]), 3)),
    /no key of the store opens layer sha256:.*nothing was written/,
  );
  assert.match(
    assertFailure(run(["rewrap", reference, "--to", "dave", "--from", "jwe", "--keystore", store]), 3),
    /2 encrypted layers.* by jwe/,
  );
  assert.is(image.read(), before);
});

test("leaves no layer without a recipient, and names nobody it cannot tell", () => {
  const { reference } = unusual();
  assert.match(
    assertFailure(run(["rewrap", reference, "--remove", "alice", "--keystore", store]), 1),
    /would be left without any recipient/,
  );
  assert.match(
    assertFailure(run(["rewrap", reference, "--to", "nobody", "--keystore", store]), 1),
    /unknown recipient "nobody"/,
  );
  assert.match(
    assertFailure(run(["rewrap", reference, "--remove", "nobody", "--keystore", store]), 1),
    /no key named nobody/,
  );
  assert.match(assertFailure(run(["rewrap", reference, "--keystore", store]), 2), /give --to, --add or --remove/);
  assert.match(
    assertFailure(run(["rewrap", reference, "--to", "bob", "--add", "alice", "--keystore", store]), 2),
    /mutually exclusive/,
  );
  assert.match(
    assertFailure(run(["rewrap", reference, "--to", "bob", "--as", "pgp", "--keystore", store]), 2),
    /"pgp" is no scheme to rewrap/,
  );
});

test("prints the table and writes nothing with --dry-run; keeps old manifests until --prune", () => {
  const { image, reference } = unusual();
  const before = image.read();
  const old = /sha256:[0-9a-f]{64}/.exec(before)?.[0] ?? "";
  assert.match(
    cli("rewrap", reference, "--to", "bob", "--dry-run"),
    /provider:keystore  alice +bob\n.*  alice, bob +bob/,
  );
  const foreign = run(["rewrap", reference, "--to", "bob", "--dry-run", "--keystore", only("dave")]);
  assert.not.match(assertFailure(foreign, 3), "nothing was written");
  assert.is(image.read(), before);
  cli("rewrap", reference, "--to", "bob");
  assert.ok(image.read(old));
  cli("rewrap", reference, "--to", "dave", "--prune");
  assert.throws(() =>
    image.read(
      /sha256:[0-9a-f]{64}/.exec(before)?.[0] === old ? (image.read().includes(old) ? old : "sha256:none") : "",
    ),
  );
});

test("--prune leaves a manifest that another tag points to", () => {
  const image = new HandMade();
  const manifest = image.blob(`{"layers":[${encryptedLayer(store, ["alice"])}]}`);
  const tagged = ["one", "two"].map((name) => entry(manifest, tag(name)));
  const reference = image.index(`{"manifests":[${tagged.join(",")}]}`);
  cli("rewrap", `${reference}:one`, "--to", "bob", "--prune");
  assert.match(cli("inspect", `${reference}:one`, "--verify"), /bob \(RSA-OAEP-256\) - opens/);
  assert.match(cli("inspect", `${reference}:two`, "--verify"), /alice \(ECDH-ES\+A256KW\) - opens/);
});

test("says that signatures and referrers do not follow", () => {
  const { reference } = unusual();
  assert.match(
    run(["rewrap", reference, "--to", "bob", "--keystore", store]).stderr,
    /sha256:\w+ is now sha256:\w+\n[^]*signatures and referrers point to the old digests/,
  );
});

test("reads a part in base64url, which one writer emits, and writes standard base64", () => {
  const image = new HandMade();
  const layer = encryptedLayer(store, ["alice"]).replace(
    /(provider\.keystore":")([^"]*)"/,
    (_, name: string, value: string) =>
      `${name}${value.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "")}"`,
  );
  const reference = image.index(
    `{"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json",${image.blob(`{"layers":[${layer}]}`)}}]}`,
  );
  assert.match(cli("rewrap", reference, "--to", "bob"), /alice +bob/);
  assert.match(cli("inspect", reference, "--verify"), /bob \(RSA-OAEP-256\) - opens/);
});

test.run();
