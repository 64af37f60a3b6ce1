// What keeps a provider's program from being started.

import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { isThisProgram, lookPath, obstacleTo } from "../../src/doctor/programs.ts";
import { assertCheck, checksIn, configFile, entry, programs } from "../support/checks.ts";
import { temporaryFolder } from "../support/folders.ts";
import { mountNamespace, testWith } from "../support/parts.ts";
import { BINARY } from "../support/program.ts";
import { makeStore } from "../support/stores.ts";

testWith(mountNamespace(), "root, or mount namespaces", "names a mount that is noexec, not the file's mode", (args) => {
  const folder = join(temporaryFolder(), "a b");
  mkdirSync(folder);
  const program = join(folder, "wrapper");
  const script =
    'mount -t tmpfs -o noexec tmpfs "$1" && printf "#!/bin/sh\\n" > "$1/wrapper" && chmod 755 "$1/wrapper" && shift && exec "$@"';
  const doctor = [BINARY, "doctor", "--json", "--keystore", makeStore("alice")];
  const env = { PATH: process.env["PATH"], OCICRYPT_KEYPROVIDER_CONFIG: configFile({ ks: entry([], program) }) };
  const { status, stdout, stderr } = spawnSync("unshare", [...args, "sh", "-c", script, "sh", folder, ...doctor], {
    env,
    encoding: "utf8",
  });
  const checks = checksIn({ code: status, stdout, stderr });
  assertCheck(
    checks,
    "config.path",
    "fail",
    new RegExp(`it is on ${folder}, which is mounted noexec.*another file system`),
  );
});

test("knows this program, and finds others as Go does", () => {
  assert.ok(isThisProgram(BINARY));
  assert.not.ok(isThisProgram("/bin/sh") || isThisProgram("/none"));
  assert.is(lookPath("/bin/sh").path, "/bin/sh");
  assert.match(lookPath("no-such-program").obstacle?.message ?? "", /in no folder of PATH/);
  const script = join(programs("script", "echo x\n"), "script");
  assert.match(obstacleTo(script)?.message ?? "", /neither a program nor a script that begins with "#!"/);
  const header = readFileSync(BINARY).subarray(0, 64);
  const elf = (bytes: Buffer): string => obstacleTo(join(programs("elf", bytes), "elf"))?.message ?? "";
  assert.is(elf(header), "");
  assert.match(elf(header.subarray(0, 40)), /it is cut off/);
  const foreign = Buffer.from(header);
  foreign.writeUInt16LE(22, 18); // System/390
  assert.match(elf(foreign), /it is for a machine of another kind/);
});

test.run();
