// doctor and the clients on PATH.

import { chmodSync, existsSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { assertCheck, examine, programs, skipped } from "../support/checks.ts";
import { temporaryFolder } from "../support/folders.ts";
import { testWith } from "../support/parts.ts";
import { findSkopeo } from "../support/skopeo.ts";
import { makeStore } from "../support/stores.ts";

const dir = makeStore("alice");
const skopeo = findSkopeo({ download: false, say: () => undefined })?.command.at(-2);

testWith(skopeo, "a skopeo with ocicrypt 1.1 or later", "sees that a skopeo knows provider:", (path) => {
  const folder = temporaryFolder();
  symlinkSync(path, join(folder, "skopeo"));
  const checks = examine(dir, [], { PATH: folder });
  assertCheck(checks, "client.skopeo", "ok", /skopeo knows provider:/);
  assertCheck(checks, "clients", "ok", /^skopeo; /);
});

for (const client of ["skopeo", "podman", "buildah", "nerdctl", "ctr-enc", "ctd-decoder", "crio"]) {
  test(`warns of a ${client} whose ocicrypt is too old`, () => {
    const checks = examine(dir, [], {
      PATH: programs(client, "\x7fELF github.com/containers/ocicrypt/keywrap/jwe.init"),
    });
    assertCheck(
      checks,
      `client.${client}`,
      "warn",
      new RegExp(`${client} does not know provider: .*install a newer ${client}`),
    );
  });
}

test("claims nothing of a client that cannot be read for it, and starts none", () => {
  const evidence = join(temporaryFolder(), "started");
  const folder = programs("podman", `#!/bin/sh\necho started > ${evidence}\n`);
  const checks = examine(dir, [], { PATH: `relative:${folder}` });
  assertCheck(
    checks,
    "client.podman",
    "skip",
    /podman does not contain ocicrypt, or cannot be read: it may be a script/,
  );
  assertCheck(checks, "clients", "ok", /^podman; /);
  assert.not.ok(existsSync(evidence));
});

test("skips a client that is not on PATH, and containerd, which has another program decrypt", () => {
  const PATH = programs("containerd", "");
  const checks = examine(dir, [], { PATH });
  const clients = checks.filter(({ id }) => id.startsWith("client."));
  assert.is(clients.length, 8);
  assert.is(skipped(clients).length, 8);
  assertCheck(checks, "client.containerd", "skip", /containerd starts ctd-decoder to decrypt/);
  assertCheck(checks, "client.skopeo", "skip", /not on PATH/);
});

test("warns where no client is on PATH", () => {
  const folder = programs("skopeo", "");
  chmodSync(join(folder, "skopeo"), 0o644);
  for (const PATH of ["", folder])
    assertCheck(examine(dir, [], { PATH }), "clients", "warn", /none of skopeo, .* is on PATH/);
});

test.run();
