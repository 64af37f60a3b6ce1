// Stores that are damaged, or that this user may not read: nothing takes them for empty ones, and each line names the
// real cause. What is certain, doctor --fix makes again.

import {
  chmodSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { errorLine } from "../../src/errors.ts";
import { open } from "../../src/jwe/open.ts";
import { entries, entriesOf } from "../../src/keystore/listing.ts";
import { openStore } from "../../src/keystore/store.ts";
import { tree } from "../support/folders.ts";
import { assertFailure, run } from "../support/program.ts";
import { commands, kidOf, lock, makeSharedStore, makeStore, noSecrets, wrapHere } from "../support/stores.ts";

const KID = "[A-Za-z0-9_-]{43}";
const OK = /^ok$/;
const DENIED = /cannot read \S+: EACCES; let this user read it \(see ls -l\), or run this as its owner$/;
const IN_THE_WAY = /cannot read \S+: ENOTDIR; a file is in the place of a folder: move it away$/;
const NAME_THEM = `give each key a name: ocicrypt-keystore import NAME \\S+public/${KID}\\.jwk$`;
const NO_NAMES = new RegExp(
  `names is missing, and \\S+public has keys; run ocicrypt-keystore doctor --fix, or ${NAME_THEM}`,
);
const NO_PUBLIC = new RegExp(
  `the name alice points to ${KID}, which is missing in \\S+public; run ocicrypt-keystore doctor --fix, which makes it again`,
);
const GONE = new RegExp(`alice points to ${KID}, which is missing in \\S+public; restore that file from a backup$`);
const NOT_A_STORE = /the key store \S+ is not a directory; say where it is with --keystore DIR$/;
const DAMAGED_NAME = /names\/alice is damaged: each line must be a kid; restore it from a backup, or see/;
const DAMAGED_KEY =
  /key file \S+ is damaged: it is not JSON; run ocicrypt-keystore doctor --fix, which makes it again from the private key$/;
const NO_DEFAULT = /no default key in \S+; set one with ocicrypt-keystore default NAME/;

/** What each use says: the list, one key, a name as a recipient, the default one, an annotation, a private key. */
type Uses = readonly [list: RegExp, show: RegExp, wrap: RegExp, byDefault: RegExp, unwrap: RegExp, secret: RegExp];

/** In a store with the key alice. */
const ROWS: readonly (readonly [name: string, damage: (dir: string) => void, uses: Uses])[] = [
  ["no right to enter it", (dir) => chmodSync(dir, 0), [DENIED, DENIED, DENIED, DENIED, DENIED, DENIED]],
  [
    "no right to enter its parent",
    (dir) => chmodSync(join(dir, ".."), 0),
    [DENIED, DENIED, DENIED, DENIED, DENIED, DENIED],
  ],
  [
    "a file in its place",
    (dir) => (rmSync(dir, { recursive: true }), writeFileSync(dir, "")),
    [NOT_A_STORE, NOT_A_STORE, IN_THE_WAY, IN_THE_WAY, IN_THE_WAY, IN_THE_WAY],
  ],
  [
    "no names",
    (dir) => rmSync(join(dir, "names"), { recursive: true }),
    [NO_NAMES, NO_NAMES, NO_NAMES, NO_NAMES, OK, OK],
  ],
  [
    "no names and no default",
    (dir) => (rmSync(join(dir, "names"), { recursive: true }), unlinkSync(join(dir, "default"))),
    [NO_NAMES, NO_NAMES, NO_NAMES, NO_NAMES, OK, OK],
  ],
  ["no right to read names", (dir) => chmodSync(join(dir, "names"), 0), [DENIED, DENIED, DENIED, DENIED, OK, OK]],
  [
    "a file in the place of names",
    (dir) => (rmSync(join(dir, "names"), { recursive: true }), writeFileSync(join(dir, "names"), "")),
    [IN_THE_WAY, IN_THE_WAY, IN_THE_WAY, IN_THE_WAY, OK, OK],
  ],
  [
    "no right to read a name",
    (dir) => chmodSync(join(dir, "names/alice"), 0),
    [DENIED, DENIED, DENIED, DENIED, OK, OK],
  ],
  [
    "an empty name",
    (dir) => writeFileSync(join(dir, "names/alice"), ""),
    [DAMAGED_NAME, DAMAGED_NAME, DAMAGED_NAME, DAMAGED_NAME, OK, OK],
  ],
  [
    "a name that is a folder",
    (dir) => (unlinkSync(join(dir, "names/alice")), mkdirSync(join(dir, "names/alice"))),
    [/names\/alice is not a regular file/, /not a regular file/, /not a regular file/, /not a regular file/, OK, OK],
  ],
  [
    "no public keys",
    (dir) => rmSync(join(dir, "public"), { recursive: true }),
    [NO_PUBLIC, NO_PUBLIC, NO_PUBLIC, NO_PUBLIC, OK, OK],
  ],
  [
    "no public keys, and no private ones",
    (dir) => (rmSync(join(dir, "public"), { recursive: true }), rmSync(join(dir, "private"), { recursive: true })),
    [GONE, GONE, GONE, GONE, /no private key of the store opens this annotation/, /^none$/],
  ],
  ["no right to read public", (dir) => chmodSync(join(dir, "public"), 0), [DENIED, DENIED, DENIED, DENIED, OK, OK]],
  [
    "a public key cut short",
    (dir) => writeFileSync(publicFile(dir), readFileSync(publicFile(dir)).subarray(0, 40)),
    [DAMAGED_KEY, DAMAGED_KEY, DAMAGED_KEY, DAMAGED_KEY, OK, OK],
  ],
  ["no right to read private", (dir) => chmodSync(join(dir, "private"), 0), [OK, OK, OK, OK, DENIED, DENIED]],
  [
    "a file in the place of private",
    (dir) => (rmSync(join(dir, "private"), { recursive: true }), writeFileSync(join(dir, "private"), "")),
    [OK, OK, OK, OK, IN_THE_WAY, IN_THE_WAY],
  ],
  [
    "a default that points nowhere",
    (dir) => writeFileSync(join(dir, "default"), "bob\n"),
    [
      OK,
      OK,
      OK,
      /the default key is bob, and there is no such name in \S+; set another with ocicrypt-keystore default/,
      OK,
      OK,
    ],
  ],
  ["no right to read the default", (dir) => chmodSync(join(dir, "default"), 0), [DENIED, DENIED, OK, DENIED, OK, OK]],
  [
    "a default that is damaged",
    (dir) => writeFileSync(join(dir, "default"), "no name\n"),
    [/default is damaged: it must hold a name; set it again/, /default is damaged/, OK, /default is damaged/, OK, OK],
  ],
  ["no default", (dir) => unlinkSync(join(dir, "default")), [OK, OK, OK, NO_DEFAULT, OK, OK]],
  ["nothing that is wrong", () => undefined, [OK, OK, OK, OK, OK, OK]],
];

const publicFile = (dir: string): string => join(dir, "public", `${kidOf(dir, "alice")}.jwk`);

/** Does something as a user whom modes bind. */
async function asUser<T>(body: () => Promise<T>): Promise<T> {
  if (process.geteuid?.() !== 0) return await body();
  process.seteuid?.(65534);
  try {
    return await body();
  } finally {
    process.seteuid?.(0);
  }
}

async function said(use: () => unknown): Promise<string> {
  try {
    return (await use()) === undefined ? "none" : "ok";
  } catch (error) {
    return errorLine(error);
  }
}

for (const [name, damage, expected] of ROWS) {
  test(`a store with ${name} is not taken for an empty one`, async () => {
    const dir = makeSharedStore("alice");
    const kid = kidOf(dir, "alice");
    const annotation = await wrapHere(dir, "alice");
    if (process.geteuid?.() === 0) {
      chmodSync(join(dir, "private"), 0o755); // the files belong to root, and another user reads them here
      chmodSync(join(dir, "private", `${kid}.jwk`), 0o644);
    }
    damage(dir);
    const store = openStore(dir, noSecrets);
    const uses = await asUser(async () => [
      await said(() => entries(store)),
      await said(() => entriesOf(store, "alice")),
      await said(async () => await store.recipient("alice")),
      await said(async () => await store.defaultRecipient()),
      await said(async () => await open(annotation, store)),
      await said(async () => await store.privateJwk(kid)),
    ]);
    const where = await asUser(async () => {
      try {
        return entries(store)[0]?.private;
      } catch {
        return undefined;
      }
    });
    for (const folder of ["..", ".", "names", "public", "private"]) {
      if (statSync(join(dir, folder), { throwIfNoEntry: false })?.isDirectory() === true)
        chmodSync(join(dir, folder), 0o755); // so that it can be cleaned up
    }
    for (const [index, line] of uses.entries()) {
      assert.match(line, expected[index] ?? OK, `use ${index}`);
      assert.not.match(line, /make one with|internal error/);
    }
    if (expected[0] === OK) assert.is(where, name.endsWith("private") ? "unreadable" : "file");
  });
}

test("list says what is in a store without names, and what is missing", () => {
  const dir = makeStore("alice");
  renameSync(join(dir, "names"), join(dir, "former"));
  assert.match(assertFailure(run(["list", "--keystore", dir]), 1), NO_NAMES);
  rmSync(join(dir, "public"), { recursive: true });
  const { code, stdout } = run(["list", "--keystore", dir]);
  assert.is(code, 0);
  assert.is(
    stdout,
    `no names in ${dir}, but 1 private key, which decrypts: name one with ocicrypt-keystore import NAME FILE\n`,
  );
  rmSync(join(dir, "private"), { recursive: true });
  assert.match(run(["list", "--keystore", dir]).stdout, "no keys in ");
});

// What doctor --fix makes again: a public key from its private one, a name where only one can be meant.

const doctor = (dir: string, ...args: readonly string[]): string => {
  const { stdout } = run(["doctor", ...args, "--keystore", dir], { env: { PATH: "" } });
  assert.not.match(stdout, "restore it from a backup");
  return stdout;
};

for (const [name, damage] of [
  ["public files that are missing", (dir: string) => rmSync(join(dir, "public"), { recursive: true })],
  ["a public file that is damaged", (dir: string) => writeFileSync(publicFile(dir), "{")],
  [
    "a public file that is another key's",
    (dir: string) => writeFileSync(publicFile(dir), readFileSync(publicFile(makeStore("alice")))),
  ],
] as const) {
  test(`doctor --fix makes ${name} again, as keygen did`, async () => {
    const dir = makeStore("alice");
    const before = JSON.parse(readFileSync(publicFile(dir), "utf8")) as { created: string };
    damage(dir);
    assert.match(doctor(dir), "--fix");
    doctor(dir, "--fix");
    assert.equal(
      { ...(JSON.parse(readFileSync(publicFile(dir), "utf8")) as object), created: "" },
      { ...before, created: "" },
    );
    await wrapHere(dir, "alice");
  });
}

test("doctor --fix makes a locked key's public file again if it gets the secret", async () => {
  const dir = makeStore("alice");
  const secret = lock(dir);
  rmSync(join(dir, "public"), { recursive: true });
  assert.match(doctor(dir, "--fix"), "give what the private key is locked with");
  doctor(dir, "--fix", "--master-key-file", secret);
  await wrapHere(dir, "alice");
});

for (const [name, damage] of [
  ["all names", (dir: string) => rmSync(join(dir, "names"), { recursive: true })],
  ["the default key's name", (dir: string) => unlinkSync(join(dir, "names/alice"))],
  ["a damaged name", (dir: string) => writeFileSync(join(dir, "names/alice"), "\0\0")],
  [
    "a damaged name without a default",
    (dir: string) => (writeFileSync(join(dir, "names/alice"), ""), unlinkSync(join(dir, "default"))),
  ],
] as const) {
  test(`doctor --fix makes ${name} again, if only one key can be meant`, async () => {
    const dir = makeStore("alice");
    const kid = kidOf(dir, "alice");
    damage(dir);
    doctor(dir, "--fix");
    assert.is(kidOf(dir, "alice"), kid);
    await wrapHere(dir, "alice");
  });
}

test("doctor --fix guesses no name, and says what to type", () => {
  const dir = makeStore("alice", "bob");
  const file = publicFile(dir);
  rmSync(join(dir, "names"), { recursive: true });
  const before = tree(dir);
  const line = new RegExp(`names is missing, and \\S+public has keys; ${NAME_THEM}`, "m");
  assert.match(doctor(dir, "--fix"), line);
  assert.match(assertFailure(run(["list", "--keystore", dir]), 1), line);
  assert.equal(tree(dir), before);
  commands(dir)("import", "alice", file);
  assert.match(doctor(dir, "--fix"), "no name points to private key");
  assert.match(commands(dir)("list"), /^alice /m);
});

test("doctor --fix leaves a store alone that has only private keys, to decrypt", () => {
  const dir = makeStore("alice", "bob");
  for (const one of ["names", "public", "default"]) rmSync(join(dir, one), { recursive: true });
  const before = tree(dir);
  assert.not.match(doctor(dir, "--fix"), "fixed:");
  assert.equal(tree(dir), before);
  assert.match(commands(dir)("list"), "2 private keys, which decrypt");
});

test("a link to a store is followed, and one that leads nowhere is no store", () => {
  const dir = makeStore("alice");
  const link = `${dir}-link`;
  symlinkSync(dir, link);
  assert.is(entries(openStore(link, noSecrets)).length, 1);
  rmSync(dir, { recursive: true });
  assert.throws(() => entries(openStore(link, noSecrets)), /no key store at/);
});

test.run();
