// npm run demo, as a newcomer runs it: what it says must be so, and it leaves nothing behind.

import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { temporaryFolder } from "../support/folders.ts";
import { testWith } from "../support/parts.ts";
import { ROOT } from "../support/program.ts";
import { findSkopeo, type Skopeo } from "../support/skopeo.ts";

const DEMO = join(ROOT, "scripts/demo.ts");
const SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin";
const found = findSkopeo({ download: false, say: () => {} });
const withSkopeo = (name: string, body: (skopeo: Skopeo) => void): void =>
  testWith(found, "a skopeo with ocicrypt 1.1 or later: run test/support/skopeo.ts", name, body);

function folderWithSpace(): string {
  const dir = join(temporaryFolder(), "a space");
  mkdirSync(dir);
  return dir;
}

/** Runs the demo to its end, without a HOME. */
function demo(env: NodeJS.ProcessEnv): { code: number | null; output: string; verdict: string } {
  const TMPDIR = folderWithSpace();
  const { status, stdout, stderr } = spawnSync(process.execPath, [DEMO], {
    cwd: "/",
    env: { PATH: SYSTEM_PATH, TMPDIR, ...env },
    encoding: "utf8",
    timeout: 120_000,
  });
  assert.is(stderr, "");
  assert.equal(readdirSync(TMPDIR), [], "it leaves nothing behind");
  return { code: status, output: stdout, verdict: stdout.trimEnd().split("\n").at(-1) ?? "" };
}

/** A PATH with these programs and no others. */
function pathWith(...names: readonly string[]): string {
  const dir = temporaryFolder();
  for (const name of names) symlinkSync(join("/bin", name), join(dir, name));
  return dir;
}

withSkopeo("the demo runs the first example as it was written, and says that it works", () => {
  const { code, output, verdict } = demo({});
  assert.is(verdict, "It works: 3 of 3 layers were encrypted for the key abc, and decrypted to what they were.");
  assert.is(code, 0);
  for (const line of [
    "skopeo copy --encryption-key provider:simplecrypt:abc oci:alpine oci:encrypted",
    "skopeo copy --decryption-key provider:simplecrypt:extra-params oci:encrypted oci:decrypted",
  ]) {
    assert.match(output, `\n$ ${line}\nGetting image source signatures\n`);
  }
  assert.match(output, /\n\$ ls bin\nsimplecrypt\n\$ /, "a bare folder");
  assert.match(output, /\n\$ export OCICRYPT_KEYPROVIDER_CONFIG='.+\/ocicrypt\.conf'\n/);
});

test("without a skopeo the demo does the rest, and says what it did not try and how to get one", () => {
  const { code, output, verdict } = demo({
    PATH: pathWith("cat", "cp", "ls"),
    OCICRYPT_KEYSTORE_SKOPEO: "/nonexistent",
  });
  assert.match(
    verdict,
    /^It works as far as it was tried: .* The two skopeo lines were not tried: put a skopeo on PATH /,
  );
  assert.match(output, "These are the bytes that were wrapped");
  assert.match(output, /\nno skopeo: /);
  assert.is(code, 0);
});

withSkopeo("the demo notices an image that was not encrypted", ({ command }) => {
  const dir = temporaryFolder();
  const real = command.map((word) => `'${word}'`).join(" ");
  const script = `#!/bin/sh\ncase "$*" in *oci:alpine*) exec ${real} copy oci:alpine oci:encrypted ;; esac\nexec ${real} "$@"\n`;
  writeFileSync(join(dir, "skopeo"), script, { mode: 0o755 });
  const { code, verdict } = demo({ PATH: `${dir}:${SYSTEM_PATH}` });
  assert.is(verdict, "It does not work: 0 of 3 layers were encrypted for simplecrypt");
  assert.is(code, 1);
});

withSkopeo("the demo shows what went wrong, and fails", ({ command }) => {
  const dir = temporaryFolder();
  const real = command.map((word) => `'${word}'`).join(" ");
  writeFileSync(join(dir, "skopeo"), `#!/bin/sh\nexport OCICRYPT_KEYSTORE=/nonexistent\nexec ${real} "$@"\n`, {
    mode: 0o755,
  });
  const { code, output } = demo({ PATH: `${dir}:${SYSTEM_PATH}` });
  assert.match(output, /\n\nIt does not work: .*ocicrypt-keystore: no key store at \/nonexistent; make one/);
  assert.is(code, 1);
});

test("the demo leaves nothing behind when it is stopped", async () => {
  const TMPDIR = folderWithSpace();
  const child = spawn(process.execPath, [DEMO], {
    env: { PATH: SYSTEM_PATH, TMPDIR },
    stdio: ["ignore", "pipe", "ignore"],
  });
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    output += text;
    if (!child.killed && output.includes("keygen abc")) child.kill("SIGTERM");
  });
  const [code] = (await once(child, "close")) as [number | null];
  assert.is(code, 1);
  assert.match(output, /\n\nStopped by SIGTERM\.\n$/);
  assert.equal(readdirSync(TMPDIR), []);
});

test.run();
