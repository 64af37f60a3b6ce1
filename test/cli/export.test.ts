// export: a key for others, as JWK or as PEM that other tools read.

import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { secretFile, temporaryFolder, withUmask } from "../support/folders.ts";
import { tool, use, testWith } from "../support/parts.ts";
import { assertFailure, BINARY, runHere, shellLine, throughBinary } from "../support/program.ts";
import {
  assertOpens,
  commands,
  masterKeyFile,
  readJson,
  secretsOf,
  wrapHere,
  type Members,
  kidOf,
  makeStore,
} from "../support/stores.ts";

runHere();

const KINDS = ["", "--curve P-384", "--curve P-521", "--type rsa --bits 2048"] as const;
const mode = (path: string): string => (statSync(path).mode & 0o777).toString(8);
const dir = makeStore(...KINDS.map((options, index) => `key${index}:${options}`), "oct:--type oct");
const cli = commands(dir);

for (const [index, options] of KINDS.entries()) {
  const name = `key${index}`;
  testWith(tool("openssl"), "openssl", `openssl reads the PEM of a key: ${options || "the default"}`, (openssl) => {
    const spki = cli("export", name, "--format", "pem");
    assert.match(spki, /^-----BEGIN PUBLIC KEY-----\n/);
    const pkcs8 = cli("export", name, "--private", "--format", "pem");
    assert.match(pkcs8, /^-----BEGIN PRIVATE KEY-----\n/);
    assert.is(use(openssl, ["pkey", "-pubin", "-pubcheck"], spki).replace(/^.*valid\n/, ""), spki);
    assert.is(use(openssl, ["pkey", "-check", "-pubout"], pkcs8).replace(/^.*valid\n/, ""), spki);
  });

  test(`export and import elsewhere is the same key, which opens old annotations: ${options || "the default"}`, async () => {
    const annotation = await wrapHere(dir, name);
    for (const format of ["jwk", "pem"]) {
      const other = join(temporaryFolder(), "store");
      assert.is(
        commands(other)("import", "moved", secretFile(cli("export", name, "--private", "--format", format))).trim(),
        kidOf(dir, name),
      );
      await assertOpens(other, annotation);
      const recipient = join(temporaryFolder(), "store");
      assert.is(
        commands(recipient)("import", "theirs", secretFile(cli("export", name, "--format", format))).trim(),
        kidOf(dir, name),
      );
      await assertOpens(dir, await wrapHere(recipient, "theirs"));
    }
  });
}

test("a public export has nothing private in it", () => {
  for (const [index] of KINDS.entries()) {
    const jwk = JSON.parse(cli("export", `key${index}`)) as Members;
    assert.equal(secretsOf(jwk), []);
    assert.is(jwk["kid"], kidOf(dir, `key${index}`));
  }
});

test("a symmetric key is exported whole, as JWK, or not at all", async () => {
  assert.match(cli.refuses(2, ["export", "oct"]), "a symmetric key has no public half; add --private");
  assert.match(cli.refuses(2, ["export", "oct", "--format", "pem"]), "a symmetric key has no public half");
  assert.match(
    cli.refuses(2, ["export", "oct", "--private", "--format", "pem"]),
    "a symmetric key has no PEM form; use --format jwk",
  );
  const other = join(temporaryFolder(), "store");
  assert.is(
    commands(other)("import", "oct", secretFile(cli("export", "oct", "--private"))).trim(),
    kidOf(dir, "oct"),
    "it keeps its kid",
  );
  await assertOpens(other, await wrapHere(dir, "oct"));
});

test("writes a file: a private one for the owner alone, and none twice without --force", () => {
  const folder = temporaryFolder();
  for (const [options, umask, permissions] of [
    [["--private"], 0o022, "600"],
    [[], 0o022, "644"],
    [[], 0o027, "640"],
  ] as const) {
    const path = join(folder, permissions);
    assert.is(
      withUmask(umask, () => cli("export", "key0", ...options, "-o", path)),
      "",
    );
    assert.is(mode(path), permissions);
    const first = readFileSync(path, "utf8");
    assert.match(
      cli.refuses(1, ["export", "key1", ...options, "-o", path]),
      `${path} exists; name another file, or add --force to overwrite it`,
    );
    assert.is(readFileSync(path, "utf8"), first);
    chmodSync(path, 0o666);
    withUmask(umask, () => cli("export", "key1", ...options, "-o", path, "--force"));
    assert.is.not(readFileSync(path, "utf8"), first);
    assert.is(
      mode(path),
      options.length > 0 ? permissions : "666",
      "what is replaced keeps its mode, but for a private key's file",
    );
  }
});

test("--force replaces files only: no device, no folder, and not what a link points to", () => {
  const folder = temporaryFolder();
  const fifo = join(folder, "device");
  spawnSync("mkfifo", [fifo]);
  assert.match(cli.refuses(1, ["export", "key0", "-o", fifo, "--force"]), fifo);
  assert.ok(statSync(fifo).isFIFO(), "as root this is how /dev/null is lost");
  mkdirSync(join(folder, "folder"));
  cli.refuses(1, ["export", "key0", "-o", join(folder, "folder"), "--force"]);
  symlinkSync("nowhere", join(folder, "dangling"));
  cli.refuses(1, ["export", "key0", "-o", join(folder, "dangling")]);
  assert.not.ok(existsSync(join(folder, "nowhere")));
});

test("- is standard output", () => {
  assert.is(
    throughBinary(() => cli("export", "key0", "-o", "-")),
    cli("export", "key0"),
  );
  assert.not.ok(existsSync("/-"));
});

testWith(tool("script"), "script", "prints a private key to a terminal only with --force", (script) => {
  const onTerminal = (...args: readonly string[]): { code: number | null; screen: string } => {
    const line = shellLine([BINARY, "export", "key0", "--keystore", dir, ...args]);
    const { status, stdout } = spawnSync(script, ["-qec", line, "/dev/null"], {
      env: { PATH: "/usr/bin:/bin", SHELL: "/bin/sh" },
      stdio: ["ignore", "pipe", "pipe"],
    });
    return { code: status, screen: stdout.toString().replaceAll("\r", "") };
  };
  const { d } = readJson(join(dir, "private", `${kidOf(dir, "key0")}.jwk`));
  for (const format of ["jwk", "pem"]) {
    const { code, screen } = onTerminal("--private", "--format", format);
    assert.is(code, 2);
    assert.match(
      screen,
      /^ocicrypt-keystore: this would print a private key to the terminal; name a file with -o, or add --force\n$/,
    );
  }
  assert.match(onTerminal("--private", "--force").screen, String(d));
  assert.match(onTerminal().screen, '"kty":"EC"');
});

test("a name stands for its current key, a kid for itself", () => {
  const rotated = makeStore("alice");
  const former = kidOf(rotated, "alice");
  const kid = commands(rotated)("rotate", "alice").trim();
  for (const [key, expected] of [
    ["alice", kid],
    [former, former],
  ] as const) {
    assert.is((JSON.parse(commands(rotated)("export", key)) as Members)["kid"], expected);
    assert.is((JSON.parse(commands(rotated)("export", key, "--private")) as Members)["kid"], expected);
  }
});

test("a locked key is exported with the secret, open", () => {
  const locked = makeStore("alice");
  const masterKey = masterKeyFile();
  const plain = commands(locked)("export", "alice", "--private");
  commands(locked)("lock", "--master-key-file", masterKey);
  assert.match(
    commands(locked).refuses(3, ["export", "alice", "--private"]),
    "is locked with a master key; give it with --master-key-file",
  );
  assert.is(commands(locked)("export", "alice", "--private", "--master-key-file", masterKey), plain);
  commands(locked)("export", "alice");
});

test("what is not there is not exported", () => {
  assert.match(
    throughBinary(() => cli.refuses(1, ["export", "nobody"])),
    `no key named nobody in ${dir}`,
  );
  const recipients = commands(makeStore("alice"));
  recipients("import", "bob", secretFile(cli("export", "key0")));
  const path = join(temporaryFolder(), "none.jwk");
  assert.match(recipients.refuses(1, ["export", "bob", "--private", "-o", path]), "the private key of bob is not in ");
  assert.not.ok(existsSync(path));
});

test("says so when it cannot write", () => {
  assert.match(assertFailure(cli.run(["export", "key0", "-o", "/none/key.jwk"]), 1), /\/none\/.* failed: ENOENT/);
  assert.match(cli.refuses(2, ["export", "key0", "--format", "der"]), /invalid values/);
});

test.run();
