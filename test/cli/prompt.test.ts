// Passphrases, and whether a server is trusted, asked for on a terminal: script(1) gives the real binary one, as a person's shell would.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { secretFiles } from "../../src/at-rest/secret-files.ts";
import { secretFile, tree, temporaryFolder } from "../support/folders.ts";
import { tool, use, testWith } from "../support/parts.ts";
import { assertFailure, BINARY, run, runHere, shellLine } from "../support/program.ts";
import { assertOpens, commands, masterKeyFile, wrapHere, kidOf, makeStore } from "../support/stores.ts";
import { LyingTang } from "../support/tang.ts";

runHere();

const PASSPHRASE = "kein Öl, 7 Ave";
const NEW = "New passphrase for the key store: ";
const AGAIN = "The same again: ";
const ASK = "Passphrase of the key store: ";
const TIME_LIMIT = 20_000; // ms
const ENV = { PATH: "/usr/bin:/bin", SHELL: "/bin/sh", TERM: "xterm" };
const CTRL_C = "\u0003";
const CTRL_D = "\u0004";

/** What a person saw on the terminal, what the program wrote to its own stdout and stderr, and how the terminal was left. */
interface Session {
  readonly code: number | null;
  readonly screen: string;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs the binary on a terminal of its own and answers its questions, one after another.
 *
 * @param before what stands before the command in the shell
 * @param echoed whether the answers may be seen
 */
async function onTerminal(
  script: string,
  args: readonly string[],
  answers: readonly (readonly [question: string, answer: string])[],
  before = "",
  echoed = false,
): Promise<Session> {
  const folder = temporaryFolder();
  const line = shellLine([BINARY, ...args]);
  const shell = secretFile(
    `cd ${shellLine([folder])}; stty -a > before; ${before} ${line} > stdout 2> stderr; code=$?; stty -a > after; exit $code\n`,
  );
  const child = spawn(script, ["-qec", shellLine(["/bin/sh", shell]), "/dev/null"], {
    env: ENV,
    stdio: ["pipe", "pipe", "inherit"],
  });
  const timer = setTimeout(() => child.kill("SIGKILL"), TIME_LIMIT);
  let screen = "";
  let at = 0; // of the screen, behind the last question that was answered
  const waiting = [...answers];
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    screen += text;
    const [question, answer] = waiting[0] ?? [];
    const found = question === undefined ? -1 : screen.indexOf(question, at);
    if (question === undefined || found === -1) return;
    at = found + question.length;
    waiting.shift();
    child.stdin.write(answer);
  });
  const [code] = (await once(child, "close")) as [number | null];
  clearTimeout(timer);
  const written = (file: string): string => readFileSync(join(folder, file), "utf8");
  assert.is.not(code, null, `it waited for something else: ${screen}`);
  assert.equal(waiting, [], `not all was asked: ${screen}`);
  assert.is(written("after"), written("before"), "the terminal is as it was");
  for (const [, answer] of answers)
    assert.not.ok(!echoed && answer.length > 2 && screen.includes(answer.trim()), "no answer is echoed");
  return { code, screen: screen.replaceAll("\r", ""), stdout: written("stdout"), stderr: written("stderr") };
}

const script = tool("script");
const secrets = secretFiles({ passphraseFile: secretFile(PASSPHRASE) });
const onTty = (name: string, body: (script: string) => Promise<void>): void => testWith(script, "script", name, body);

/** A store that is locked with the passphrase. */
function lockedStore(): string {
  const dir = makeStore("alice");
  commands(dir)("lock", "--passphrase-file", secretFile(PASSPHRASE));
  return dir;
}

onTty("lock asks twice and shows nothing, unlock asks once", async (command) => {
  const dir = makeStore("alice");
  const annotation = await wrapHere(dir, "alice");
  const locked = await onTerminal(
    command,
    ["lock", "--keystore", dir],
    [
      [NEW, `${PASSPHRASE}\n`],
      [AGAIN, `${PASSPHRASE}\n`],
    ],
  );
  assert.equal(locked, {
    code: 0,
    screen: `${NEW}\n${AGAIN}\n`,
    stdout: "",
    stderr: "locked 1 private key with a passphrase\n",
  });
  await assertOpens(dir, annotation, secrets);
  const unlocked = await onTerminal(command, ["unlock", "--keystore", dir], [[ASK, `${PASSPHRASE}\n`]]);
  assert.equal(unlocked, { code: 0, screen: `${ASK}\n`, stdout: "", stderr: "unlocked 1 private key\n" });
  await assertOpens(dir, annotation);
});

for (const terminal of ["xterm", "dumb"]) {
  onTty(
    `backspace and Ctrl-U correct, and are no part of the passphrase, on a terminal that is ${terminal}`,
    async (command) => {
      const dir = lockedStore();
      const { code } = await onTerminal(
        command,
        ["unlock", "--keystore", dir],
        [[ASK, `wrong\u0015${PASSPHRASE}x\u007f\r`]],
        `TERM=${terminal}`,
      );
      assert.is(code, 0);
    },
  );
}

onTty("a new key in a locked store asks once, and only the kid is printed", async (command) => {
  const dir = lockedStore();
  const { code, screen, stdout, stderr } = await onTerminal(
    command,
    ["keygen", "bob", "--keystore", dir],
    [[ASK, `${PASSPHRASE}\n`]],
  );
  assert.equal([code, screen, stdout, stderr], [0, `${ASK}\n`, `${kidOf(dir, "bob")}\n`, ""]);
  await assertOpens(dir, await wrapHere(dir, "bob"), secrets);
});

for (const [name, command, answers, exitCode, line] of [
  [
    "two that differ",
    "lock",
    [
      [NEW, "one thing\n"],
      [AGAIN, "another\n"],
    ],
    2,
    /the two passphrases differ; try again: nothing was changed/,
  ],
  ["an empty one", "lock", [[NEW, "\n"]], 3, /the passphrase is empty/],
  ["Ctrl-C", "lock", [[NEW, CTRL_C]], 1, /cancelled; nothing was changed/],
  ["Ctrl-C in the midst", "lock", [[NEW, `half${CTRL_C}`]], 1, /cancelled/],
  [
    "Ctrl-C at the second question",
    "lock",
    [
      [NEW, `${PASSPHRASE}\n`],
      [AGAIN, CTRL_C],
    ],
    1,
    /cancelled/,
  ],
  ["Ctrl-D", "lock", [[NEW, CTRL_D]], 1, /cancelled/],
  ["a wrong one", "unlock", [[ASK, "wrong\n"]], 3, /does not open: wrong passphrase/],
  ["Ctrl-C", "unlock", [[ASK, CTRL_C]], 1, /cancelled/],
  ["Ctrl-C", "rotate alice", [[ASK, CTRL_C]], 1, /cancelled/],
] as const) {
  onTty(`${command}: ${name} leaves the store as it was`, async (path) => {
    const dir = command === "lock" ? makeStore("alice") : lockedStore();
    const before = tree(dir);
    const session = await onTerminal(path, [...command.split(" "), "--keystore", dir], answers);
    assert.match(assertFailure(session, exitCode), line);
    assert.equal(tree(dir), before);
  });
}

onTty("a terminal is restored when the program is ended from outside", async (command) => {
  const dir = lockedStore();
  const { code } = await onTerminal(command, ["unlock", "--keystore", dir], [[ASK, "half"]], "timeout --foreground 3");
  assert.is(code, 124);
  commands(dir)("default", "alice");
  assert.not.ok(existsSync(join(dir, ".lock")));
});

onTty("asks the terminal, whatever standard input is", async (command) => {
  const dir = lockedStore();
  assert.is(
    (await onTerminal(command, ["unlock", "--keystore", dir], [[ASK, `${PASSPHRASE}\n`]], "echo nothing |")).code,
    0,
  );
});

onTty("asks for the passphrase of a PEM by its file's name, or as that of standard input", async (command) => {
  const dir = makeStore("alice");
  const pem = use("openssl", [
    "genpkey",
    "-algorithm",
    "EC",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-aes-256-cbc",
    "-pass",
    "pass:of-the-pem",
  ]);
  const file = secretFile(pem);
  const imported = await onTerminal(
    command,
    ["import", "new", file, "--keystore", dir],
    [[`Passphrase of ${file}: `, "of-the-pem\n"]],
  );
  assert.is(imported.stdout, `${kidOf(dir, "new")}\n`);
  await assertOpens(dir, await wrapHere(dir, "new"));
  const piped = await onTerminal(
    command,
    ["import", "piped", "-", "--keystore", dir],
    [["Passphrase of ", "of-the-pem\n"]],
    `cat ${file} |`,
  );
  assert.is(piped.code, 0);
  assert.match(piped.screen, /^Passphrase of (-|standard input): /);
});

onTty("asks nothing where a file has the passphrase, or a master key is meant", async (command) => {
  const dir = lockedStore();
  assert.is(
    (await onTerminal(command, ["unlock", "--keystore", dir, "--passphrase-file", secretFile(PASSPHRASE)], [])).screen,
    "",
  );
  commands(dir)("lock", "--master-key-file", masterKeyFile());
  const { screen, ...session } = await onTerminal(command, ["unlock", "--keystore", dir], []);
  assert.is(screen, "");
  assert.match(assertFailure(session, 3), "--master-key-file");
});

onTty("lock --tang shows what signs for the server, and only a yes is one", async (command) => {
  const tang = await LyingTang.started();
  const dir = makeStore("alice");
  const annotation = await wrapHere(dir, "alice");
  const question = `The signing keys of the Tang server ${tang.url} are\n  ${tang.thumbprint}\nDoes tang-show-keys print the same on the server? Type yes to trust it: `;
  const args = ["lock", "--tang", tang.url, "--keystore", dir];
  const before = tree(dir);
  for (const [answer, exitCode, line] of [
    ["no\n", 2, /the Tang server http:.* is not trusted; nothing was changed/],
    ["\n", 2, /is not trusted/],
    ["y\n", 2, /is not trusted/],
    [CTRL_D, 1, /cancelled/],
  ] as const) {
    const { screen, ...session } = await onTerminal(command, args, [["trust it: ", answer]], "", true);
    assert.ok(screen.startsWith(question), screen);
    assert.match(assertFailure(session, exitCode), line);
    assert.equal(tree(dir), before);
  }
  const locked = await onTerminal(command, args, [["trust it: ", "yes\n"]], "", true);
  assert.equal(locked, {
    code: 0,
    screen: `${question}yes\n`,
    stdout: "",
    stderr: `locked 1 private key for the Tang server ${tang.url}\n`,
  });
  await assertOpens(dir, annotation);
});

test("without a terminal says what to give instead", () => {
  const noTerminal = (...args: readonly string[]): string =>
    assertFailure(run(["--wait", BINARY, ...args], { binary: "/usr/bin/setsid" }), 2);
  const hint = "there is no terminal to ask for the passphrase; give the passphrase with --passphrase-file FILE";
  assert.match(noTerminal("lock", "--keystore", makeStore("alice")), hint);
  const dir = lockedStore();
  const before = tree(dir);
  for (const args of [["unlock"], ["keygen", "bob"], ["rotate", "alice"], ["export", "alice", "--private"]])
    assert.match(noTerminal(...args, "--keystore", dir), hint);
  const encrypted = secretFile(
    "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIHsMFcGCSqGSIb3DQEFDTBK\n-----END ENCRYPTED PRIVATE KEY-----\n",
  );
  assert.match(noTerminal("import", "bob", encrypted, "--keystore", dir), "give it with --pem-passphrase-file FILE");
  assert.equal(tree(dir), before);
});

test.run();
