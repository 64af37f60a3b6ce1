// Holders: real commands open what is wrapped for their keys, and whatever a command does wrong costs one line, in time.

import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, chownSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { open } from "../../src/jwe/open.ts";
import { openStore } from "../../src/keystore/store.ts";
import { sharedFolder, temporaryFolder } from "../support/folders.ts";
import {
  holds,
  isRunning,
  linesOf,
  newEc,
  newRsa,
  openssl,
  script,
  writeHolder,
  type Outside,
} from "../support/holders.ts";
import { testWith } from "../support/parts.ts";
import { assertFailure, BINARY, sharedBinary } from "../support/program.ts";
import { exec, OPTSDATA, unwrap, unwrapRequest, wrap } from "../support/requests.ts";
import { commands, kidOf, noSecrets, readJson, wrapHere } from "../support/stores.ts";

const root = process.geteuid?.() === 0 ? true : undefined;
const RSA = newRsa();
const OPENS = holds("rsa-oaep-256", RSA);
const STRANGER = 54321;

/** A store with the public key under the name hsm, and no holder yet. */
function storeOf({ publicFile }: Outside, name = "hsm", folder = temporaryFolder()): { dir: string; kid: string } {
  const dir = join(folder, "store");
  commands(dir)("import", name, publicFile);
  mkdirSync(join(dir, "private"), { recursive: true, mode: 0o700 });
  return { dir, kid: kidOf(dir, name) };
}

const hsm = storeOf(RSA);
const annotation = wrap(hsm.dir, ["hsm"]);
/** Unwraps with a command as the holder's. */
const ask = (command: readonly string[], more: object = {}): ReturnType<typeof exec> => {
  writeHolder(hsm.dir, hsm.kid, { "rsa-oaep-256": command }, more);
  return exec(hsm.dir, annotation);
};
const opened = ({ code, stdout, stderr }: ReturnType<typeof exec>): string => {
  assert.is(code, 0, stderr);
  return Buffer.from(
    (JSON.parse(stdout) as { keyunwrapresults: { optsdata: string } }).keyunwrapresults.optsdata,
    "base64",
  ).toString();
};

for (const [op, curve] of [
  ["rsa-oaep-256", ""],
  ["ecdh", "P-256"],
  ["ecdh", "P-384"],
  ["ecdh", "P-521"],
] as const) {
  testWith(openssl, "openssl", `openssl holds a key for ${op} ${curve}`.trim(), () => {
    const key = curve === "" ? RSA : newEc(curve);
    const { dir, kid } = storeOf(key);
    writeHolder(dir, kid, { [op]: holds(op, key) });
    for (let count = 0; count < 3; count++) assert.is(unwrap(dir, wrap(dir, ["hsm"])), OPTSDATA);
  });
}

test("{kid} is replaced wherever it stands, arguments arrive as they are, and the environment is passed on", () => {
  const log = join(temporaryFolder(), "log");
  const program = script(`printf '%s|' "$@" "$SECRET" > ${log}; exec ${OPENS.join(" ")}`);
  writeHolder(hsm.dir, hsm.kid, { "rsa-oaep-256": [program, "{kid}", "a{kid}b{kid}", "", "--pin", "$HOME; *", '"q"'] });
  assert.is(opened(exec(hsm.dir, annotation, [], { SECRET: "from the environment", HOME: "/h" })), OPTSDATA);
  assert.is(readFileSync(log, "utf8"), `${hsm.kid}|a${hsm.kid}b${hsm.kid}||--pin|$HOME; *|"q"|from the environment|`);
});

const opens = (after: string, before = ""): string[] => [script(`${before}\n${OPENS.join(" ")}\n${after}`)];

for (const [what, command, line] of [
  ["fills standard output", [script("exec cat /dev/zero")], /answered more than 4096 bytes;/],
  [
    "fills standard error",
    [script("exec cat /dev/zero >&2")],
    /wrote more than 1048576 bytes to standard error: "\\u0000/,
  ],
  ["answers nothing", [script("exit 0")], /answered nothing;/],
  ["answers nothing and says why", [script("echo no token >&2")], /answered nothing: "no token";/],
  [
    "answers a wrong key of the right length",
    [script("exec head -c 32 /dev/urandom")],
    /answered, but not with what was wrapped for that key;/,
  ],
  [
    "answers a byte too few",
    [script("exec head -c 31 /dev/urandom")],
    /answered, but not with what was wrapped for that key;/,
  ],
  ["answers the right key and a newline", opens("echo"), /answered, but not with what was wrapped for that key;/],
  ["answers the right key and fails", opens("exit 4"), /failed \(exit code 4\);/],
  ["is ended by a signal", [script("kill -SEGV $$")], /was killed by SIGSEGV;/],
  ["answers the right key and is ended by a signal", opens("kill -KILL $$"), /was killed by SIGKILL;/],
  ["reads nothing", [script("exec <&-; exit 1")], /failed \(exit code 1\);/],
  [
    "complains at length",
    [script(String.raw`printf 'nobody reads this\nfirst\n\n\033[31mlast%0500d\n\n \n' 0 >&2; exit 1`)],
    /failed \(exit code 1\): "first \/ \\u001b\[31mlast0{285}…";/,
  ],
  [
    "gives its reason before lines that say that it gives up",
    [
      script(
        "printf 'start\\nERROR: (Forbidden) no access\\nCode: Forbidden\\nInner error: {\\n  code\\n}\\n' >&2; exit 1",
      ),
    ],
    /failed \(exit code 1\): "ERROR: \(Forbidden\) no access \/ code \/ \}";/,
  ],
  [
    "gives its reason in the middle of a line",
    [script("printf 'the token: Permission DENIED\\nhelp: x\\nsee y\\nbye\\n' >&2; exit 1")],
    /: "the token: Permission DENIED \/ see y \/ bye";/,
  ],
  [
    "gives several reasons",
    [script("printf 'it failed\\nFailed to log in\\nexit\\nerrors: 1\\nbye\\n' >&2; exit 1")],
    /: "Failed to log in \/ errors: 1 \/ bye";/,
  ],
  [
    "gives its reason in its last line",
    [script("printf 'one\\ntwo\\nerror: gone\\n' >&2; exit 1")],
    /: "two \/ error: gone";/,
  ],
  [
    "complains in bytes that are no text",
    [script(String.raw`printf '\377\376' >&2; exit 1`)],
    /failed \(exit code 1\): "\ufffd\ufffd";/,
  ],
  ["is not there", ["/nowhere/holder"], /\/nowhere\/holder, does not exist; install it/],
  ["lies below a file", ["/bin/sh/holder"], /\/bin\/sh\/holder, does not exist;/],
  ["is a folder", ["/bin"], /\/bin, is not executable;/],
  ["is no program", [script("exit 0", 0o644)], /is not executable;/],
  ["has no interpreter", [script("", 0o755, "/nowhere/sh")], /cannot be started \(ENOENT\);/],
] as const) {
  test(`is one line, exit code 3: the command ${what}`, () => {
    const started = Date.now();
    const found = assertFailure(ask(command), 3);
    assert.match(found, line);
    assert.match(found, `the holder of key ${hsm.kid}`);
    assert.ok(Date.now() - started < 5000, "in time");
  });
}

test("is one line, exit code 3: others can write the program", () => {
  for (const mode of [0o777, 0o775, 0o757]) {
    const program = script("exit 0");
    chmodSync(program, mode);
    assert.match(
      assertFailure(ask([program]), 3),
      `the holder of key ${hsm.kid}, ${program}, can be written by others (mode 0${mode.toString(8)}); run chmod go-w ${program}`,
    );
  }
});

testWith(root, "root", "is one line, exit code 3: the program or the holder file is somebody else's", () => {
  const [program = ""] = opens("");
  assert.is(opened(ask([program])), OPTSDATA);
  chownSync(program, STRANGER, STRANGER);
  assert.match(
    assertFailure(ask([program]), 3),
    `${program}, is owned by uid ${STRANGER}, which could replace it; run chown root ${program}`,
  );
  chownSync(program, 0, 0);
  const file = join(hsm.dir, "private", `${hsm.kid}.holder`);
  chownSync(file, STRANGER, STRANGER);
  assert.match(assertFailure(exec(hsm.dir, annotation), 3), `holder file ${file} is owned by uid ${STRANGER}`);
  rmSync(file);
});

const namespaces =
  root && spawnSync("setpriv", ["--reuid", String(STRANGER), "--clear-groups", "unshare", "-r", "true"]).status === 0
    ? true
    : undefined;
testWith(
  namespaces,
  "root, setpriv and user namespaces",
  "the root of a user namespace may use the programs of the host's root, as rootless podman does",
  () => {
    const folder = sharedFolder();
    const { dir, kid } = storeOf(RSA, "hsm", folder);
    writeFileSync(join(folder, "key.pem"), readFileSync(RSA.privateFile), { mode: 0o600 });
    writeHolder(dir, kid, {
      "rsa-oaep-256": OPENS.map((arg) => (arg === RSA.privateFile ? join(folder, "key.pem") : arg)),
    });
    for (const path of ["", ...readdirSync(folder, { recursive: true, encoding: "utf8" })])
      chownSync(join(folder, path), STRANGER, STRANGER);
    const args = ["--reuid", String(STRANGER), "--clear-groups", "unshare", "-r", sharedBinary(), "--keystore", dir];
    const { stdout, stderr } = spawnSync("setpriv", args, {
      input: unwrapRequest(wrap(dir, ["hsm"])),
      encoding: "utf8",
      cwd: "/",
    });
    assert.match(stdout, /^\{"keyunwrapresults"/, stderr);
  },
);

test("kills a command that hangs, with all that it started, once its time is over", async () => {
  const pids = join(temporaryFolder(), "pids");
  const started = Date.now();
  const line = assertFailure(
    ask([script(`echo $$ > ${pids}; trap '' TERM INT; sleep 300 & echo $! >> ${pids}; wait`)], { timeout_ms: 700 }),
    3,
  );
  assert.match(line, /did not answer within 0\.7 s;/);
  const took = Date.now() - started;
  assert.ok(took >= 700 && took < 10_000, `${took} ms`);
  await sleep(100);
  assert.is(linesOf(pids).length, 2);
  assert.equal(linesOf(pids).filter(isRunning), []);
});

test("takes a command that hangs along when a signal ends the client's process, as Ctrl-C does", async () => {
  const pids = join(temporaryFolder(), "pids");
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    rmSync(pids, { force: true });
    writeHolder(hsm.dir, hsm.kid, {
      "rsa-oaep-256": [script(`sleep 300 & echo $! > ${pids}; echo $$ >> ${pids}; wait`)],
    });
    const child = spawn(BINARY, ["--keystore", hsm.dir], { env: {}, cwd: "/", stdio: ["pipe", "ignore", "inherit"] });
    child.stdin.end(unwrapRequest(annotation));
    for (let tries = 0; linesOf(pids).length < 2 && tries < 500; tries++) await sleep(20);
    child.kill(signal);
    assert.equal(await once(child, "exit"), [null, signal]);
    assert.is(linesOf(pids).length, 2);
    for (let tries = 0; linesOf(pids).some(isRunning) && tries < 250; tries++) await sleep(20);
    assert.equal(linesOf(pids).filter(isRunning), []);
  }
});

test("does not wait for what a command leaves behind, and kills it if it keeps the pipes", async () => {
  const pids = join(temporaryFolder(), "pids");
  const started = Date.now();
  assert.is(opened(ask(opens("", `sleep 300 & echo $! > ${pids}`))), OPTSDATA);
  assert.is(opened(ask(opens("", "setsid sleep 10 &"))), OPTSDATA);
  assert.match(assertFailure(ask(opens("exit 9", "sleep 300 &")), 3), /failed \(exit code 9\)/);
  assert.ok(Date.now() - started < 9000, "in time");
  await sleep(100);
  assert.is(linesOf(pids).length, 1);
  assert.equal(linesOf(pids).filter(isRunning), []);
});

test("leaves an agent alone that a command starts and that keeps no pipe", async () => {
  const pids = join(temporaryFolder(), "pids");
  assert.is(opened(ask(opens("", `sleep 300 < /dev/null > /dev/null 2>&1 & echo $! > ${pids}`))), OPTSDATA);
  const [pid = ""] = linesOf(pids);
  assert.ok(isRunning(pid));
  process.kill(Number(pid), "SIGKILL");
});

test("a slow holder delays its own request alone", async () => {
  const slow = storeOf(RSA);
  writeHolder(slow.dir, slow.kid, { "rsa-oaep-256": opens("", "sleep 1") });
  const order: string[] = [];
  const ticks = setInterval(() => order.push("tick"), 100);
  const unwrapSlow = open(annotation, openStore(slow.dir, noSecrets)).then((bytes) => order.push(bytes.toString()));
  await sleep(10);
  writeHolder(hsm.dir, hsm.kid, { "rsa-oaep-256": OPENS });
  await open(annotation, openStore(hsm.dir, noSecrets)).then(() => order.push("fast"));
  await unwrapSlow;
  clearInterval(ticks);
  assert.is(order.at(-1), OPTSDATA, "the slow one last");
  assert.ok(order.filter((one) => one === "tick").length > 2, "and meanwhile the event loop ran");
});

test("the holder's operations say what it opens, not the alg that its public half is wrapped for with", () => {
  const { dir, kid } = storeOf(RSA);
  writeHolder(dir, kid, { "rsa-oaep": holds("rsa-oaep", RSA), "rsa-oaep-256": OPENS });
  writeFileSync(
    join(dir, "public", `${kid}.jwk`),
    JSON.stringify({ ...readJson(join(dir, "public", `${kid}.jwk`)), alg: "RSA-OAEP", key_ops: ["wrapKey"] }),
  );
  for (const one of [annotation, wrap(dir, ["hsm"])]) assert.is(unwrap(dir, one), OPTSDATA);
});

test("asks the holder of a key once for each unwrap, and keeps nothing", () => {
  const log = join(temporaryFolder(), "log");
  for (let count = 0; count < 2; count++) assert.is(opened(ask(opens("", `echo asked >> ${log}`))), OPTSDATA);
  assert.is(linesOf(log).length, 2);
});

/** The annotation with the kids of its recipients changed, and as many recipients as wanted. */
function forged(
  kid: string | undefined,
  count = 1,
  alter: (header: Record<string, unknown>) => void = () => undefined,
): Buffer {
  const jwe = JSON.parse(annotation.toString()) as {
    recipients: { header: Record<string, unknown>; encrypted_key: string }[];
  };
  const [first] = jwe.recipients;
  assert.ok(first);
  const header = { ...first.header };
  if (kid === undefined) delete header["kid"];
  else header["kid"] = kid;
  alter(header);
  const recipients = Array.from({ length: count }, (_, place) => ({
    header,
    encrypted_key: place === count - 1 ? first.encrypted_key : Buffer.alloc(256, place + 1).toString("base64url"),
  }));
  return Buffer.from(JSON.stringify({ ...jwe, recipients }));
}

test("a stranger's annotation runs few commands, and none where it names another key or another operation", () => {
  const log = join(temporaryFolder(), "log");
  writeHolder(hsm.dir, hsm.kid, { "rsa-oaep-256": opens("", `echo asked >> ${log}`) });
  const asked = (): number => {
    const { length } = linesOf(log);
    rmSync(log, { force: true });
    return length;
  };
  assert.is(opened(exec(hsm.dir, forged(undefined))), OPTSDATA);
  assert.is(asked(), 1, "an annotation without kid is tried");
  assert.is(opened(exec(hsm.dir, forged(undefined, 8))), OPTSDATA);
  assert.is(asked(), 8);
  for (const [kid, most] of [
    [undefined, 8],
    [hsm.kid, 1],
  ] as const) {
    assert.match(assertFailure(exec(hsm.dir, forged(kid, 64)), 3), /failed \(exit code 1\)/);
    assert.is(asked(), most, `${kid}: eight at most, and one that failed for a recipient of its own never again`);
  }
  assert.match(
    assertFailure(exec(hsm.dir, forged("A".repeat(43), 64)), 3),
    /no private key of the store opens this annotation \(it was made for AAAA/,
  );
  assert.is(asked(), 0, "another's");
  for (const kid of [undefined, hsm.kid]) {
    assert.match(
      assertFailure(
        exec(
          hsm.dir,
          forged(kid, 1, (header) => void (header["alg"] = "RSA-OAEP")),
        ),
        3,
      ),
      /no private key of the store opens/,
    );
    assert.is(asked(), 0, "another operation");
  }
});

test("no command runs for an annotation without kid that a key of the store opens, however many there are", () => {
  const { dir, kid } = storeOf(RSA);
  const log = join(temporaryFolder(), "log");
  const cli = commands(dir);
  for (let count = 0; count < 9; count++)
    writeHolder(dir, cli("import", `hsm${count}`, newRsa().publicFile).trim(), {
      "rsa-oaep-256": [script(`echo asked >> ${log}; exit 1`)],
    });
  cli("import", "own", RSA.privateFile);
  assert.is(opened(exec(dir, forged(undefined))), OPTSDATA);
  assert.equal(linesOf(log), []);
  rmSync(join(dir, "private", `${kid}.jwk`));
  assertFailure(exec(dir, forged(undefined)), 3);
  assert.is(linesOf(log).length, 8);
});

for (const [what, content, reason] of [
  ["no JSON", "{", "is not JSON"],
  ["a list", "[]", "is not a JSON object"],
  ["another kid", { kid: "other", ops: { "rsa-oaep-256": ["/x"] } }, "has another kid than its file name says"],
  ["no kid", { kid: undefined, ops: { "rsa-oaep-256": ["/x"] } }, "has another kid than its file name says"],
  ["no ops", {}, "has no ops"],
  ["empty ops", { ops: {} }, "has no ops"],
  [
    "an unknown operation",
    { ops: { decrypt: ["/x"] } },
    'has an operation other than rsa-oaep-256, rsa-oaep, ecdh, a256kw: "decrypt"',
  ],
  [
    "an unknown member",
    { ops: { "rsa-oaep-256": ["/x"] }, timeout: 5 },
    'has a member other than kid, ops and timeout_ms: "timeout"',
  ],
  [
    "a command that is text",
    { ops: { "rsa-oaep-256": "/x -y" } },
    "has a command for rsa-oaep-256 that is not a list of at most 64 strings",
  ],
  [
    "an argument that is a number",
    { ops: { "rsa-oaep-256": ["/x", 1] } },
    "has a command for rsa-oaep-256 that is not a list of at most 64 strings",
  ],
  [
    "65 words",
    { ops: { "rsa-oaep-256": Array.from({ length: 65 }, () => "/x") } },
    "has a command for rsa-oaep-256 that is not a list of at most 64 strings",
  ],
  ["no program", { ops: { "rsa-oaep-256": [] } }, "has a command for rsa-oaep-256 without an absolute path"],
  [
    "a relative program",
    { ops: { "rsa-oaep-256": ["bin/x"] } },
    "has a command for rsa-oaep-256 without an absolute path",
  ],
  [
    "no time",
    { ops: { "rsa-oaep-256": ["/x"] }, timeout_ms: 0 },
    "has a timeout_ms that is not an integer from 1 to 600000",
  ],
  [
    "too much time",
    { ops: { "rsa-oaep-256": ["/x"] }, timeout_ms: 600_001 },
    "has a timeout_ms that is not an integer from 1 to 600000",
  ],
  [
    "a part of a millisecond",
    { ops: { "rsa-oaep-256": ["/x"] }, timeout_ms: 1.5 },
    "has a timeout_ms that is not an integer from 1 to 600000",
  ],
] as const) {
  test(`is one line, exit code 3: a holder file with ${what}`, () => {
    const path = join(hsm.dir, "private", `${hsm.kid}.holder`);
    rmSync(path, { force: true });
    writeFileSync(path, typeof content === "string" ? content : JSON.stringify({ kid: hsm.kid, ...content }), {
      mode: 0o600,
    });
    assert.match(assertFailure(exec(hsm.dir, annotation), 3), `holder file ${path} is damaged: it ${reason}; fix it`);
  });
}

test("is one line, exit code 3: a holder file of other modes, of another type of key, without its public file", () => {
  const { dir, kid } = storeOf(RSA);
  const path = join(dir, "private", `${kid}.holder`);
  writeHolder(dir, kid, { "rsa-oaep-256": OPENS });
  for (const mode of [0o644, 0o640, 0o620]) {
    chmodSync(path, mode);
    assert.match(
      assertFailure(exec(dir, annotation), 3),
      `holder file ${path} can be read by others (mode 0${mode.toString(8)}); run chmod 600 ${path}`,
    );
  }
  rmSync(path);
  writeHolder(dir, kid, { ecdh: OPENS });
  assert.match(
    assertFailure(exec(dir, annotation), 3),
    `the holder of key ${kid} has the operation ecdh, which is not for rsa keys; remove ecdh from its holder file`,
  );
  writeHolder(dir, kid, { "rsa-oaep-256": OPENS });
  rmSync(join(dir, "public", `${kid}.jwk`));
  assert.match(
    assertFailure(exec(dir, annotation), 3),
    `key ${kid} is held by a command, and its public file is missing; restore ${join(dir, "public", `${kid}.jwk`)} from a backup`,
  );
});

test("a shared secret of the wrong length is refused before it is used", async () => {
  const key = newEc();
  const { dir, kid } = storeOf(key);
  writeHolder(dir, kid, { ecdh: [script(`${holds("ecdh", key).join(" ")}; printf x`)] });
  assert.match(assertFailure(exec(dir, await wrapHere(dir, "hsm")), 3), /answered 33 bytes, not 32;/);
});

test.run();
