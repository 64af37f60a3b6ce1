// Layouts that somebody made to mislead, and odd ones that are right: no false word about them.

import { spawnSync } from "node:child_process";
import { mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { encryptedLayer, entry, HandMade, index, INDEX, second, single, tag } from "../support/encrypted-images.ts";
import { temporaryFolder } from "../support/folders.ts";
import { assertFailure, BINARY, run, runHere, succeed, throughBinary } from "../support/program.ts";
import { kidOf, makeStore } from "../support/stores.ts";

runHere();
const store = makeStore("alice", "bob");
const PLAIN = `{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:${"1".repeat(64)}","size":1}`;
const encrypted = (): string => encryptedLayer(store, ["alice"]);
const cli = (...args: readonly string[]): string => succeed([...args, "--keystore", store]);
const refused = (exitCode: number, ...args: readonly string[]): string =>
  assertFailure(run([...args, "--keystore", store]), exitCode);
/** A command that fails after it has printed its report. */
const failsAfter = (...args: readonly string[]): string => {
  const { code, stderr } = run([...args, "--keystore", store]);
  assert.is(code, 1, stderr);
  return stderr;
};

for (const [name, manifest] of [
  ["a manifest that is an index too", `{"manifests":[],"layers":[${PLAIN}]}`],
  ["an index with a configuration", '{"manifests":[],"config":{"mediaType":"c"}}'],
  ["layers twice, in two spellings that Go takes for one", `{"layers":[],"Layers":[${PLAIN}]}`],
  ["layers in a spelling that only Unicode takes for one", `{"layers":[],"layer\u017f":[${PLAIN}]}`],
  ["layers in another spelling beside manifests", `{"manifests":[],"Layers":[${PLAIN}]}`],
  ["an annotation in a spelling that only Go reads", `{"layers":[${PLAIN.replace("}", ',"Annotations":{}}')}]}`],
  [
    "a media type in two spellings",
    `{"layers":[{"mediaType":"x+encrypted","MediaType":"x",${PLAIN.slice(PLAIN.indexOf('"digest"'))}]}`,
  ],
] as const) {
  test(`refuses ${name}: clients may see another image in it`, () => {
    assert.match(
      refused(1, "inspect", single(manifest).reference, "--require-encrypted"),
      /is both an index and a manifest|has a member in two spellings|has a member that is spelled "\w+"/,
    );
  });
}

test("--require-encrypted takes no annotation's word for an attestation, and no media type's for a key", () => {
  const attestation = ',"annotations":{"vnd.docker.reference.type":"attestation-manifest"}';
  assert.match(
    failsAfter("inspect", single(`{"layers":[${PLAIN}]}`, attestation).reference, "--require-encrypted"),
    /1 layer .* is not encrypted/,
  );
  const keyless = PLAIN.replace("v1.tar", "v1.tar+encrypted");
  assert.match(
    failsAfter("inspect", single(`{"layers":[${keyless}]}`).reference, "--require-encrypted"),
    /1 layer .* is not encrypted/,
  );
  cli(
    "inspect",
    single(
      `{"layers":[${PLAIN.replace(/application[^"]*/, "application/vnd.in-toto+json")},${encrypted()}]}`,
      attestation,
    ).reference,
    "--require-encrypted",
  );
});

test("--require-encrypted wants an annotation that tells for whom, and names the schemes that do not", () => {
  const base64 = (jwe: unknown): string => Buffer.from(JSON.stringify(jwe)).toString("base64");
  const layer = encrypted();
  const jwe = JSON.parse(Buffer.from(/keystore":"([^"]*)/.exec(layer)?.[1] ?? "", "base64").toString()) as {
    recipients: { header: object }[];
  };
  const { recipients, ...rest } = jwe;
  const [recipient] = recipients;
  const only = (scheme: string, value: string): string =>
    layer.replace(/provider\.keystore":"[^"]*/, `${scheme}":"${value}`);
  const cases: readonly [scheme: string, value: string][] = [
    ["jwe", "AAAA"],
    ["jwe", "AAAA,AAAA"],
    ["provider.keystore", "AAAA"],
    ["nonsense", "AAAA"],
    ["nonsense", base64(jwe)],
    ["pgp", base64(jwe)],
    ["pkcs7", "MIIB"],
    ["pkcs11", base64({ version: 0, blobs: [] })],
    ["provider.", base64(jwe)],
    ["jwe", base64({ ...rest, recipients: [] })],
    ["jwe", base64(rest)],
    ...[{ alg: "RSA-OAEP" }, { alg: "ECDH-ES+A256KW" }].map((header): [string, string] => [
      "jwe",
      base64({ ...rest, recipients: [{ header }] }),
    ]),
    ...["", 5].map((kid): [string, string] => [
      "jwe",
      base64({ ...rest, recipients: [{ ...recipient, header: { ...recipient?.header, kid } }] }),
    ]),
    ["jwe", base64({ ...rest, recipients: [{}] })],
    ["jwe", base64({ ...rest, recipients: [{ ...recipient, header: { alg: "dir" } }] })],
    ["provider.kms", base64({ key_url: "kms://key", wrapped_key: "AA" })],
  ];
  for (const [scheme, value] of cases) {
    const line = failsAfter(
      "inspect",
      single(`{"layers":[${only(scheme, value)},${layer}]}`).reference,
      "--require-encrypted",
    );
    assert.match(
      line,
      new RegExp(
        `1 layer of .* has no readable recipients \\(${scheme.replace("provider.", "provider:")}\\), the first is sha256:.*; .*jwe and provider:NAME`,
      ),
      `${scheme} ${value}`,
    );
  }
  cli("inspect", single(`{"layers":[${second(layer, "pgp", "AAAA")}]}`).reference, "--require-encrypted");
  cli("inspect", single(`{"layers":[${only("jwe", `AAAA,${base64(jwe)}`)}]}`).reference, "--require-encrypted");
});

test("--require-encrypted counts a statement in an image as the plain layer that it is", () => {
  const statement = PLAIN.replace(/application[^"]*/, "application/vnd.in-toto+json");
  const image = new HandMade();
  const config = `{"mediaType":"application/vnd.oci.image.config.v1+json",${image.blob('{"config":{"Env":["A=1",{"toString":1},[[["B"]]]]}}')}}`;
  const manifest = `{"config":${config},"layers":[${statement},${encrypted()}]}`;
  assert.match(
    failsAfter("inspect", image.index(index(entry(image.blob(manifest)))), "--require-encrypted"),
    /1 layer .* is not encrypted/,
  );
});

test("takes the image that skopeo takes: by its place, by the tag behind the first colon", () => {
  const image = new HandMade();
  const [plain, secret] = [`{"layers":[${PLAIN}]}`, `{"layers":[${encrypted()}]}`].map((manifest) =>
    image.blob(manifest),
  ) as [string, string];
  const reference = image.index(index(entry(secret, tag("@1")), entry(plain)));
  assert.match(failsAfter("inspect", `${reference}:@1`, "--require-encrypted"), /1 layer .* is not encrypted/);
  cli("inspect", `${reference}:@0`, "--require-encrypted");
  assert.match(refused(1, "inspect", `${reference}:@2`), /no image @2 in/);
  const beside = new HandMade();
  beside.index(index(entry(beside.blob(`{"layers":[${encrypted()}]}`), tag("v1"))));
  renameSync(beside.dir, `${image.dir}:v1`);
  assert.match(refused(1, "inspect", `${reference}:v1`, "--require-encrypted"), /no image v1 in/);
});

test("reads no other file than the one that was named: a name that is not UTF-8, an empty archive, a name without end", () => {
  const odd = Buffer.concat([Buffer.from("oci:/tmp/"), Buffer.from([0xff])]).toString("latin1");
  const { status, stderr } = spawnSync(
    "sh",
    ["-c", `exec "$0" inspect "$(printf '${odd.replace("\u00ff", "\\377")}')"`, BINARY],
    { encoding: "utf8" },
  );
  assert.is(status, 2, stderr);
  assert.match(stderr, "an argument is not UTF-8; ");
  assert.match(refused(1, "inspect", "oci-archive:/proc/version"), "is empty");
  assert.match(refused(2, "inspect", `docker://${":".repeat(100_000)}`), "has at most 8192 characters");
});

test("--require-encrypted fails where there is no encrypted layer at all", () => {
  assert.match(
    failsAfter("inspect", single('{"layers":[]}').reference, "--require-encrypted"),
    /has no encrypted layer/,
  );
  assert.match(
    failsAfter("inspect", single('{"manifests":[]}').reference, "--require-encrypted"),
    /has no encrypted layer/,
  );
});

test("ends on an index whose entries multiply without a manifest", () => {
  const image = new HandMade();
  let child = image.blob(index());
  for (let depth = 0; depth < 6; depth++)
    child = image.blob(index(...Array.from({ length: 100 }, () => entry(child, "", INDEX))));
  assert.match(
    throughBinary(() =>
      assertFailure(run(["inspect", image.index(index(entry(child, "", INDEX)))], { timeout: 15_000 }), 1),
    ),
    /more than 10,?000 documents/,
  );
});

test("tells the limit that an image is beyond, instead of working on it for minutes", () => {
  const image = new HandMade();
  const times = (count: number, text: string): string[] => Array<string>(count).fill(text);
  const layer = encrypted();
  const keys = (count: number): string => layer.replace(/keystore":"/, `$&${"AAAA,".repeat(count)}`);
  const large = image.blob(`{"layers":[${PLAIN}],"pad":"${"x".repeat(4_000_000)}"}`);
  const config = `{"mediaType":"application/vnd.oci.image.config.v1+json",${image.blob(`{"pad":"${"x".repeat(4_000_000)}"}`)}}`;
  const cases: readonly [index: string, limit: RegExp, command: readonly string[]][] = [
    [index(...times(9000, entry(large))), /has documents of more than 256 MiB/, ["inspect"]],
    [
      index(...times(9000, entry(image.blob(`{"config":${config},"layers":[]}`)))),
      /has documents of more than 256 MiB/,
      ["inspect"],
    ],
    [
      index(...times(500, entry(image.blob(`{"layers":[${times(300, PLAIN).join(",")}]}`)))),
      /has more than 100000 layers/,
      ["inspect"],
    ],
    [index(entry(image.blob(`{"layers":[${keys(200_000)}]}`))), /has more than 100000 wrapped keys/, ["inspect"]],
    [
      index(entry(image.blob(`{"layers":[${keys(1000)}]}`))),
      /layer sha256:\w+ has more than 1000 wrapped keys/,
      ["rewrap", "--to", "bob"],
    ],
    [
      index(entry(image.blob(`{"layers":[${times(101, keys(990)).join(",")}]}`))),
      /has more than 100000 wrapped keys/,
      ["rewrap", "--to", "bob"],
    ],
  ];
  for (const [text, limit, [command = "", ...args]] of cases)
    assert.match(refused(1, command, image.index(text), ...args), limit);
});

test("prints nothing of an image that moves the cursor, and takes no kid for a name", () => {
  const escape = "\\u001b[2J";
  const layer = encrypted().replaceAll("provider.keystore", "provider.\u009b2J").replace("tar+gzip", `${escape}tar`);
  const image = new HandMade();
  const config = image.blob(`{"config":{"Env":["${escape}=1"],"Labels":{"${escape}":"b"}}}`);
  const reference = image.index(
    index(
      entry(
        image.blob(`{"config":{"mediaType":"application/vnd.oci.image.config.v1+json",${config}},"layers":[${layer}]}`),
      ),
    ),
  );
  // oxlint-disable-next-line no-control-regex -- these are what must not pass
  const control = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/;
  assert.not.match(cli("inspect", reference), control);
  assert.not.match(cli("rewrap", reference, "--to", "bob"), control);

  const kid = kidOf(store, "alice");
  const posing = encrypted().replace(
    /(keystore":")([^"]*)/,
    (_, start: string, value: string) =>
      start + Buffer.from(Buffer.from(value, "base64").toString().replace(kid, "bob (RSA), x")).toString("base64"),
  );
  assert.match(cli("inspect", single(`{"layers":[${posing}]}`).reference), /: "bob \(RSA\), x" \(ECDH/);
});

test("inspects Windows images, and artifacts whose configuration is no JSON", () => {
  for (const [config, type] of [
    ['{"config":{"Volumes":{"C:\\\\data":{}},"Env":["A=1"]}}', "application/vnd.oci.image.config.v1+json"],
    ["#!/bin/sh", "text/x-sh"],
  ] as const) {
    const image = new HandMade();
    cli(
      "inspect",
      image.index(
        index(entry(image.blob(`{"config":{"mediaType":"${type}",${image.blob(config)}},"layers":[${encrypted()}]}`))),
      ),
    );
  }
});

test("refuses a document that one of several ways to it finds nested too deep", () => {
  const image = new HandMade();
  const manifest = image.blob(`{"layers":[${encrypted()}]}`);
  const wrapped = (inner: string, times: number): string =>
    times === 0 ? inner : wrapped(image.blob(index(entry(inner, "", INDEX))), times - 1);
  const shared = wrapped(manifest, 3);
  const deep = (more: number): string =>
    image.index(index(entry(shared, "", INDEX), entry(wrapped(shared, more), "", INDEX)));
  cli("rewrap", deep(4), "--to", "bob", "--dry-run");
  assert.match(refused(1, "rewrap", deep(5), "--to", "bob"), /document sha256:\w+ is nested too deep/);
  assert.match(refused(1, "inspect", deep(5)), /document sha256:\w+ is nested too deep/);
});

test("is not held up by a FIFO or a folder in the place of a document", () => {
  const dir = temporaryFolder();
  mkdirSync(join(dir, "index.json"));
  assert.match(refused(1, "inspect", `oci:${dir}`), /index\.json is not a regular file/);
  rmSync(join(dir, "index.json"), { recursive: true });
  writeFileSync(join(dir, "index.json"), "x".repeat(5_000_000));
  assert.match(refused(1, "inspect", `oci:${dir}`), /index\.json is larger than 4096 KiB/);
});

test.run();
