// Real podman and buildah: they run the lines that `config --client` prints for them, against a registry.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { copy, skopeo } from "../support/encrypted-images.ts";
import { temporaryFolder } from "../support/folders.ts";
import { makeImage } from "../support/images.ts";
import { sampled, testWith, tool } from "../support/parts.ts";
import { findPodman, PODMAN_NEEDS, type PodmanMachine } from "../support/podman.ts";
import { succeed } from "../support/program.ts";
import { startRegistry } from "../support/registry.ts";
import { startServer } from "../support/server.ts";
import { makeStore } from "../support/stores.ts";

const found = skopeo && tool("docker-registry") ? findPodman() : undefined;
const NEEDS = `${PODMAN_NEEDS}; docker-registry, and a skopeo that knows provider:`;
const store = makeStore("alice");

const written = new Map<string, string>();
/** A provider file as `config` prints it, made once for the same words. */
function conf(...args: readonly string[]): string {
  const known = written.get(args.join(" "));
  if (known !== undefined) return known;
  const path = join(temporaryFolder(), "ocicrypt.conf");
  writeFileSync(path, succeed(["config", ...args]));
  written.set(args.join(" "), path);
  return path;
}

// A registry with a plain image, and with one of each compression that is encrypted for alice.
let host: string | undefined;
async function registry(): Promise<string> {
  if (host !== undefined) return host;
  const started = await startRegistry();
  const encrypt = ["--encryption-key", "provider:keystore:alice"];
  for (const [name, compression, args] of [
    ["plain", "gzip", []],
    ["gzip", "gzip", encrypt],
    ["zstd", "zstd", encrypt],
  ] as const) {
    const dir = join(temporaryFolder(), "image");
    makeImage(dir, { layers: 2, compression });
    const target = `docker://${started.host}/${name}`;
    const { ok, stderr } = skopeo
      ? copy(skopeo, store, "--dest-tls-verify=false", ...args, `oci:${dir}`, target)
      : { ok: false, stderr: NEEDS };
    assert.ok(ok, stderr);
  }
  return (host = started.host);
}

function must(machine: PodmanMachine, line: string): string {
  const { code, stdout, stderr } = machine.shell(line);
  assert.is(code, 0, `${line}: ${stderr}`);
  return stdout;
}

/** The line that `config --client` prints to do something, with names in place of its capitals. */
function printed(client: string, command: string, names: Readonly<Record<string, string>>): string {
  const text = succeed(["config", "--client", client]);
  const line = new RegExp(`^${client} ${command} .*$`, "m").exec(text)?.[0] ?? `no ${command} in ${text}`;
  return line.replace(/[A-Z]+(?:\/[A-Z]+)?/g, (word) => names[word] ?? word);
}

const CLIENTS = [
  ["podman", "pull"],
  ["buildah", "from"],
] as const;
const COMPRESSIONS = ["gzip", "zstd"] as const;
for (const [place, [client, command]] of CLIENTS.entries()) {
  const pull = `${client} pull`;
  const withKey = "--decryption-key provider:keystore";

  testWith(found, NEEDS, `${client} encrypts and decrypts by the lines that config prints`, async (machineFor) => {
    const images = await registry();
    const names = { NAME: "alice", IMAGE: `${images}/plain`, "REGISTRY/ENCRYPTED": `${images}/by-${client}` };
    const first = machineFor(images, conf("--keystore", store));
    must(first, `${pull} ${images}/plain`);
    must(first, printed(client, "push", names));
    const image = `docker://${images}/by-${client}`;
    assert.match(
      succeed(["inspect", image, "--tls-verify=false", "--require-encrypted", "--keystore", store]),
      /alice/,
    );
    const second = machineFor(images, conf("--keystore", store));
    must(second, printed(client, command, names));
    assert.match(must(second, `${client} images`), new RegExp(`/by-${client} `));
  });

  for (const compression of sampled(COMPRESSIONS, 2, place)) {
    testWith(
      found,
      NEEDS,
      `${client} pulls encrypted ${compression} layers by exec and by serve`,
      async (machineFor) => {
        const [images, server] = [await registry(), await startServer(store)];
        for (const args of [
          ["--keystore", store],
          ["--grpc", server.address],
        ])
          must(machineFor(images, conf(...args)), `${pull} ${withKey} ${images}/${compression}`);
        assert.is(await server.stop(), 0);
        assert.is(server.log().match(/^keyunwrap .* ok /gm)?.length, 2, "the image has two layers");
      },
    );
  }

  testWith(found, NEEDS, `${client} decrypts the base image of a build`, async (machineFor) => {
    const images = await registry();
    const machine = machineFor(images, conf("--keystore", store));
    must(machine, `echo FROM ${images}/gzip > Containerfile; ${client} build ${withKey} .`);
  });

  testWith(found, NEEDS, `${client} shows why it does not decrypt`, async (machineFor) => {
    const images = await registry();
    const [ours, others] = [conf("--keystore", store), conf("--keystore", makeStore("bob"))];
    const other = conf("--keystore", store, "--provider", "other");
    const rows = [
      [others, withKey, /stderr: ocicrypt-keystore: no private key of the store opens this annotation/],
      [other, "--decryption-key provider:other", /missing private key needed for decryption/],
      [ours, "", /does not match config's DiffID/],
      ["/nonexistent", withKey, /missing private key needed for decryption/],
    ] as const;
    for (const [file, flags, says] of sampled(rows, 2, place)) {
      const { code, stderr } = machineFor(images, file).shell(`${pull} ${flags} ${images}/gzip`);
      assert.is.not(code, 0, flags);
      assert.match(stderr, says);
    }
  });
}

testWith(found, NEEDS, "podman creates a container of an encrypted image", async (machineFor) => {
  const images = await registry();
  const machine = machineFor(images, conf("--keystore", store));
  must(machine, `podman create --decryption-key provider:keystore ${images}/gzip /layer-0.bin`);
});

test.run();
