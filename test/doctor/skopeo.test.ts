// doctor beside a real skopeo with the same ocicrypt.conf: doctor fails exactly where skopeo fails.

import { spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, linkSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { secretFiles } from "../../src/at-rest/secret-files.ts";
import { examine } from "../../src/doctor/doctor.ts";
import { openStore } from "../../src/keystore/store.ts";
import { makeAuthority, openssl } from "../support/certificates.ts";
import { skopeo } from "../support/encrypted-images.ts";
import { temporaryFolder } from "../support/folders.ts";
import { makeImage } from "../support/images.ts";
import { sampled, testWith } from "../support/parts.ts";
import { BINARY, shellLine } from "../support/program.ts";
import { startServer, type TestServer } from "../support/server.ts";
import type { Skopeo } from "../support/skopeo.ts";
import { lockedStore, makeStore, masterKeyFile } from "../support/stores.ts";

process.execPath = BINARY; // doctor knows itself by its path, and need not look into the file
const PROVIDER = "keystore";
const store = makeStore("alice", "bob");
const bin = temporaryFolder();
const image = join(temporaryFolder(), "image");
makeImage(image, { layerBytes: 16 });
const args = ["--keystore", store, "--provider", PROVIDER];

/** A file of the folder that is on PATH, executable unless said otherwise. */
function program(name: string, content: string, mode = 0o755): string {
  const path = join(bin, name);
  writeFileSync(path, content);
  chmodSync(path, mode);
  return path;
}

const call = shellLine([BINARY, ...args]);
const link = join(bin, "linked");
symlinkSync(BINARY, link);
const copy = join(bin, "copied");
try {
  linkSync(BINARY, copy); // another path to the same bytes, as a copy is, and made at once
} catch {
  copyFileSync(BINARY, copy); // on another file system
}
const skopeoPath = skopeo?.command.at(-2);
if (skopeoPath !== undefined) symlinkSync(skopeoPath, join(bin, "skopeo"));
const folder = join(bin, "folder");
mkdirSync(folder);
const wrapper = program("wrapper", `#!/bin/sh\nexec ${call} "$@"\n`);
const foreignProgram = `\x7fELF\x02\x01\x01${"\0".repeat(9)}\x02\0\x01\0${"\0".repeat(44)}\ntouch ${join(bin, "ran")}\n`;
const fifo = join(bin, "fifo");
spawnSync("mkfifo", [fifo]);

interface Row {
  readonly what: string;
  /** The file's text, or what `key-providers` is to hold. */
  readonly conf: unknown;
  /** What doctor says where skopeo fails; undefined where both accept. */
  readonly fails?: RegExp;
  /** PATH after the system's own folders. */
  readonly path?: string;
  readonly cwd?: string;
  /** Whether to decrypt, too. */
  readonly decrypts?: boolean;
}

const ok = { cmd: { path: BINARY, args } };
const entry = (value: unknown): object => ({ [PROVIDER]: value });
const cmd = (path: unknown, words: unknown = args): object => entry({ cmd: { path, args: words } });
const text = (members: string): string => `{"key-providers":{"${PROVIDER}":${members}}}`;
const own = JSON.stringify(ok);
const inner = own.slice(1, -1);

const ROWS: readonly Row[] = [
  { what: "what config prints", conf: entry(ok), decrypts: true },
  { what: "a symlink to this program", conf: cmd(link) },
  { what: "a copy of this program", conf: cmd(copy) },
  { what: "a bare name in PATH", conf: cmd("copied"), path: bin },
  { what: "a bare name that is not in PATH", conf: cmd("copied"), fails: /is not there, in no folder of PATH/ },
  {
    what: "a bare name in a relative folder of PATH",
    conf: cmd("copied"),
    path: ".",
    cwd: bin,
    fails: /relative folder of PATH/,
  },
  { what: "a relative path", conf: cmd("./copied"), cwd: bin },
  { what: "a relative path elsewhere", conf: cmd("./copied"), cwd: folder, fails: /is not there/ },
  { what: "a wrapper", conf: cmd(wrapper, []) },
  { what: "a wrapper without args in the entry", conf: entry({ cmd: { path: wrapper } }) },
  { what: "a wrapper by its bare name", conf: cmd("wrapper", null), path: bin },
  { what: "a shell with the program as its argument", conf: cmd("/bin/sh", ["-c", `exec ${call}`]) },
  { what: "env", conf: cmd("/usr/bin/env", ["LC_ALL=C", BINARY, ...args]) },
  { what: "a wrapper without #!", conf: cmd(program("bare", `exec ${call}\n`)), fails: /begins with "#!"/ },
  { what: "a wrapper with CR LF", conf: cmd(program("crlf", `#!/bin/sh\r\nexec ${call}\r\n`)), fails: /CR LF/ },
  {
    what: "a wrapper of a missing interpreter",
    conf: cmd(program("odd", "#!/none/sh\n")),
    fails: /interpreter \/none\/sh is not there/,
  },
  { what: "a wrapper that is not executable", conf: cmd(program("plain", "#!/bin/sh\n", 0o644)), fails: /chmod \+x/ },
  {
    what: "a wrapper that prints more",
    conf: cmd(program("chatty", `#!/bin/sh\necho hello\n${call}\n`)),
    fails: /answer that is not JSON/,
  },
  {
    what: "a wrapper that fails",
    conf: cmd(program("failing", "#!/bin/sh\necho no luck >&2\nexit 7\n")),
    fails: /exit code 7\): no luck/,
  },
  {
    what: "a wrapper of a program that is not there",
    conf: cmd(program("broken", "#!/bin/sh\nexec /none/x\n")),
    fails: /exit code 127/,
  },
  {
    what: "a wrapper that loses standard input",
    conf: cmd(program("deaf", `#!/bin/sh\n${call} < /dev/null\n`)),
    fails: /request is empty/,
  },
  {
    what: "a wrapper that only warns on standard error",
    conf: cmd(program("loud", `#!/bin/sh\necho careful >&2\nexec ${call}\n`)),
  },
  { what: "a program that says nothing", conf: cmd("/bin/true", []), fails: /gave an answer that is empty/ },
  { what: "a program that says {}", conf: cmd("/bin/echo", ["{}"]), fails: /answer without keywrapresults.annotation/ },
  { what: "a program that repeats the request", conf: cmd("/bin/cat", []), fails: /answer without keywrapresults/ },
  {
    what: "a program of another machine",
    conf: cmd(program("foreign", foreignProgram)),
    fails: /for a machine of another kind/,
  },
  { what: "a NUL in args", conf: cmd(BINARY, [...args, "\0"]), fails: /has a NUL character in its cmd/ },
  { what: "a NUL in a path", conf: cmd(`${BINARY}\0`), fails: /has a NUL character in its cmd/ },
  { what: "a folder", conf: cmd(folder), fails: /it is not a file/ },
  { what: "a FIFO", conf: cmd(fifo), fails: /it is not a file/ },
  { what: "a missing program", conf: cmd("/none/x"), fails: /is not there/ },
  { what: "an empty path", conf: cmd(""), fails: /has a cmd without a path/ },
  { what: "no path", conf: entry({ cmd: {} }), fails: /has a cmd without a path/ },
  { what: "path directly below the name", conf: entry({ path: BINARY, args }), fails: /directly below its name/ },
  { what: "an unknown option in args", conf: cmd(BINARY, [...args, "--verbose"]), fails: /does not accept the args/ },
  {
    what: "args of another provider",
    conf: cmd(BINARY, ["--keystore", store, "--provider", "other"]),
    fails: /names no provider "other"/,
  },
  { what: "a key store that is missing", conf: cmd(BINARY, ["--keystore", "/none"]), fails: /round-trip: .*\/none/ },
  { what: "null args", conf: entry({ cmd: { path: wrapper, args: null } }) },
  { what: "a null in args", conf: text(`{"cmd":{"path":"/bin/sh","args":["-c",${JSON.stringify(call)},null]}}`) },
  { what: "args that are a string", conf: cmd(BINARY, args.join(" ")), fails: /args that are not a list of strings/ },
  { what: "args with a number", conf: cmd(BINARY, [...args, 1]), fails: /args that are not a list of strings/ },
  { what: "a path that is a number", conf: cmd(1), fails: /path that is not a string/ },
  { what: "a cmd that is a string", conf: entry({ cmd: BINARY }), fails: /cmd that is not an object/ },
  { what: "a cmd that is a list", conf: entry({ cmd: [BINARY, ...args] }), fails: /cmd that is not an object/ },
  { what: "an entry that is a string", conf: entry(BINARY), fails: /that is not an object/ },
  { what: "an entry that is null", conf: entry(null), fails: /neither cmd nor grpc/ },
  { what: "an empty entry", conf: entry({}), fails: /neither cmd nor grpc/ },
  {
    what: "an entry of another name that is a string",
    conf: { ...entry(ok), other: "x" },
    fails: /clients refuse the whole file/,
  },
  {
    what: "an entry of another name whose program is missing",
    conf: { ...entry(ok), other: { cmd: { path: "/none" } } },
  },
  { what: "an entry of another name that is empty", conf: { ...entry(ok), other: {} } },
  {
    what: "names in other case",
    conf: `{"Key-Providers":{"${PROVIDER}":{"CMD":{"Path":"${BINARY}","ARGS":${JSON.stringify(args)}}}}}`,
  },
  { what: "a Kelvin sign and a long s", conf: `{"\u212aey-provider\u017f":{"${PROVIDER}":${own}}}` },
  { what: "an escaped name", conf: `{"key\\u002dproviders":{"${PROVIDER}":${own}}}` },
  { what: "the provider's name in other case", conf: { Keystore: { cmd: { path: "/none" } } }, fails: /is not there/ },
  { what: "unknown members", conf: `{"version":1,"key-providers":{"${PROVIDER}":{"comment":[1],${inner}}}}` },
  { what: "cmd null and no grpc", conf: entry({ cmd: null }), fails: /neither cmd nor grpc/ },
  { what: "cmd null after a good one", conf: text(`{${inner},"cmd":null}`), fails: /neither cmd nor grpc/ },
  { what: "a cmd in two halves", conf: text(`{"cmd":{"path":"${BINARY}"},"cmd":{"args":${JSON.stringify(args)}}}`) },
  {
    what: "an entry twice, the last is good",
    conf: `{"key-providers":{"${PROVIDER}":{"cmd":{"path":"/none"}},"${PROVIDER}":${own}}}`,
  },
  {
    what: "an entry twice, the last is bad",
    conf: `{"key-providers":{"${PROVIDER}":${own},"${PROVIDER}":{"cmd":{"path":"/none"}}}}`,
    fails: /is not there/,
  },
  { what: "key-providers twice", conf: `{"key-providers":{"${PROVIDER}":${own}},"key-providers":{"other":{}}}` },
  {
    what: "key-providers null at last",
    conf: `{"key-providers":{"${PROVIDER}":${own}},"key-providers":null}`,
    fails: /has no key-providers/,
  },
  {
    what: "a path null at last",
    conf: text(`{"cmd":{"path":"${BINARY}","args":${JSON.stringify(args)},"path":null}}`),
  },
  { what: "a grpc null beside cmd", conf: entry({ ...ok, grpc: null }) },
  { what: "a grpc number beside cmd", conf: entry({ ...ok, grpc: 1 }), fails: /grpc that is not a string/ },
  { what: "a grpc of nobody beside cmd", conf: entry({ ...ok, grpc: "localhost:1" }) },
  { what: "a grpc-tls of another type, which it does not know", conf: entry({ ...ok, "grpc-tls": "x" }), path: bin },
  {
    what: "key-providers that are a list",
    conf: `{"key-providers":[${own}]}`,
    fails: /key-providers that is not an object/,
  },
  { what: "no key-providers", conf: "{}", fails: /has no key-providers/ },
  {
    what: "another member in place of key-providers",
    conf: `{"providers":{"${PROVIDER}":${own}}}`,
    fails: /has no key-providers/,
  },
  { what: "null", conf: "null", fails: /has no key-providers/ },
  { what: "a list", conf: "[]", fails: /is JSON that is not an object/ },
  { what: "an empty file", conf: "", fails: /is empty/ },
  { what: "YAML", conf: `key-providers:\n  ${PROVIDER}:\n`, fails: /is not JSON/ },
  { what: "a comment", conf: `// mine\n${text(own)}`, fails: /is not JSON/ },
  { what: "a trailing comma", conf: `{"key-providers":{"${PROVIDER}":${own},}}`, fails: /is not JSON/ },
  { what: "two documents", conf: `${text(own)}${text(own)}`, fails: /is not JSON/ },
  { what: "a byte order mark", conf: `\ufeff${text(own)}`, fails: /byte order mark/ },
  {
    what: "Latin-1 in a comment",
    conf: Buffer.from(`{"note":"caf\u00e9","key-providers":{"${PROVIDER}":${own}}}`, "latin1"),
  },
  { what: "white space around it", conf: `\r\n\t ${text(own)} \n\n` },
];

/** What a fresh doctor says of the configuration and the round trip: a line for each failure. */
async function failures(row: Row, conf: string, env: Record<string, string>, dir = store): Promise<string[]> {
  const before = { cwd: process.cwd(), env: { ...process.env } };
  Object.assign(process.env, env, { OCICRYPT_KEYPROVIDER_CONFIG: conf });
  process.chdir(row.cwd ?? "/");
  try {
    const findings = await examine(openStore(dir, secretFiles({})), {});
    return findings.flatMap(({ id, status, message, hint }) => (status === "fail" ? `${id}: ${message}; ${hint}` : []));
  } finally {
    process.chdir(before.cwd);
    for (const name of Object.keys(env)) delete process.env[name];
    Object.assign(process.env, before.env);
    delete process.env["OCICRYPT_KEYPROVIDER_CONFIG"];
  }
}

/** Has skopeo encrypt an image, and decrypt it again where that may differ: what it complains about. */
function skopeoFails(
  { command }: Skopeo,
  { cwd = "/", decrypts = false }: Row,
  conf: string,
  env: Record<string, string>,
): string | undefined {
  const target = temporaryFolder();
  const [file = "", ...prefix] = command;
  for (const words of [
    ["--encryption-key", `provider:${PROVIDER}:alice`, `oci:${image}`, `oci:${target}/a`],
    ["--decryption-key", `provider:${PROVIDER}`, `oci:${target}/a`, `oci:${target}/b`],
  ].slice(0, decrypts ? 2 : 1)) {
    const { status, stderr } = spawnSync(file, [...prefix, "copy", "-q", ...words], {
      cwd,
      env: { ...env, OCICRYPT_KEYPROVIDER_CONFIG: conf },
      encoding: "utf8",
    });
    if (status !== 0) return stderr;
  }
  return undefined;
}

function confFile(conf: unknown): string {
  const path = join(temporaryFolder(), "ocicrypt.conf");
  const whole = typeof conf === "string" || Buffer.isBuffer(conf);
  writeFileSync(path, whole ? conf : JSON.stringify({ "key-providers": conf }));
  return path;
}

/** What doctor says must be what the row says. @returns it, and the machine for skopeo */
async function assertSays(row: Row, dir = store): Promise<{ said: string[]; conf: string; env: { PATH: string } }> {
  const conf = confFile(row.conf);
  const env = { PATH: `/usr/bin:/bin${row.path === undefined ? "" : `:${row.path}`}` };
  const said = await failures(row, conf, env, dir);
  if (row.fails === undefined) assert.equal(said, []);
  else assert.match(said.join("\n"), row.fails);
  return { said, conf, env };
}

async function assertAgree(tool: Skopeo, row: Row, dir = store): Promise<void> {
  const { said, conf, env } = await assertSays(row, dir);
  const complaint = skopeoFails(tool, row, conf, env);
  assert.is(said.length > 0, complaint !== undefined, `doctor: ${said.join("\n")}\nskopeo: ${complaint}`);
}

const A_SKOPEO = "a skopeo with ocicrypt 1.1 or later";
const COMPARED = sampled(ROWS, 5);
for (const row of ROWS) {
  if (COMPARED.includes(row)) {
    testWith(skopeo, A_SKOPEO, `agrees with skopeo on ${row.what}`, async (tool) => await assertAgree(tool, row));
  } else test(`says what agrees with skopeo in full runs: ${row.what}`, async () => void (await assertSays(row)));
}

testWith(skopeo, A_SKOPEO, "agrees with skopeo on keys that are locked", async (tool) => {
  const secret = masterKeyFile();
  const { dir } = await lockedStore("--master-key-file", secret);
  const options = ["--keystore", dir, "--provider", PROVIDER];
  await assertAgree(tool, { what: "", decrypts: true, conf: cmd(BINARY, options), fails: /is locked/ }, dir);
  await assertAgree(
    tool,
    { what: "", decrypts: true, conf: cmd(BINARY, [...options, "--master-key-file", secret]) },
    dir,
  );
  await assertAgree(
    tool,
    {
      what: "",
      decrypts: true,
      conf: cmd(BINARY, [...options, "--master-key-file", masterKeyFile()]),
      fails: /does not open/,
    },
    dir,
  );
});

const addresses = (socket: string, port: string): readonly (readonly [string, RegExp?])[] => [
  [`unix://${socket}`],
  [`unix:${socket}`],
  [`UNIX:${socket}`],
  [`unix:${socket.slice(1)}`],
  [`unix:/${socket}`, /accept the address/],
  [`unix://${socket.slice(1)}`, /write unix:\/\/\/PATH/],
  [`passthrough:///unix://${socket}`],
  [socket, /accept the address/],
  [`localhost:${port}`],
  [`127.0.0.1:${port}`],
  [`:${port}`],
  [`localhost:${port}?x=1`],
  [`dns:///localhost:${port}`],
  [`dns:localhost:${port}`],
  [`passthrough:///localhost:${port}`],
  [`passthrough:localhost:${port}`],
  [`passthrough://localhost:${port}`, /accept the address/],
  [`dns://localhost:${port}`, /accept the address/],
  ["localhost", /has no port/],
  ["localhost:", /has no port/],
  ["dns:///", /accept the address/],
  [`http://localhost:${port}`, /is not HOST:PORT/],
  [`tcp://localhost:${port}`, /is not HOST:PORT/],
  [`ipv4:127.0.0.1:${port}`, /is not HOST:PORT/],
  [`localhost:${port}/`, /has no port/],
  ["localhost:1", /no server answers there/],
  ["unix:///none/socket", /no server answers there/],
];

testWith(skopeo, A_SKOPEO, "agrees with skopeo on addresses of servers", async (tool) => {
  const servers: TestServer[] = [];
  for (const listen of [`unix:${join(temporaryFolder(), "socket")}`, "localhost:0"]) {
    servers.push(await startServer(store, { listen }));
  }
  const [socket = "", port = ""] = servers.map(({ address }) => address.replace(/^unix:\/\/|.*:(?=\d+$)/, ""));
  const all = addresses(socket, port);
  const compared = sampled(all, 5);
  for (const address of all) {
    const [grpc, fails] = address;
    const row = { what: "", conf: entry({ grpc }), ...(fails && { fails }) };
    await (compared.includes(address) ? assertAgree(tool, row) : assertSays(row));
  }
  await assertAgree(tool, { what: "", conf: entry({ cmd: null, grpc: `localhost:${port}` }) });
  await assertAgree(tool, { what: "", conf: entry({ cmd: {}, grpc: `localhost:${port}` }), fails: /without a path/ });
  for (const server of servers) await server.stop();
});

testWith(
  openssl && skopeo,
  "openssl and a skopeo",
  "agrees with skopeo on grpc-tls, which it does not know",
  async (tool) => {
    const authority = makeAuthority();
    const [serverPair, clientPair] = [authority.issue("server"), authority.issue("client")];
    const tls = { "root-ca-file": authority.ca, "cert-file": clientPair.cert, "key-file": clientPair.key };
    const tlsArgs = ["--tls-cert", serverPair.cert, "--tls-key", serverPair.key, "--tls-client-ca", authority.ca];
    const secure = await startServer(store, { listen: "localhost:0", args: tlsArgs });
    const plain = await startServer(store, { listen: "localhost:0" });
    const at = (server: TestServer): Row => ({
      what: "",
      conf: entry({ grpc: server.address, "grpc-tls": tls }),
      path: bin,
    });
    await assertAgree(tool, { ...at(secure), fails: /client.skopeo: \S+ does not know grpc-tls.*server preface: EOF/ });
    await assertAgree(tool, at(plain));
    for (const server of [secure, plain]) await server.stop();
  },
);

test.after(() => rmSync(bin, { recursive: true, force: true }));

test.run();
