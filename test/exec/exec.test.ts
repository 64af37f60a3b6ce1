// Exec mode: the binary as a client starts it.

import { spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  copyFileSync,
  mkdirSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { parseExecOptions } from "../../src/exec/exec.ts";
import { sharedFolder, temporaryFolder } from "../support/folders.ts";
import { testWith } from "../support/parts.ts";
import {
  assertFailure,
  BINARY,
  type Result,
  ROOT,
  run,
  runHere,
  throughBinary,
  sharedBinary,
  shellLine,
} from "../support/program.ts";
import { OPTSDATA, recorded, unwrap, unwrapRequest, wrap, wrapRequest } from "../support/requests.ts";
import { kidOf, makeSharedStore, makeStore } from "../support/stores.ts";

runHere();

test("parses the options of exec mode, and leaves every other command line to the subcommands", () => {
  assert.equal(
    parseExecOptions(["--keystore", "/s", "--provider=ks", "--passphrase-file", "-", "--master-key-file=a=b"]),
    {
      keystore: "/s",
      provider: "ks",
      passphraseFile: "-",
      masterKeyFile: "a=b",
    },
  );
  for (const args of [
    ["list"],
    ["--help"],
    ["--keystore"],
    ["--keystore", ""],
    ["--keystore="],
    ["--keystore", "/a", "--keystore", "/b"],
    ["--keystore", "/a", "list"],
    ["--__proto__", "x"],
    ["--unknown", "x"],
  ]) {
    assert.is(parseExecOptions(args), undefined, args.join(" "));
  }
});

const store = makeStore("alice", "bob:--type rsa --bits 2048", "carol:--type oct");
const exec = (input: string | Buffer, args = ["--keystore", store]): Result => run(args, { input, timeout: 5000 });
const parse = (text: string): Record<string, Record<string, string>> =>
  JSON.parse(text) as Record<string, Record<string, string>>;
const root = process.getuid?.() === 0 ? true : undefined;

for (const name of ["one", "two", "colon", "empty", "novalue", "withjwe"]) {
  test(`wraps what skopeo sent: wrap-skopeo-${name}, and gets it back`, () => {
    const request = recorded(`wrap-skopeo-${name}`);
    const { code, stdout, stderr } = name === "two" ? throughBinary(() => exec(request)) : exec(request);
    assert.is(code, 0, stderr);
    assert.is(stderr, "");
    assert.match(stdout, /^\{"keywrapresults":\{"annotation":"[A-Za-z0-9+/]+=*"\}\}\n$/);
    const annotation = Buffer.from(parse(stdout)["keywrapresults"]?.["annotation"] ?? "", "base64");
    const recipients = (JSON.parse(annotation.toString()) as { recipients: unknown[] }).recipients.length;
    assert.is(recipients, ["two", "colon"].includes(name) ? 2 : 1);
    const { keywrapparams } = JSON.parse(request) as { keywrapparams: { optsdata: string } };
    assert.is(Buffer.from(unwrap(store, annotation)).toString("base64"), keywrapparams.optsdata);
  });
}

for (const name of ["unwrap-skopeo", "unwrap-skopeo-privkey", "unwrap-skopeo-foreignkey"]) {
  test(`unwraps whatever hints skopeo sends along: ${name}`, () => {
    const request = recorded(name).replace(
      /"annotation":"[^"]*"/,
      `"annotation":"${wrap(store, ["alice"]).toString("base64")}"`,
    );
    assert.is(
      Buffer.from(parse(exec(request).stdout)["keyunwrapresults"]?.["optsdata"] ?? "", "base64").toString(),
      OPTSDATA,
    );
  });
}

test("takes options with = too, and the store from the environment", () => {
  assert.is(exec(wrapRequest(["alice"]), [`--keystore=${store}`, "--provider=keystore"]).code, 0);
  assert.is(run([], { input: wrapRequest(["alice"]), env: { OCICRYPT_KEYSTORE: store } }).code, 0);
});

test("knows its provider among several by the name it was started by, or by --provider", () => {
  const request = wrapRequest(["alice"], "mine").replace('"mine":', '"other":["Ym9i"],"mine":');
  assert.match(assertFailure(exec(request), 1), /"args": \["--provider", "NAME"\]/);
  const dir = temporaryFolder();
  for (const name of ["mine", "ocicrypt-mine"]) {
    symlinkSync(BINARY, join(dir, name));
    const started = run(["--keystore", store], { input: request, binary: join(dir, name) });
    assert.match(
      Buffer.from(parse(started.stdout)["keywrapresults"]?.["annotation"] ?? "", "base64").toString(),
      new RegExp(kidOf(store, "alice")),
    );
  }
  assert.is(exec(request, ["--keystore", store, "--provider", "other"]).code, 0);
});

const annotation = wrap(store, ["alice"]);
const compact = [
  "eyJhbGciOiJBMjU2S1ciLCJlbmMiOiJBMjU2R0NNIn0",
  "A".repeat(54),
  "AAAAAAAAAAAAAAAA",
  "AAAA",
  "A".repeat(22),
].join(".");
const bad: [name: string, input: string | Buffer, exitCode: number, line: RegExp][] = [
  ["empty input", "", 1, /key provider request is empty; /],
  ["9 MiB of input", Buffer.alloc(9 * 1024 * 1024, 0x20), 1, /larger than 8 MiB; /],
  ["broken JSON", '{"op":"keywrap",', 1, /is not JSON; /],
  ["a secret in broken JSON", `{"symkey":"UDF0CHxhvdjr2p5Q`, 1, /is not JSON; /],
  ["JSON that is no object", "[]", 1, /is not a JSON object; /],
  ["JSON text that is only a string", '"keywrap"', 1, /is not a JSON object; /],
  ["no op", "{}", 1, /has no op; /],
  ["an unknown op", '{"op":"keyrot\\u001b[2J"}', 1, /unknown op "keyrot\\u001b\[2J"; /],
  ["no parameters", '{"op":"keywrap"}', 1, /names no key provider; /],
  ["nothing to wrap", wrapRequest(["alice"], "keystore", ""), 1, /nothing to wrap/],
  ["an unknown recipient", wrapRequest(["nobody"]), 1, /unknown recipient "nobody".*keygen NAME/],
  ["a recipient that is a path", wrapRequest(["../private/x"]), 1, /unknown recipient "\.\.\/private\/x"/],
  ["no annotation", '{"op":"keyunwrap"}', 1, /annotation is neither/],
  ["an annotation that is no JWE", unwrapRequest("hello"), 1, /neither a JSON object nor a compact JWE/],
  ["a truncated JWE", unwrapRequest(annotation.subarray(0, 200)), 1, /annotation is not JSON/],
  ["a foreign JWE", unwrapRequest(compact), 3, /no private key of the store opens this annotation/],
  [
    "a JWE for another store's key",
    unwrapRequest(wrap(makeStore("abc"), ["abc"])),
    3,
    /no private key .* made for [\w-]{43}\); .*--keystore/,
  ],
];
const THROUGH_BINARY = ["empty input", "9 MiB of input", "a foreign JWE"];
for (const [name, input, exitCode, line] of bad) {
  test(`refuses ${name} with one line`, () => {
    const result = THROUGH_BINARY.includes(name) ? throughBinary(() => exec(input)) : exec(input);
    const shown = assertFailure(result, exitCode);
    assert.match(shown, line);
    assert.not.match(shown, /UDF0CHxh|symkey/);
  });
}

test("refuses wrong types in every member of a request", () => {
  const wrong = [0, true, "x", [], [[]], { a: 1 }, null];
  const paths = [
    ["op"],
    ["keywrapparams"],
    ["keywrapparams", "ec"],
    ["keywrapparams", "ec", "Parameters"],
    ["keywrapparams", "ec", "Parameters", "keystore"],
    ["keywrapparams", "optsdata"],
  ];
  for (const path of paths) {
    for (const value of wrong) {
      const request = JSON.parse(wrapRequest(["alice"])) as Record<string, unknown>;
      const parent = path.slice(0, -1).reduce((object, name) => object[name] as Record<string, unknown>, request);
      parent[path.at(-1) ?? ""] = value;
      const result = exec(JSON.stringify(request));
      if (
        path.at(-1) === "keystore" &&
        (value === null || JSON.stringify(value) === "[]" || JSON.stringify(value) === "[[]]")
      )
        assert.is(result.code, 0);
      else assertFailure(result, 1);
    }
  }
  for (const value of [...wrong, "!"]) {
    assertFailure(exec(JSON.stringify({ op: "keyunwrap", keyunwrapparams: { annotation: value } })), 1);
  }
});

test("says that there is no store, no default key, no way to read it", () => {
  const nowhere = join(temporaryFolder(), "none");
  assert.match(
    assertFailure(exec(wrapRequest(["alice"]), ["--keystore", nowhere]), 1),
    /no key store at .*keygen NAME/,
  );
  assert.match(assertFailure(exec(unwrapRequest(annotation), ["--keystore", nowhere]), 3), /no key store at /);
  const noDefault = makeStore("alice");
  rmSync(join(noDefault, "default"));
  assert.match(
    assertFailure(exec(wrapRequest(["Enabled"]), ["--keystore", noDefault]), 1),
    /no default key in .* default NAME/,
  );
});

test("refuses a private key that others can read, and says how to fix it", () => {
  const open = makeStore("alice", "carol:--type oct");
  for (const name of ["alice", "carol"]) {
    const path = join(open, "private", `${kidOf(open, name)}.jwk`);
    const sealed = wrap(open, [name]);
    chmodSync(path, 0o644);
    assert.ok(
      assertFailure(exec(unwrapRequest(sealed), ["--keystore", open]), 3).endsWith(
        `can be read by others (mode 0644); run chmod 600 ${path}`,
      ),
    );
    chmodSync(path, 0o600);
  }
});

test("says so when the disk is full or the reader is gone", () => {
  const shell = (redirect: string): Result => {
    const script = `"$0" --keystore "$1" ${redirect}; exit \${PIPESTATUS[0]}`;
    const { status, stdout, stderr } = spawnSync("bash", ["-c", script, BINARY, store], {
      input: unwrapRequest(annotation),
      encoding: "utf8",
    });
    return { code: status, stdout, stderr };
  };
  assert.match(assertFailure(shell("> /dev/full"), 1), /standard output: ENOSPC/);
  assert.match(assertFailure(shell("| true"), 1), /standard output: EPIPE/);
});

test("needs no environment, no HOME and no working directory", () => {
  const gone = spawnSync(
    "bash",
    ["-c", 'cd "$(mktemp -d)" && rmdir "$PWD" && exec env -i "$0" --keystore "$1"', BINARY, store],
    { input: unwrapRequest(annotation), encoding: "utf8" },
  );
  assert.is(gone.status, 0, gone.stderr);
  assert.match(gone.stdout, /optsdata/);
});

test("ignores what NODE_OPTIONS says, and runs from its code cache", () => {
  const env = { NODE_OPTIONS: "--bogus --require=/nonexistent", OCICRYPT_KEYSTORE: store };
  const { code, stderr } = throughBinary(() => run([], { input: unwrapRequest(annotation), env }));
  assert.is(code, 0);
  assert.is(stderr, "", "a rejected code cache would warn");
});

test("lets help to a terminal end with exit code 2, on stderr", () => {
  const { status, stdout } = spawnSync("script", ["-qec", `${shellLine([BINARY])} 2>/dev/null`, "/dev/null"], {
    encoding: "utf8",
  });
  assert.is(status, 2);
  assert.is(stdout, "");
});

/** A copy of the store whose files belong to a user and can be read by it alone. */
function storeOf(uid: number): string {
  const dir = join(sharedFolder(), "store");
  for (const folder of ["", "public", "private", "names"]) {
    mkdirSync(join(dir, folder));
    for (const file of readdirSync(join(store, folder), { withFileTypes: true })) {
      if (!file.isFile()) continue;
      copyFileSync(join(store, folder, file.name), join(dir, folder, file.name));
      chmodSync(join(dir, folder, file.name), 0o400);
      chownSync(join(dir, folder, file.name), uid, uid);
    }
    chownSync(join(dir, folder), uid, uid);
    chmodSync(join(dir, folder), 0o500);
  }
  return dir;
}

const asNobody = (dir: string, input: string): Result => {
  const args = [
    "--reuid",
    "65534",
    "--regid",
    "65534",
    "--clear-groups",
    "env",
    "-i",
    sharedBinary(),
    "--keystore",
    dir,
  ];
  const { status, stdout, stderr } = spawnSync("setpriv", args, { input, encoding: "utf8" });
  return { code: status, stdout, stderr };
};

testWith(root, "root, to become another user", "unwraps for a user that can only read the store", () => {
  assert.is(asNobody(storeOf(65534), unwrapRequest(annotation)).code, 0);
});

testWith(root, "root, to become another user", "says which file this user cannot read", () => {
  const dir = makeSharedStore("alice");
  assert.match(
    assertFailure(asNobody(dir, unwrapRequest(wrap(dir, ["alice"]))), 3),
    /cannot read .*\/private\/.*\.jw[ek]: EACCES; let this user read it/,
  );
  assert.is(asNobody(dir, wrapRequest(["alice"])).code, 0, "wrapping needs no private key");
});

testWith(
  root,
  "root, to own a file for another",
  "leaves another owner's file to the administrator: group-readable is taken",
  () => {
    const dir = makeStore("alice");
    const path = join(dir, "private", `${kidOf(dir, "alice")}.jwk`);
    chmodSync(path, 0o640);
    chownSync(path, 65534, 65534);
    assert.is(unwrap(dir, wrap(dir, ["alice"])), OPTSDATA);
  },
);

testWith(root, "root, to remount", "unwraps on a read-only root", () => {
  const script = 'mount -o remount,bind,ro / && ! touch "$1/x" 2>/dev/null && exec env -i "$0" --keystore "$1"';
  const { status, stdout, stderr } = spawnSync("unshare", ["-m", "bash", "-c", script, BINARY, store], {
    input: unwrapRequest(annotation),
    encoding: "utf8",
  });
  assert.is(status, 0, stderr);
  assert.match(stdout, /optsdata/);
});

const strace = spawnSync("strace", ["-V"]).status === 0 ? true : undefined;
testWith(strace, "strace", "writes no file, opens no socket and starts no process, wrapping or unwrapping", () => {
  for (const input of [unwrapRequest(annotation), wrapRequest(["alice"])]) {
    const traced = spawnSync(
      "strace",
      ["-f", "-e", "trace=%file,%network,execve,fork,vfork", BINARY, "--keystore", store],
      { input, encoding: "utf8" },
    );
    assert.is(traced.status, 0, traced.stderr);
    const calls = traced.stderr.split("\n").filter((line) => !line.includes("strace:") && /\(/.test(line));
    assert.ok(
      calls.some((line) => line.includes(`${store}/`)),
      "the trace shows the store's files",
    );
    const forbidden = calls.filter(
      (line) =>
        /O_WRONLY|O_RDWR|O_CREAT|mkdir|unlink|rename|link\(|chmod|socket|connect|fork/.test(line) &&
        !line.includes("readlink"),
    );
    assert.equal(forbidden, []);
    assert.is(calls.filter((line) => line.includes("execve(")).length, 1);
  }
});

test("takes files that are symlinks, as a mounted Kubernetes secret is made of them", () => {
  const dir = makeStore("alice");
  const secret = temporaryFolder();
  for (const file of [`private/${kidOf(dir, "alice")}.jwk`, `public/${kidOf(dir, "alice")}.jwk`, "names/alice"]) {
    const target = join(secret, file.replace("/", "-"));
    copyFileSync(join(dir, file), target);
    if (file.startsWith("private")) chmodSync(target, 0o600);
    rmSync(join(dir, file));
    symlinkSync(target, join(dir, file));
  }
  assert.is(unwrap(dir, wrap(dir, ["alice"])), OPTSDATA);
});

test("is one file: it runs from a bare folder", () => {
  const dir = temporaryFolder();
  copyFileSync(BINARY, join(dir, "plugin"));
  assert.is(
    run(["--keystore", store], { input: unwrapRequest(annotation), binary: join(dir, "plugin"), cwd: dir }).code,
    0,
  );
  assert.ok(ROOT !== dir);
});

test("reads a request that arrives in pieces, from a non-blocking pipe", () => {
  const script = `(printf '%s' "$2" | head -c 100; sleep 0.2; printf '%s' "$2" | tail -c +101) | "$0" --keystore "$1"`;
  const { status, stderr } = spawnSync("bash", ["-c", script, BINARY, store, unwrapRequest(annotation)], {
    encoding: "utf8",
  });
  assert.is(status, 0, stderr);
});

test("refuses damaged names and default files by name", () => {
  const dir = makeStore("alice");
  writeFileSync(join(dir, "names", "alice"), "../../etc/passwd\n");
  assert.match(assertFailure(exec(wrapRequest(["alice"]), ["--keystore", dir]), 1), /names\/alice is damaged/);
  writeFileSync(join(dir, "default"), "a b\n");
  assert.match(assertFailure(exec(wrapRequest([""]), ["--keystore", dir]), 1), /default is damaged/);
});

test.run();
