// Writers killed at any instant, and many at once: no key is lost, and whoever comes next can work.

import { spawn, spawnSync } from "node:child_process";
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { cpSync, existsSync, readFileSync, readlinkSync, rmSync, watch, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { pathToFileURL } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { open } from "../../src/jwe/open.ts";
import type { SecretSource } from "../../src/at-rest/locked-file.ts";
import { addKey } from "../../src/keystore/add.ts";
import { entries } from "../../src/keystore/listing.ts";
import { setDefault } from "../../src/keystore/rotate.ts";
import { openStore } from "../../src/keystore/store.ts";
import { generateJwk } from "../../src/jwk/jwk.ts";
import { secretFiles } from "../../src/at-rest/secret-files.ts";
import { secretFile, tree, temporaryFolder } from "../support/folders.ts";
import { tool, endurance, testWith } from "../support/parts.ts";
import { BINARY, ROOT, run, sharedBinary, succeed } from "../support/program.ts";
import { OPTSDATA, unwrap } from "../support/requests.ts";
import { assertOpens, masterKeyFile, noSecrets, wrapHere, makeSharedStore } from "../support/stores.ts";
import { serverOf, Tang, TANG_PARTS, tangParts } from "../support/tang.ts";

const MAX_NAMES = 12;
const KID = /^[\w-]{22,43}\n$/;

/** Since when a run's ms are counted: its start, or the moment it has the store's lock and begins to write. */
type Since = "start" | "lock";

/** How a writer ended, and how long it took. */
interface Ended {
  readonly killed: boolean;
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly took: Readonly<Record<Since, number>>;
}

/** Runs a writer of a store, and kills it so many ms after its start or after it took the lock. */
async function start(
  dir: string,
  args: readonly string[],
  kill?: { readonly since: Since; readonly after: number },
): Promise<Ended> {
  const begin = { start: performance.now(), lock: performance.now() };
  let timer: NodeJS.Timeout | undefined;
  const at = (since: Since): void => {
    begin[since] = performance.now();
    if (kill?.since === since) timer ??= setTimeout(() => child.kill("SIGKILL"), kill.after);
  };
  const watcher = watch(dir, (_event, file) => {
    if (file !== ".lock") return;
    at("lock");
    watcher.close();
  });
  const child = spawn(BINARY, args, { env: {}, stdio: ["ignore", "pipe", "pipe"] });
  at("start");
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  const [code, signal] = (await once(child, "close")) as [number | null, string | null];
  clearTimeout(timer);
  watcher.close();
  const end = performance.now();
  return {
    killed: signal === "SIGKILL",
    code,
    stdout,
    stderr,
    took: { start: end - begin.start, lock: end - begin.lock },
  };
}

/** What a run takes as the store grows and shrinks, without its outliers. */
function blend(before: Ended["took"], now: Ended["took"]): Ended["took"] {
  return { start: (3 * before.start + now.start) / 4, lock: (3 * before.lock + now.lock) / 4 };
}

/** An instant of a run, and a tenth beyond it: half of them while it writes, which is the smaller part of it. */
function anyInstant(normal: Ended["took"] | undefined): { since: Since; after: number } {
  const since = pick(["start", "lock"] as const);
  return { since, after: Math.random() * 1.1 * (normal?.[since] ?? 0) };
}

const pick = <T>(items: readonly T[]): T => {
  const item = items[randomInt(items.length)];
  if (item === undefined) throw new Error("nothing to pick from");
  return item;
};

function newKeyFile(): string {
  return secretFile(
    JSON.stringify(generateJwk(pick([{ type: "ec" }, { type: "ec", curve: "P-521" }, { type: "oct" }] as const))),
  );
}

function assertNothingLeft(dir: string): void {
  assert.equal(
    Object.keys(tree(dir)).filter((path) => /\.lock|\.tmp/.test(path)),
    [],
    "no lock and no temporary file is left",
  );
}

/** One store under attack, and what it owes: an annotation for each kid that ever could wrap. */
class Ledger {
  readonly dir = temporaryFolder();
  readonly #secrets: SecretSource;
  readonly #annotations = new Map<string, Buffer>();
  readonly #leaving = new Set<string>();

  constructor(secrets: SecretSource) {
    this.#secrets = secrets;
  }

  get names(): string[] {
    return [...new Set(entries(openStore(this.dir, noSecrets)).map(({ name }) => name))];
  }

  get kids(): string[] {
    return [...this.#annotations.keys()];
  }

  annotation(kid: string): Buffer {
    return this.#annotations.get(kid) ?? Buffer.alloc(0);
  }

  /** From now on these kids may be in removed/ instead of private/. */
  leaves(kids: readonly string[]): void {
    for (const kid of kids) this.#leaving.add(kid);
  }

  /** Reads the whole store: it lists, every annotation opens, and new keys get one. */
  async audit(): Promise<void> {
    const listed = entries(openStore(this.dir, noSecrets));
    for (const [kid, annotation] of this.#annotations) {
      if (openStore(this.dir, noSecrets).locate(kid) !== undefined) {
        await assertOpens(this.dir, annotation, this.#secrets);
      } else {
        assert.ok(this.#leaving.has(kid), `${kid} is gone and nobody removed it`);
        await this.#assertRemovedOpens(kid, annotation);
        this.#annotations.delete(kid);
      }
    }
    for (const { name, kid, state } of listed) {
      if (state === "current" && !this.#annotations.has(kid))
        this.#annotations.set(kid, await wrapHere(this.dir, name, this.#secrets));
    }
  }

  /** What was moved to removed/ is a whole key still: read as the private folder of another store, it opens. */
  async #assertRemovedOpens(kid: string, annotation: Buffer): Promise<void> {
    const removed = join(this.dir, "removed");
    const other = temporaryFolder();
    const files = [`${kid}.jwe`, `${kid}.jwk`].filter((file) => existsSync(join(removed, file)));
    assert.ok(files.length > 0, `${kid} is neither in private/ nor in removed/`);
    for (const file of files) cpSync(join(removed, file), join(other, "private", file));
    assert.is((await open(annotation, openStore(other, this.#secrets))).toString(), OPTSDATA);
    rmSync(other, { recursive: true });
    for (const file of files) rmSync(join(removed, file)); // or lock has more to do at every turn
  }
}

const masterKey = masterKeyFile();
const withMasterKey = secretFiles({ masterKeyFile: masterKey });

type Kind = "keygen" | "import" | "rotate" | "remove" | "lock" | "unlock";

/** The arguments of a command of a kind; a remove is told to the ledger before it starts. */
function nextCommand(ledger: Ledger, kind: Kind, turn: number): string[] {
  if (kind === "lock" || kind === "unlock") return [kind];
  if (kind === "keygen") return [kind, `key${turn}`, ...pick([[], [], ["--type", "oct"], ["--curve", "P-384"]])];
  if (kind === "import") return [kind, `key${turn}`, newKeyFile()];
  const name = pick(ledger.names);
  if (kind === "rotate") return [kind, name];
  ledger.leaves(openStore(ledger.dir, noSecrets).kidsOf(name) ?? []);
  return [kind, name, "--force"];
}

test("a writer that is killed at any instant loses no key, and the next one works", async () => {
  const ledger = new Ledger(withMasterKey);
  const options = ["--keystore", ledger.dir, "--master-key-file", masterKey];
  const normal = new Map<Kind, Ended["took"]>(); // of a run that nobody kills
  let [kills, survivals] = [0, 0];

  const turn = async (number: number, kind: Kind, kill: boolean): Promise<void> => {
    const args = nextCommand(ledger, kind, number);
    const ended = await start(ledger.dir, [...args, ...options], kill ? anyInstant(normal.get(kind)) : undefined);
    const what = `turn ${number}, ${args.join(" ")}${ended.killed ? ", killed" : ""}`;
    try {
      if (!ended.killed) {
        assert.is(ended.code, 0, ended.stderr);
        normal.set(kind, blend(normal.get(kind) ?? ended.took, ended.took));
        survivals++;
      } else kills++;
      await ledger.audit();
      if (kind !== "remove" && KID.test(ended.stdout)) {
        const kid = ended.stdout.trim();
        assert.ok(openStore(ledger.dir, noSecrets).locate(kid), "the kid that was printed is there");
        assert.is(openStore(ledger.dir, noSecrets).kidsOf(args[1] ?? "")?.[0], kid, "under its name");
      }
      const names = ledger.names;
      if (names.length > 0) await setDefault(openStore(ledger.dir, noSecrets), pick(names));
      assert.not.ok(existsSync(join(ledger.dir, ".lock")), "the stale lock is gone");
    } catch (error) {
      throw new Error(`${what}: ${String(error)}`, { cause: error });
    }
  };

  const kinds = ["keygen", "import", "rotate", "lock", "unlock", "remove"] as const;
  for (const [number, kind] of kinds.entries()) await turn(number, kind, false);
  for (let number = kinds.length; kills < endurance(1000); number++) {
    const crowd = ledger.names.length;
    const possible = kinds.filter((kind) =>
      crowd > 2
        ? crowd < MAX_NAMES || (kind !== "keygen" && kind !== "import")
        : kind === "keygen" || kind === "import",
    );
    await turn(number, pick(possible), true);
    if (number % 10 !== 0) continue;
    const { length } = JSON.parse(succeed(["list", "--json", ...options])) as unknown[];
    assert.is(length, entries(openStore(ledger.dir, noSecrets)).length);
    succeed(["default", pick(ledger.names), ...options]);
    const kid = pick(ledger.kids);
    if (openStore(ledger.dir, noSecrets).locate(kid)?.form === "jwk")
      assert.is(unwrap(ledger.dir, ledger.annotation(kid)), OPTSDATA);
  }
  assert.ok(
    survivals < kills + kinds.length * 2,
    `most are killed before they end: ${kills} kills, ${survivals} survivals`,
  );
});

/** Kills lock and unlock again and again, and looks at the store each time. */
async function killLocking(
  secrets: SecretSource,
  both: readonly string[],
  lock: readonly string[],
  kill: number,
): Promise<void> {
  const ledger = new Ledger(secrets);
  const commands = {
    lock: ["lock", "--keystore", ledger.dir, ...both, ...lock],
    unlock: ["unlock", "--keystore", ledger.dir, ...both],
  } as const;
  for (const name of ["alice", "bob"]) succeed(["keygen", name, "--keystore", ledger.dir]);
  await ledger.audit();
  const normal = {
    lock: (await start(ledger.dir, commands.lock)).took,
    unlock: (await start(ledger.dir, commands.unlock)).took,
  };
  for (let kills = 0; kills < kill;) {
    const command = pick(["lock", "unlock"] as const);
    const { killed, code, stderr } = await start(ledger.dir, commands[command], anyInstant(normal[command]));
    if (killed) kills++;
    else assert.is(code, 0, stderr);
    await ledger.audit();
  }
  assert.equal(ledger.names, ["alice", "bob"]);
}

test("lock and unlock with a passphrase lose no key when they are killed", async () => {
  const passphraseFile = secretFile("correct horse\n");
  await killLocking(secretFiles({ passphraseFile }), ["--passphrase-file", passphraseFile], [], endurance(50));
});

testWith(tangParts, TANG_PARTS, "lock and unlock for a Tang server lose no key when they are killed", async () => {
  await killLocking(secretFiles({}), [], serverOf(await Tang.started()), endurance(500));
});

test("eight writers at once lose nothing and leave nothing behind", async () => {
  const ledger = new Ledger(withMasterKey);
  const { dir } = ledger;
  const options = ["--keystore", dir, "--master-key-file", masterKey];
  for (const name of ["key0", "old0"]) succeed(["keygen", name, ...options]);
  for (let round = 1; round <= endurance(200); round++) {
    const [turned, old] = [`key${round - 1}`, `old${round - 1}`];
    ledger.leaves(openStore(dir, noSecrets).kidsOf(old) ?? []);
    const writers = [
      ["keygen", `key${round}`],
      ["keygen", `old${round}`, "--type", "oct"],
      ["import", `new${round}`, newKeyFile()],
      ["import", `too${round}`, newKeyFile()],
      ["rotate", turned],
      ["rotate", turned],
      ["default", turned],
      ["remove", old, "--force"],
    ];
    const before = openStore(dir, noSecrets).kidsOf(turned) ?? [];
    const all = await Promise.all(writers.map((args) => start(dir, [...args, ...options])));
    for (const [index, { code, stderr }] of all.entries())
      assert.is(code, 0, `round ${round}, ${writers[index]?.join(" ")}: ${stderr}`);
    const printed = all.map(({ stdout }) => stdout.trim());
    const [, , , , onceTurned = "", twiceTurned = ""] = printed;
    for (const [index, name] of [`key${round}`, `old${round}`, `new${round}`, `too${round}`].entries())
      assert.equal(openStore(dir, noSecrets).kidsOf(name), [printed[index]]);
    const rotated = openStore(dir, noSecrets).kidsOf(turned) ?? [];
    assert.equal(rotated.slice(0, 2).toSorted(), [onceTurned, twiceTurned].toSorted(), "both new keys are there");
    assert.equal(rotated.slice(2), before);
    assert.is(openStore(dir, noSecrets).kidsOf(old), undefined);
    assertNothingLeft(dir);
    await ledger.audit();
    for (const name of [`new${round}`, `too${round}`]) rmSync(join(dir, "names", name)); // their keys stay, and open
  }
  assert.is(openStore(dir, noSecrets).names().length, endurance(200) + 2);
});

/** Runs statements over and over in a process of its own, until `work` is done. */
async function meanwhile(statements: string, work: () => Promise<void>): Promise<void> {
  const modules = ["keystore/store", "keystore/add", "keystore/remove", "keystore/relock", "jwk/jwk", "at-rest/secret"];
  const imports = modules
    .map((path) => `import * as ${basename(path)} from "${pathToFileURL(join(ROOT, `src/${path}.ts`)).href}";`)
    .join("");
  const code = `${imports} const secrets = async () => Buffer.alloc(32, 7); for (;;) { ${statements} }`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", code], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  try {
    await work();
    assert.is(child.exitCode, null, "the writer writes to the end");
  } finally {
    child.kill("SIGKILL");
    await once(child, "close");
  }
}

const sameSecret = (): Promise<Buffer> => Promise.resolve(Buffer.alloc(32, 7));
const readingTime = (): number => 1000 * Math.min(30, endurance(250)); // ms, 5 s where nothing is said

test("a reader finds a key at every instant while it is locked and unlocked", async () => {
  const dir = temporaryFolder();
  const kid = await addKey(openStore(dir, sameSecret), "alice", generateJwk({ type: "ec" }));
  await meanwhile(
    `const opened = store.openStore("${dir}", secrets); await relock.lockKeys(opened, secret.atRestBySecret("master key", secrets)); await relock.unlockKeys(opened);`,
    async () => {
      for (const end = Date.now() + readingTime(); Date.now() < end;) {
        assert.ok(await openStore(dir, sameSecret).privateJwk(kid), "it is in one of the two files at least");
        assert.is.not(entries(openStore(dir, noSecrets))[0]?.private, "none");
      }
    },
  );
});

test("a reader lists the store at every instant while keys come and go", async () => {
  const dir = temporaryFolder();
  await addKey(openStore(dir, sameSecret), "alice", generateJwk({ type: "ec" }));
  await meanwhile(
    `const opened = store.openStore("${dir}", secrets); await add.addKey(opened, "bob", jwk.generateJwk({ type: "ec" })); await remove.removeKey(opened, "bob", { force: true, purge: true });`,
    async () => {
      for (const end = Date.now() + readingTime(); Date.now() < end;)
        assert.is(entries(openStore(dir, noSecrets))[0]?.name, "alice");
    },
  );
});

const setpriv = process.geteuid?.() === 0 ? tool("setpriv") : undefined;
testWith(
  setpriv,
  "root and setpriv",
  "a lock is taken over when its pid is a process of another user by now",
  (path) => {
    const dir = makeSharedStore("alice");
    const system = `${readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim()} ${readlinkSync("/proc/self/ns/pid")}`;
    writeFileSync(join(dir, ".lock"), JSON.stringify({ pid: process.pid, start: "1", system }));
    assert.is(spawnSync("chown", ["-R", "65534", dir]).status, 0);
    const { code } = run(
      ["--reuid", "65534", "--clear-groups", sharedBinary(), "default", "alice", "--keystore", dir],
      { binary: path, timeout: 8000 },
    );
    assert.is(code, 0);
  },
);

test.run();
