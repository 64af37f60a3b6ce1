// doctor and what clients read: the file that $OCICRYPT_KEYPROVIDER_CONFIG names, and the round trip through its entry.

import { copyFileSync, existsSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  assertCheck,
  checksIn,
  configFile,
  entry,
  examine,
  examineHere,
  only,
  problems,
  programs,
  skipped,
  type Check,
} from "../support/checks.ts";
import { temporaryFolder } from "../support/folders.ts";
import { BINARY, run, shellLine, succeed } from "../support/program.ts";
import { makeStore } from "../support/stores.ts";

const dir = makeStore("alice");
const other = makeStore("bob");
const folder = temporaryFolder();
const notExecutable = join(folder, "plain");
writeFileSync(notExecutable, "");
const [link, named] = [join(folder, "linked"), join(folder, "ocicrypt-second")];
for (const path of [link, named]) symlinkSync(BINARY, path);
const args = ["--keystore", dir, "--provider", "ks"];
const withFile = async (file: string): Promise<Check[]> =>
  await examineHere(dir, [], { OCICRYPT_KEYPROVIDER_CONFIG: file });

test("is content with what config prints, and makes the round trip through it", async () => {
  const file = configFile(succeed(["config", "--keystore", dir]));
  const checks = examine(dir, [], { OCICRYPT_KEYPROVIDER_CONFIG: file });
  assert.equal(problems(checks), []);
  assertCheck(checks, "config.variable", "ok", new RegExp(`is ${file}`));
  assertCheck(checks, "config.provider", "ok", /provider keystore is this program/);
});

test("knows this program through a symlink, without args, with other providers beside it, and takes a grpc entry", async () => {
  const providers = {
    first: entry(args.toSpliced(3, 1, "first"), link),
    keyvault: { grpc: "localhost:1" },
    other: { cmd: { path: "/bin/true", args: null } },
  };
  const checks = await withFile(configFile(providers));
  assert.equal(problems(checks), ["fail config.grpc"]); // nobody listens there
  assertCheck(checks, "round-trip", "ok", new RegExp(`by ${link}`));
});

test("warns where no variable is set or no provider is this program, which is no failure", async () => {
  assertCheck(await examineHere(dir), "config.variable", "warn", /is not set.*ocicrypt-keystore config > FILE/);
  assertCheck(
    await withFile(configFile({ other: entry([], "/bin/true") })),
    "config.provider",
    "warn",
    new RegExp(`no provider of \\S+ is this program, ${BINARY}`),
  );
});

const sample = { cmd: null, path: BINARY }; // the first sample of ocicrypt's docs has "path" directly below the name
for (const [what, id, status, message, content] of [
  ["a file without JSON", "config.json", "fail", /is not JSON: clients know no provider/, "key-providers: {}"],
  ["a file with a list", "config.json", "fail", /is JSON that is not an object/, "[]"],
  ["a file without key-providers", "config.provider", "fail", /has no key-providers/, '{"providers":{}}'],
  [
    "a path that is not below cmd",
    "config.provider",
    "fail",
    /provider ks of \S+ has its "path" directly below its name.*"Unsupported keyprovider invocation"/,
    { ks: { path: BINARY, args } },
  ],
  ["an entry that is empty", "config.provider", "fail", /has neither cmd nor grpc/, { ks: {} }],
  ["a cmd that is null", "config.provider", "fail", /has its "path" directly below/, { ks: sample }],
  [
    "an entry that is no object",
    "config.provider",
    "fail",
    /that is not an object: clients refuse the whole file/,
    { ks: BINARY },
  ],
  [
    "args that are one string",
    "config.provider",
    "fail",
    /with args that are not a list of strings/,
    { ks: { cmd: { path: BINARY, args: "--provider ks" } } },
  ],
  [
    "a program that is not there",
    "config.path",
    "fail",
    /the program of provider ks is not there: \/none/,
    { ks: entry([], "/none") },
  ],
  [
    "a program that cannot be executed",
    "config.path",
    "fail",
    /cannot be executed.*chmod \+x/,
    { ks: entry([], notExecutable) },
  ],
  [
    "a program without a folder",
    "config.path",
    "warn",
    /which a client looks for on its own PATH/,
    { ks: entry(args, "linked") },
  ],
  [
    "args of another program",
    "config.args",
    "fail",
    /this program does not accept the args of provider ks/,
    { ks: entry(["--passphrase", "hunter2"]) },
  ],
  [
    "args for another provider",
    "config.args",
    "fail",
    /provider ks is told to be other: it refuses to encrypt/,
    { ks: entry(["--keystore", dir, "--provider", "other"]) },
  ],
  [
    "another key store",
    "config.args",
    "warn",
    new RegExp(`provider ks uses the key store ${other}, not ${dir}.*--keystore ${other}`),
    { ks: entry(["--keystore", other, "--provider", "ks"]) },
  ],
  [
    "no key store, where the default is another",
    "config.args",
    "warn",
    /provider ks uses the key store \/\S+, not/,
    { ks: entry(["--provider", "ks"]) },
  ],
  [
    "a relative key store",
    "config.args",
    "warn",
    /depends on a client's working directory: keys/,
    { ks: entry(["--keystore", "keys", "--provider", "ks"]) },
  ],
  [
    "a relative file with the secret",
    "config.args",
    "warn",
    /has a secret file that depends on a client's working directory: master; name it by its absolute path/,
    { ks: entry([...args, "--master-key-file", "master"]) },
  ],
  [
    "two providers told apart by nothing",
    "config.args",
    "warn",
    /2 providers are this program, and neither args nor path say that it is ks: it refuses.*add "--provider", "ks"/,
    { ks: entry(["--keystore", dir]), second: entry(["--keystore", dir], named) },
  ],
] as const) {
  test(`finds ${what}`, async () => {
    const file = configFile(content);
    const checks = await examineHere(dir, [], { OCICRYPT_KEYPROVIDER_CONFIG: file, PATH: folder });
    assert.is(
      only(
        checks.filter((check) => check.id === id && message.test(`${check.message}; ${check.hint ?? ""}`)),
        id,
      ).status,
      status,
      JSON.stringify(checks.filter((check) => check.status !== "ok")),
    );
  });
}

test("finds a file that is not there, or is named by a relative path", async () => {
  assertCheck(
    await withFile("/none.conf"),
    "config.file",
    "fail",
    /there is no file \/none.conf: clients go on without a message/,
  );
  const relative = checksIn(
    run(["doctor", "--json", "--keystore", dir], { env: { PATH: "", OCICRYPT_KEYPROVIDER_CONFIG: "tmp/x.conf" } }),
  );
  assertCheck(relative, "config.variable", "warn", /depends on a client's working directory/);
});

// What is skipped, since there is nothing to look at.
for (const [what, file, ids, message] of [
  ["no file is named", undefined, "file json provider path args grpc", /^no file is named;/],
  ["the file is missing", "/none.conf", "json provider path args grpc", /\/none\.conf/],
  ["the file cannot be read", "/", "json provider path args grpc", /\/ (is|has|cannot) /],
  ["the file holds no JSON", configFile("{"), "provider path args grpc", /ocicrypt\.conf/],
  ["the file has no providers", configFile({}), "path args grpc", /ocicrypt\.conf has no provider|no provider of/],
  ["only another program is named", configFile({ other: entry([], "/bin/true") }), "args grpc", /no provider of/],
  [
    "only a server is named",
    configFile({ kv: { grpc: "localhost:1" } }),
    "path args",
    /has no provider that|no provider of/,
  ],
] as const) {
  test(`skips what depends on it where ${what}, and says why`, async () => {
    const checks = await examineHere(dir, [], { OCICRYPT_KEYPROVIDER_CONFIG: file });
    const wanted = ids.split(" ").map((id) => `config.${id}`);
    assert.equal(
      skipped(checks).filter((id) => id.startsWith("config.")),
      wanted,
    );
    for (const id of wanted) assertCheck(checks, id, "skip", message);
  });
}

test("uses the store of the client's own entry for the round trip, and shows its line where it fails", async () => {
  const file = configFile({ ks: entry(["--keystore", other, "--provider", "ks"]) });
  assertCheck(await withFile(file), "round-trip", "ok", /wrapped for bob/);
  const broken = makeStore("carol");
  const checks = await examineHere(broken, [], {
    OCICRYPT_KEYPROVIDER_CONFIG: configFile({ ks: entry(["--keystore", broken, "--provider", "wrong"]) }),
  });
  assertCheck(checks, "round-trip", "fail", /failed \(exit code 1\): the request names no provider "wrong"/);
});

test("makes the round trip with another key where the default one is a recipient only, and warns where there is none", async () => {
  const mixed = makeStore("alice", "bob");
  const pem = join(temporaryFolder(), "alice.pem");
  succeed(["export", "alice", "--keystore", mixed, "--format", "pem", "-o", pem]);
  const recipients = join(temporaryFolder(), "store");
  succeed(["import", "alice", pem, "--keystore", recipients]);
  assertCheck(
    await examineHere(recipients),
    "round-trip",
    "warn",
    /not tried: no current key of \S+ has its private key there/,
  );
  succeed(["keygen", "bob", "--keystore", recipients]);
  assertCheck(await examineHere(recipients), "round-trip", "ok", /wrapped for bob/);
});

test("knows a copy of itself under another name", async () => {
  const own = join(folder, "copy");
  copyFileSync(BINARY, own);
  const checks = await withFile(configFile({ ks: entry(args, own) }));
  assertCheck(checks, "config.provider", "ok", /provider ks is this program/);
  assertCheck(checks, "round-trip", "ok", new RegExp(`by ${own}`));
  rmSync(own);
  mkdirSync(own);
  assertCheck(await withFile(configFile({ ks: entry(args, own) })), "config.path", "fail", /cannot be executed/);
});

test("goes through a wrapper, whose key store it may not know, and fails with a broken one", async () => {
  const wrapper = join(programs("wrapper", `#!/bin/sh\nexec ${shellLine([BINARY, ...args])}\n`), "wrapper");
  const checks = await withFile(configFile({ ks: entry([], wrapper) }));
  assert.equal(problems(checks), []);
  assertCheck(checks, "config.provider", "ok", /a provider wraps for keys of this key store/);
  assertCheck(checks, "round-trip", "ok", new RegExp(`provider ks wrapped and unwrapped, by ${wrapper}`));
  const elsewhere = await examineHere(other, [], {
    OCICRYPT_KEYPROVIDER_CONFIG: configFile({ ks: entry([], wrapper) }),
  });
  assert.equal(problems(elsewhere), ["warn config.provider"]);
  const broken = await withFile(configFile({ ks: entry([], "/bin/false") }));
  assertCheck(broken, "round-trip", "fail", /provider ks: \/bin\/false failed \(exit code 1\)/);
});

test("starts none of its own commands that an entry names, and quotes no args", async () => {
  const victim = makeStore("alice");
  const file = configFile({ ks: entry(["remove", "alice", "--force", "--keystore", victim]) });
  const checks = await examineHere(victim, [], { OCICRYPT_KEYPROVIDER_CONFIG: file });
  assert.equal(problems(checks), ["fail config.args"]);
  assert.ok(existsSync(join(victim, "names/alice")));
  const secret = configFile({ ks: entry(["--passphrase", "hunter2"]) });
  assert.not.match(JSON.stringify(await withFile(secret)), "hunter2");
});

test.run();
