// Entries of ocicrypt.conf: which a client can use, and why it cannot use the others.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { readConfigFile } from "../../src/doctor/config-file.ts";
import { configFile } from "../support/checks.ts";
import { temporaryFolder } from "../support/folders.ts";

test("tells what keeps clients from using an entry, or the whole file", () => {
  for (const [entry, obstacle] of [
    [{ path: "/x" }, /"path" directly below its name/],
    [{}, /neither cmd nor grpc/],
    [{ cmd: null }, /neither cmd nor grpc/],
    [{ grpc: "" }, /neither cmd nor grpc/],
    [{ cmd: {} }, /cmd without a path/],
  ] as const) {
    assert.match(readConfigFile(configFile({ ks: entry })).unusable.get("ks") ?? "", obstacle);
  }
  for (const [entry, refused] of [
    [[], /has a provider ks that is not an object/],
    [{ grpc: 1 }, /grpc that is not a string/],
    [{ cmd: { path: 1 } }, /path that is not a string/],
    [{ cmd: { path: "/x", args: "a" } }, /args that are not a list of strings/],
    [{ cmd: { path: "/x", args: [1] } }, /args that are not a list of strings/],
  ] as const) {
    assert.match(readConfigFile(configFile({ ks: entry })).refused ?? "", refused);
  }
});

test("reads the providers that start a program, and the servers, each apart", () => {
  const own = { path: process.execPath, args: ["--keystore", "/s", "--provider=ks"] };
  const { providers, servers } = readConfigFile(
    configFile({
      ks: { cmd: own },
      other: { cmd: { path: "/none", args: ["list"] } },
      remote: { grpc: "h:1" },
      both: { cmd: own, grpc: "h:2" },
    }),
  );
  assert.equal(
    providers.map(({ name, own: isOwn, options }) => [name, isOwn, options]),
    [
      ["ks", true, { keystore: "/s", provider: "ks" }],
      ["other", false, undefined],
      ["both", true, { keystore: "/s", provider: "ks" }],
    ],
  );
  assert.equal(servers, [{ name: "remote", address: "h:1", tls: undefined }]);
});

test("says that a file is not there, or is no JSON, and throws nothing", () => {
  assert.is(readConfigFile("/none/ocicrypt.conf").exists, false);
  const damaged = readConfigFile(configFile("{"));
  assert.equal(
    [damaged.exists, damaged.error, damaged.refused, damaged.providers],
    [true, undefined, "is not JSON", []],
  );
  assert.match(String(readConfigFile(temporaryFolder()).error), "not a regular file");
});

test.run();
