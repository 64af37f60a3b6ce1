// Real pulls through CRI by real containerds, old and new, each with the configuration that `config --client containerd`
// prints, and with those that go wrong.

import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  CONTAINERD_NEEDS,
  findContainerd,
  makeMachine,
  startContainerd,
  VERSIONS,
  type ContainerdParts,
  type Machine,
  type Version,
} from "../support/containerd.ts";
import { CONFIGURATIONS, type Outcomes } from "../support/containerd-configurations.ts";
import { copy, skopeo } from "../support/encrypted-images.ts";
import { temporaryFolder } from "../support/folders.ts";
import { makeImage } from "../support/images.ts";
import { sampled, testWith, tool } from "../support/parts.ts";
import { startRegistry } from "../support/registry.ts";
import { startServer } from "../support/server.ts";
import { makeStore } from "../support/stores.ts";

const parts = skopeo && tool("docker-registry") ? findContainerd() : undefined;
const NEEDS = `${CONTAINERD_NEEDS}; docker-registry, and a skopeo that knows provider:`;
const COMPRESSIONS = ["gzip", "zstd"] as const;
const store = makeStore("alice");

// A registry with an image of each compression, encrypted for alice. They share no layer: containerd unpacks one once.
let host: string | undefined;
async function registry(): Promise<string> {
  if (host !== undefined) return host;
  const started = await startRegistry();
  for (const [index, compression] of COMPRESSIONS.entries()) {
    const dir = join(temporaryFolder(), "image");
    makeImage(dir, { layers: 2, compression, seed: 10 * index });
    const args = ["--dest-tls-verify=false", "--encryption-key", "provider:keystore:alice", `oci:${dir}`];
    const { ok, stderr } = skopeo
      ? copy(skopeo, store, ...args, `docker://${started.host}/${compression}`)
      : { ok: false, stderr: NEEDS };
    assert.ok(ok, stderr);
  }
  return (host = started.host);
}

async function assertOutcomes(
  found: ContainerdParts,
  version: Version,
  machine: Machine,
  outcomes: Outcomes,
): Promise<void> {
  const images = await registry();
  const containerd = await startContainerd(found, version, machine).catch((error: Error) => error);
  for (const compression of COMPRESSIONS) {
    const expected = outcomes[compression];
    const { code, stderr } =
      containerd instanceof Error
        ? { code: 1, stderr: containerd.message }
        : containerd.pull(`${images}/${compression}`);
    if (expected === "pulls") assert.is(code, 0, stderr);
    else {
      assert.is(code, 1, `${compression} is pulled`);
      assert.match(stderr, expected);
    }
  }
  if (!(containerd instanceof Error)) await containerd.stop();
}

for (const [place, version] of VERSIONS.entries()) {
  // Without containerd the test below says so, once and not for each row.
  for (const { name, arrange, outcome } of parts === undefined ? [] : sampled(CONFIGURATIONS, 3, place)) {
    const outcomes = outcome[version];
    const words = COMPRESSIONS.map((one) => `${one} ${outcomes[one] === "pulls" ? "is pulled" : "fails"}`);
    testWith(parts, NEEDS, `containerd ${version}, ${name}: ${words.join(", ")}`, async (found) => {
      const machine = makeMachine(["--keystore", store], found.decoder);
      arrange(machine);
      await assertOutcomes(found, version, machine, outcomes);
    });
  }

  testWith(parts, NEEDS, `containerd ${version} pulls through serve`, async (found) => {
    const server = await startServer(store);
    const machine = makeMachine(["--grpc", server.address], found.decoder);
    await assertOutcomes(found, version, machine, { gzip: "pulls", zstd: "pulls" });
    assert.is(await server.stop(), 0);
    assert.is(server.log().match(/^keyunwrap .* ok /gm)?.length, 4, "each image has two layers");
  });
}

test.run();
