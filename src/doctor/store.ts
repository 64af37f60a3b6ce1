// Checks of the key store's directory: who can read and change it, what crashes left behind, and its names.

import { chmodSync, existsSync, realpathSync, statSync, type Stats } from "node:fs";
import { basename, dirname, join } from "node:path";
import { count } from "../errors.ts";
import { chmodHint, isReadOnly, noModes, systemWithoutModes } from "../fs/mount.ts";
import { listFolder, refuseOpenMode, shownMode } from "../fs/read.ts";
import { removeFile } from "../fs/write.ts";
import { storeLocks, writeName } from "../keystore/change.ts";
import { isKid, isName, parseKeyFileName, temporaryWriter } from "../keystore/paths.ts";
import { isLeftBehind, isRunning, lockOwner } from "../fs/lock-owner.ts";
import { secretFile } from "../at-rest/secret-files.ts";
import type { Store } from "../keystore/store.ts";
import { attempt, quietly, skip, type Check, type Outcome, type Report } from "./check.ts";
import type { Context } from "./context.ts";
import { decryptsOnly, ONLY_DECRYPTS } from "./keys.ts";

const SLOW = 10 * 60_000; // ms; a write takes a few, so a temporary file of this age is a leftover
const STICKY = 0o1000; // only its owner may replace what is in such a folder
const NEXT_CHANGE = "the next change takes it over; or run ocicrypt-keystore doctor --fix";

/** A check of what is in the store, which is skipped if there is no store that can be read. */
export function inStore(run: Check["run"]): Check["run"] {
  return async (context, report) => {
    return context.failed("store") ? skip("no key store that can be read") : await run(context, report);
  };
}

/** There is a store, and this user can read it. */
export async function storeFolder({ store }: Context, { fail }: Report): Promise<Outcome> {
  const { dir } = store.mustExist();
  for (const folder of folders(store)) await attempt(fail, () => listFolder(folder));
  return dir;
}

/** Only their owner can read private keys and their secrets, and only the owner can change the store. */
export async function storeModes(context: Context, report: Report): Promise<Outcome> {
  refuseEntry(context, report);
  await refuseReaders(context, report);
  refuseWriters(context, report);
  return "private keys are for their owner alone";
}

function refuseEntry({ store }: Context, { warn }: Report): void {
  for (const folder of [store.paths.private, store.paths.removed]) {
    const stat = statSync(folder, { throwIfNoEntry: false });
    if (stat === undefined || stat.uid !== process.geteuid?.() || (stat.mode & 0o077) === 0) continue;
    if (isReadOnly(folder)) continue;
    const type = systemWithoutModes(folder);
    const message = `others may enter ${folder} (mode ${shownMode(stat)})`;
    if (type === undefined) warn(message, `run chmod 700 ${folder}`, () => chmodSync(folder, 0o700));
    else warn(`${message} and can read what is in it`, `${noModes(type)}, or run ocicrypt-keystore lock`);
  }
}

async function refuseReaders({ store, secretFiles }: Context, { fail }: Report): Promise<void> {
  const kinds = ["passphrase", "master key"] as const;
  const secrets = kinds.map((kind) => ({ what: kind, path: secretFile(kind, secretFiles) ?? "" }));
  const keys = files(store)
    .filter((file) => isPrivateKey(store, file))
    .map(({ path }) => ({ what: "private key", path }));
  for (const { what, path } of [...secrets, ...keys]) {
    const stat = statSync(path, { throwIfNoEntry: false });
    if (stat?.isFile() !== true) continue;
    const refuse = (): void => refuseOpenMode(path, what, { bytes: Buffer.alloc(0), stat });
    await attempt(fail, refuse, () => chmodSync(path, 0o600));
  }
}

function refuseWriters({ store }: Context, { warn }: Report): void {
  const { dir } = store;
  for (const { path, stat } of [{ path: dir, stat: statSync(dir) }, ...files(store)]) {
    if (!isOpen(stat) || isReadOnly(path)) continue;
    if (systemWithoutModes(path) !== undefined && path !== dir) continue; // said once, of the store's folder
    warn(`others can write to ${path} (mode ${shownMode(stat)})`, chmodHint(path, "go-w"));
  }
  for (let at = dirname(realpathSync(dir)); ; at = dirname(at)) {
    const stat = statSync(at);
    if (isOpen(stat) && (stat.mode & STICKY) === 0) {
      const message = `others can replace the store: they can write to ${at} (mode ${shownMode(stat)})`;
      if (systemWithoutModes(at) === undefined) warn(message, `run chmod go-w ${at}, or chmod +t ${at}`);
    }
    if (at === dirname(at)) break;
  }
}

/** The store and every file in it have one owner, who is this user or root. */
export function storeOwners({ store }: Context, { warn }: Report): Outcome {
  const { dir } = store;
  const { uid } = statSync(dir);
  const user = process.geteuid?.();
  if (uid !== 0 && uid !== user) {
    const message = `${dir} is owned by uid ${uid}, which can change every key in it`;
    warn(message, `run this as that user, or run chown -R ${user} ${dir}`);
  }
  for (const { path, stat } of files(store)) {
    if (stat.uid === uid) continue;
    const hint = `run chown ${uid} ${path}, unless an administrator put it there`;
    warn(`${path} is owned by uid ${stat.uid}, the store by uid ${uid}`, hint);
  }
  return `all of it is owned by uid ${uid}`;
}

/** No crash left a half-written file. */
export function storeLeftovers({ store }: Context, { warn }: Report): Outcome {
  for (const { path, stat } of files(store)) {
    const pid = temporaryWriter(basename(path));
    if (pid === undefined || (isRunning(pid) && Date.now() - stat.mtimeMs < SLOW)) continue;
    const hint = "remove it with ocicrypt-keystore doctor --fix";
    warn(`${path} was not completely written: a crash left it behind`, hint, () => removeFile(path));
  }
  return "no half-written files";
}

/** No process that is gone holds the writers' lock. */
export function storeLock({ store }: Context, { warn }: Report): Outcome {
  let writer = "no process is changing the store";
  for (const path of storeLocks(store)) {
    const owner = lockOwner(path);
    if (owner.state === "none") continue;
    const { who, where } = owner;
    const gone = `${path} is held by a process that does not run here`;
    if (owner.state === "alive" && !owner.silent) writer = `${who} is changing the store (${where})`;
    else if (owner.state === "alive") {
      warn(`${path} is held by ${who} ${where}, which has not touched it for 10 minutes`, NEXT_CHANGE);
    } else if (isLeftBehind(owner)) warn(`${gone}: ${who} ${where}`, NEXT_CHANGE);
    else {
      const force = "if that process is gone, run ocicrypt-keystore doctor --fix --force";
      const later = "after 10 minutes without a sign of life the next change takes the lock over";
      warn(`${gone}, and perhaps elsewhere: ${who} ${where}`, `${force}; ${later}`);
    }
  }
  return writer;
}

/** Each name can be read and leads to keys that are there. */
export async function storeNames({ store }: Context, { warn, fail }: Report): Promise<Outcome> {
  for (const file of listFolder(store.paths.names)) {
    if (isName(file) || file.startsWith(".")) continue;
    warn(`${store.paths.name(file)} is ignored: that cannot be a name`, "rename it to 1 to 64 of a-z A-Z 0-9 . _ -");
  }
  const names = store.names();
  const lost = lostName(store);
  if (lost !== undefined && !names.includes(lost.name)) {
    const message = `the default key is ${lost.name}, and no name leads to ${lost.kid}, the only key without a name`;
    fail(message, "give it this name again with ocicrypt-keystore doctor --fix", lost.restore);
  } else if (names.length === 0) await attempt(fail, () => store.mustHaveNames());
  for (const name of names) {
    const fix = lost?.name === name ? lost.restore : undefined;
    const kids = (await attempt(fail, () => store.kidsOf(name), fix)) ?? [];
    for (const kid of kids.filter((one) => !existsSync(store.paths.publicKey(one)))) {
      const { message, hint } = store.noPublicKey(name, kid);
      fail(message, hint);
    }
    if (kids.includes(name) || !isKid(name) || !existsSync(store.paths.publicKey(name))) continue;
    const message = `the name ${name} is also the kid of another key, which it hides`;
    warn(message, "import its key under another name, then remove this one");
  }
  return count(names.length, "name", "names");
}

/**
 * The name that a key has lost, where that is certain: one key has no name, and one name leads nowhere, as it is damaged
 * or is the default key's and missing.
 */
function lostName(
  store: Store,
): { readonly name: string; readonly kid: string; readonly restore: () => void } | undefined {
  const names = store.names();
  const named = names.map((name) => ({ name, kids: quietly(() => store.kidsOf(name)) }));
  const byDefault = quietly(() => store.defaultName());
  const damaged = named.filter(({ kids }) => kids === undefined).map(({ name }) => name);
  const [name, ...others] = [...damaged, ...(byDefault === undefined || names.includes(byDefault) ? [] : [byDefault])];
  const known = new Set(named.flatMap(({ kids }) => kids ?? []));
  const all = [...new Set([...store.publicKids(), ...store.allPrivateKids()])];
  const [kid, ...more] = all.filter((one) => !known.has(one));
  if (name === undefined || kid === undefined || others.length > 0 || more.length > 0) return undefined;
  return { name, kid, restore: () => writeName(store, name, [kid]) };
}

/** There is a default key. */
export function storeDefault({ store }: Context, { warn, fail }: Report): Outcome {
  if (decryptsOnly(store)) return skip(ONLY_DECRYPTS);
  const name = store.defaultName();
  const names = store.names();
  if (name === undefined && names.length > 0) {
    const message = "no default key: a client must name one, provider:PROVIDER:NAME";
    warn(message, "set one with ocicrypt-keystore default NAME");
  }
  if (name !== undefined && !names.includes(name)) {
    const message = `the default key is ${name}, and there is no such name`;
    fail(message, "set another with ocicrypt-keystore default NAME");
  }
  return name === undefined ? "no keys yet" : `the default key is ${name}`;
}

function folders({ paths }: Store): string[] {
  return [paths.dir, paths.public, paths.private, paths.names, paths.removed];
}

interface StoreFile {
  readonly path: string;
  readonly folder: string;
  readonly stat: Stats;
}

function files(store: Store): StoreFile[] {
  return folders(store).flatMap((folder) =>
    listFolder(folder).flatMap((file) => {
      const path = join(folder, file);
      const stat = statSync(path, { throwIfNoEntry: false });
      return stat === undefined ? [] : [{ path, folder, stat }];
    }),
  );
}

/** Whether it is a private key that is not locked, or the command of a holder. */
function isPrivateKey({ paths }: Store, { path, folder }: StoreFile): boolean {
  const name = parseKeyFileName(basename(path));
  return folder !== paths.public && name !== undefined && !name.public && name.form !== "jwe";
}

/** Whether users other than its owner and root may write to it. */
function isOpen({ mode, gid }: Stats): boolean {
  return (mode & 0o002) !== 0 || ((mode & 0o020) !== 0 && gid !== 0);
}
