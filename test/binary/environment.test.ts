// The environment steers nothing: no variable of Node or of a library in the binary changes what runs, what is read or
// written, or whom TLS trusts. A holder's command gets all of them.

import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { openssl, selfSigned } from "../support/certificates.ts";
import { secretFile, temporaryFolder, tree } from "../support/folders.ts";
import { held, newRsa, script } from "../support/holders.ts";
import { sampled, testWith } from "../support/parts.ts";
import { assertFailure, BINARY, run, runBeside, type Result } from "../support/program.ts";
import { unwrapRequest, wrap } from "../support/requests.ts";
import { startServer, grpcUnwrap } from "../support/server.ts";
import { commands, kidOf, makeStore } from "../support/stores.ts";

const store = makeStore("alice");
const annotation = wrap(store, ["alice"]);

/** A folder with files that a variable may name, and where it may have files written. */
const decoys = temporaryFolder();
const decoy = (name: string): string => join(decoys, name);
mkdirSync(decoy("folder"));
writeFileSync(decoy("syntax.cnf"), "[[[ = \n");
writeFileSync(
  decoy("modules.cnf"),
  `nodejs_conf = x\nopenssl_conf = x\n[x]\nengines = e\nproviders = p\n[e]\nf = g\n[g]\ndynamic_path = ${decoy("e.so")}
[p]\nq = r\n[r]\nmodule = ${decoy("p.so")}\nactivate = 1\n`,
);
writeFileSync(decoy("module.js"), `require("fs").writeFileSync(${JSON.stringify(decoy("loaded"))}, "")`);
writeFileSync(decoy("default.cnf"), "nodejs_conf = x\n[x]\nalg_section = y\n[y]\ndefault_properties = fips=yes\n");

// Each on its own: of two, one could hide what the other does.
const VARIABLES: readonly (readonly [name: string, value: string])[] = [
  ["NODE_OPTIONS", "--bogus"],
  ["NODE_OPTIONS", `--require=${decoy("module.js")}`],
  ["NODE_PATH", decoys],
  ["NODE_V8_COVERAGE", "relative"],
  ["NODE_V8_COVERAGE", decoy("coverage")],
  ["NODE_COMPILE_CACHE", decoy("cache")],
  ["NODE_COMPILE_CACHE", decoy("below/a/new/folder")],
  ["NODE_COMPILE_CACHE", decoy("folder")],
  ["NODE_EXTRA_CA_CERTS", decoy("missing")],
  ["NODE_TLS_REJECT_UNAUTHORIZED", "0"],
  ["NODE_UNIQUE_ID", "1"],
  ["NODE_DEBUG", "*"],
  ["NODE_DEBUG", "fs,net,http,http2,tls,stream,timer,module,worker"],
  ["NODE_PENDING_DEPRECATION", "1"],
  ["NODE_REDIRECT_WARNINGS", decoy("warnings")],
  ["NODE_ICU_DATA", decoys],
  ["NODE_USE_SYSTEM_CA", "1"],
  ["NODE_USE_ENV_PROXY", "1"],
  ["NODE_RUN_SCRIPT_NAME", "x"],
  ["NODE_TEST_CONTEXT", "child-v8"],
  ["NODE_REPL_HISTORY", decoy("history")],
  ["NODE_PRESERVE_SYMLINKS", "1"],
  ["WATCH_REPORT_DEPENDENCIES", "1"],
  ["OPENSSL_CONF", decoy("syntax.cnf")],
  ["OPENSSL_CONF", decoy("modules.cnf")],
  ["OPENSSL_CONF", decoy("default.cnf")],
  ["OPENSSL_CONF", decoy("missing")],
  ["OPENSSL_CONF", decoys],
  ["OPENSSL_CONF_INCLUDE", decoys],
  ["OPENSSL_MODULES", decoys],
  ["OPENSSL_ENGINES", decoys],
  ["SSLKEYLOGFILE", decoy("keys")],
  ["UV_THREADPOOL_SIZE", "0"],
  ["UV_USE_IO_URING", "1"],
  ["PKG_EXECPATH", "PKG_INVOKE_NODEJS"],
  ["PKG_DUMMY_ENTRYPOINT", "1"],
  ["GRPC_TRACE", "all"],
  ["YARGS_MIN_NODE_VERSION", "99"],
];
const before = tree(decoys);

const together = Object.fromEntries(VARIABLES);

/** Asserts that environments change neither how a process ends nor the folder, which is its working directory. */
function assertIgnored(args: readonly string[], input: string, envs: readonly NodeJS.ProcessEnv[]): void {
  const start = (env: NodeJS.ProcessEnv): Result => run([...args, "--keystore", store], { input, env, cwd: decoys });
  const usual = start({});
  assert.equal([usual.code, usual.stderr], [0, ""]);
  for (const env of envs) {
    assert.equal(start(env), usual, JSON.stringify(env));
    assert.equal(tree(decoys), before, `${JSON.stringify(env)} has files written`);
  }
}

test("no variable of Node, OpenSSL or a library steers an unwrap", () => {
  const each = VARIABLES.map(([name, value]) => ({ [name]: value }));
  assertIgnored([], unwrapRequest(annotation), [...sampled(each, 3), together]);
});

test("no such variable steers a command", () => {
  // Node itself complains of these certificates as soon as a part of it that knows TLS is loaded.
  assertIgnored(["list", "--json"], "", [{ ...together, NODE_EXTRA_CA_CERTS: undefined }]);
});

test("no such variable steers a server, and its log has no lines of others", async () => {
  const server = await startServer(store, { env: { ...together, GRPC_VERBOSITY: "DEBUG" } });
  await grpcUnwrap(server.address, annotation);
  assert.is(await server.stop(), 0);
  const others = server
    .log()
    .split("\n")
    .filter((line) => !/^(listening on |keyunwrap .* ok |$)/.test(line));
  assert.equal(
    others.filter((line) => !line.includes("extra certs")),
    [],
  );
  assert.equal(tree(decoys), before);
});

test("a folder that was there before stays, whatever NODE_COMPILE_CACHE says", () => {
  const env = { NODE_COMPILE_CACHE: decoy("folder") };
  assert.is(run(["--keystore", store], { input: unwrapRequest(annotation), env }).code, 0);
  assert.equal(tree(decoys), before);
});

testWith(openssl, "openssl", "TLS trusts whom SSL_CERT_FILE names, and not whom a variable of Node names", async () => {
  const { cert, key } = selfSigned();
  const server = createServer({ cert: readFileSync(cert), key: readFileSync(key) }, (_, response) => {
    response.writeHead(404).end();
  }).listen(0, "localhost");
  await once(server, "listening");
  server.unref();
  const url = `https://localhost:${(server.address() as AddressInfo).port}`;
  const lock = async (env: NodeJS.ProcessEnv): Promise<string> =>
    assertFailure(await runBeside(["lock", "--tang", url, "--keystore", store], { env }), 3);
  assert.match(await lock({ SSL_CERT_FILE: cert }), /answers HTTP 404/);
  for (const env of [
    { NODE_TLS_REJECT_UNAUTHORIZED: "0" },
    { NODE_EXTRA_CA_CERTS: cert },
    { NODE_OPTIONS: "--use-openssl-ca" },
    { NODE_USE_SYSTEM_CA: "1" },
  ]) {
    assert.match(await lock(env), /does not answer: DEPTH_ZERO_SELF_SIGNED_CERT/, JSON.stringify(env));
  }
});

testWith(openssl, "openssl", "a holder's command gets the whole environment of the caller", () => {
  const dir = join(temporaryFolder(), "store");
  const log = join(temporaryFolder(), "log");
  const key = newRsa();
  const [op, name, file, flag, operation, end, ...command] = held("rsa-oaep-256", key);
  const shown = script(`env > '${log}'; exec "$@"`);
  commands(dir)(...[op, name, file, flag, operation, end].map(String), shown, ...command);
  const env = {
    NODE_OPTIONS: "--x",
    OPENSSL_MODULES: "/m",
    NODE_TLS_REJECT_UNAUTHORIZED: "0",
    TOKEN_PIN: "1",
    PATH: "/bin:/usr/bin",
  };
  const { code, stderr } = run(["--keystore", dir], { input: unwrapRequest(wrap(dir, [kidOf(dir, "hsm")])), env });
  assert.is(code, 0, stderr);
  const seen = new Set(readFileSync(log, "utf8").split("\n"));
  for (const [variable, value] of Object.entries(env)) assert.ok(seen.has(`${variable}=${value}`), variable);
});

test("doctor's round trip gives the configured program the whole environment of the caller", () => {
  const log = join(temporaryFolder(), "log");
  const provider = script(`env > '${log}'; exec "${BINARY}" "$@"`);
  const args = ["--keystore", store, "--provider", "ks"];
  const conf = secretFile(JSON.stringify({ "key-providers": { ks: { cmd: { path: provider, args } } } }));
  const env = {
    OCICRYPT_KEYPROVIDER_CONFIG: conf,
    PATH: "/bin:/usr/bin",
    NODE_NO_WARNINGS: "1",
    OPENSSL_MODULES: "/m",
  };
  run(["doctor", "--keystore", store], { env });
  const seen = new Set(readFileSync(log, "utf8").split("\n"));
  for (const [variable, value] of Object.entries(env)) assert.ok(seen.has(`${variable}=${value}`), variable);
});

test("an IPC channel or a cluster's worker id, which Node takes up before the first line, steers nothing", () => {
  const line = `exec 7<>"$1"; NODE_CHANNEL_FD=7 NODE_UNIQUE_ID=1 exec "$0" list --json --keystore "$2"`;
  const fifo = join(temporaryFolder(), "fifo");
  assert.is(spawnSync("mkfifo", [fifo]).status, 0);
  const { status, stdout, stderr } = spawnSync("sh", ["-c", line, BINARY, fifo, store], {
    encoding: "utf8",
    timeout: 20_000,
  });
  assert.equal([status, stderr], [0, ""]);
  assert.is((JSON.parse(stdout) as unknown[]).length, 1);
});

test.run();
