// Where the store is when nobody says, asked of the binary: `config` prints the place.

import { spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { temporaryFolder } from "../support/folders.ts";
import { testWith } from "../support/parts.ts";
import { assertFailure, BINARY, run, sharedBinary, type Result } from "../support/program.ts";

const root = process.getuid?.() === 0 ? true : undefined;
const asNobody = (env: readonly string[], uid = "65534"): Result => {
  const args = ["--reuid", uid, "--regid", uid, "--clear-groups", "env", "-i", ...env, sharedBinary(), "config"];
  const { status, stdout, stderr } = spawnSync("setpriv", args, { encoding: "utf8", cwd: "/" });
  return { code: status, stdout, stderr };
};
const place = ({ stdout, stderr }: Result): string => /"--keystore",\s*"([^"]+)"/.exec(stdout)?.[1] ?? stderr;

test("is what --keystore says before $OCICRYPT_KEYSTORE", () => {
  const [first, second] = [join(temporaryFolder(), "a"), join(temporaryFolder(), "b")];
  assert.is(place(run(["config", "--keystore", first], { env: { OCICRYPT_KEYSTORE: second } })), first);
  assert.is(place(run(["config"], { env: { OCICRYPT_KEYSTORE: second } })), second);
});

test("is taken from the working directory where it is relative", () => {
  const dir = temporaryFolder();
  assert.is(place(run(["config", "--keystore", "keys"], { cwd: dir })), join(dir, "keys"));
});

testWith(root, "root", "is /etc/ocicrypt-keystore for root, whatever HOME is", () => {
  assert.is(place(run(["config"], { env: { HOME: "/home/x", XDG_CONFIG_HOME: "/x" } })), "/etc/ocicrypt-keystore");
});

testWith(
  root,
  "root, to become another user",
  "is in $XDG_CONFIG_HOME or ~/.config for others, and in the passwd entry's home without HOME",
  () => {
    assert.is(place(asNobody(["HOME=/h", "XDG_CONFIG_HOME=/x"])), "/x/ocicrypt-keystore");
    assert.is(place(asNobody(["HOME=/h", "XDG_CONFIG_HOME=relative"])), "/h/.config/ocicrypt-keystore");
    assert.is(place(asNobody(["HOME=/h"])), "/h/.config/ocicrypt-keystore");
    for (const variables of [[], ["HOME="], ["HOME=h"], ["HOME=h", "XDG_CONFIG_HOME=relative"]]) {
      // nobody's home in Debian's passwd
      assert.is(place(asNobody(variables)), "/nonexistent/.config/ocicrypt-keystore", variables.join(" "));
    }
  },
);

testWith(root, "root, to become another user", "has to be said for a user without a home", () => {
  assert.match(assertFailure(asNobody([], "54321"), 1), /no home directory.*OCICRYPT_KEYSTORE/);
});

const namespaces = spawnSync("unshare", ["-r", "true"]).status === 0 ? true : undefined;
testWith(namespaces, "user namespaces", "is not /etc for the root of a user namespace, as in rootless podman", () => {
  const home = temporaryFolder();
  mkdirSync(join(home, ".config"));
  const { stdout } = spawnSync("unshare", ["-r", "env", "-i", `HOME=${home}`, BINARY, "config"], {
    encoding: "utf8",
    cwd: "/",
  });
  assert.match(stdout, `"${home}/.config/ocicrypt-keystore"`);
});

test.run();
