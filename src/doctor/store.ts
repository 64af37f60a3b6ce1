// The key store directory: who may read it, what crashes left behind, and whether its names lead to keys.

import { accessSync, chmodSync, constants, existsSync, realpathSync, statSync, type Stats } from "node:fs";
import { basename, dirname, join } from "node:path";
import { errorCode } from "../errors.ts";
import { listFolder, refuseOpenMode, removeFile, shownMode } from "../fs/files.ts";
import { isLeftBehind, isRunning, lockOwner } from "../fs/lock-owner.ts";
import { nameList, readDefault, readName } from "../keystore/store.ts";
import { isKid, isName, layout } from "../keystore/paths.ts";
import { storeLocks } from "../keystore/store-lock.ts";
import { secretFile, type SecretFiles } from "../at-rest/secret-files.ts";
import { attempt, check, type Check } from "./check.ts";
import { keyChecks } from "./keys.ts";

const SLOW = 10 * 60_000; // ms; a temporary file is in place after a few
const STICKY = 0o1000; // only its owner may replace what is in such a folder
const NEXT_CHANGE = "the next change takes it over; or run ocicrypt-keystore doctor --fix";
const NONE = "not looked at";

/** Checks of the store in `dir`. `secrets` says where the secret of locked keys is. */
export async function storeChecks(dir: string, secrets: SecretFiles): Promise<Check[]> {
  const store = await check("store", (_, fail) => {
    const stat = statSync(dir, { throwIfNoEntry: false });
    if (stat === undefined) fail(`no key store at ${dir}`, "make one with ocicrypt-keystore keygen NAME, or say where it is with --keystore DIR");
    else if (!stat.isDirectory()) fail(`${dir} is not a directory`, "say where the key store is with --keystore DIR");
    else for (const folder of folders(dir)) listFolder(folder);
    return dir;
  });
  const there = store.every(({ status }) => status === "ok");
  const look: typeof check = async (id, body) => await check(id, there ? body : () => NONE);
  return [
    ...store,
    ...(await look("store.modes", async (warn, fail) => {
      for (const folder of [layout.privateDir(dir), layout.removedDir(dir)]) {
        const stat = statSync(folder, { throwIfNoEntry: false });
        if (stat === undefined || stat.uid !== process.geteuid?.() || (stat.mode & 0o077) === 0) continue;
        warn(`others may enter ${folder} (mode ${shownMode(stat)})`, `run chmod 700 ${folder}`, () => chmodSync(folder, 0o700));
      }
      const secret = (["passphrase", "master key"] as const).map((kind) => ({ what: kind, path: secretFile(kind, secrets) ?? "" }));
      const keys = files(dir).filter(({ path, folder }) => folder !== "public" && /(?<!\.public)\.jwk$|\.holder$/.test(path));
      for (const { what, path } of [...secret, ...keys.map((file) => ({ what: "private key", path: file.path }))]) {
        const stat = statSync(path, { throwIfNoEntry: false });
        if (stat?.isFile() === true) await attempt(fail, () => refuseOpenMode(path, what, { bytes: Buffer.alloc(0), stat }), () => chmodSync(path, 0o600));
      }
      for (const { path, stat } of [{ path: dir, stat: statSync(dir) }, ...files(dir)]) {
        if (isOpen(stat) && !isReadOnly(path)) warn(`others can write to ${path} (mode ${shownMode(stat)})`, `run chmod go-w ${path}`);
      }
      for (let at = dirname(realpathSync(dir)); ; at = dirname(at)) {
        const stat = statSync(at);
        if (isOpen(stat) && (stat.mode & STICKY) === 0) warn(`others can replace the store: they can write to ${at} (mode ${shownMode(stat)})`, `run chmod go-w ${at}, or chmod +t ${at}`);
        if (at === dirname(at)) break;
      }
      return "private keys are for their owner alone";
    })),
    ...(await look("store.owners", (warn) => {
      const { uid } = statSync(dir);
      if (uid !== 0 && uid !== process.geteuid?.()) warn(`${dir} belongs to uid ${uid}, who can change every key in it`, `run this as that user, or run chown -R ${process.geteuid?.()} ${dir}`);
      for (const { path, stat } of files(dir)) {
        if (stat.uid !== uid) warn(`${path} belongs to uid ${stat.uid}, the store to uid ${uid}`, `run chown ${uid} ${path}, unless an administrator put it there`);
      }
      return `all of it belongs to uid ${uid}`;
    })),
    ...(await look("store.leftovers", (warn) => {
      for (const { path, stat } of files(dir)) {
        const [, pid] = /^\.tmp-(\d+)-/.exec(basename(path)) ?? [];
        if (pid === undefined || (isRunning(Number(pid)) && Date.now() - stat.mtimeMs < SLOW)) continue;
        warn(`${path} is half written: a crash left it`, "remove it with ocicrypt-keystore doctor --fix", () => removeFile(path));
      }
      return "no half-written files";
    })),
    ...(await look("store.lock", (warn) => {
      let busy = "nobody is changing the store";
      for (const path of storeLocks(dir)) {
        const owner = lockOwner(path);
        if (owner.state === "none") continue;
        const { who, where } = owner;
        if (owner.state === "alive" && !owner.silent) busy = `${who} is changing the store (${where})`;
        else if (owner.state === "alive") warn(`${path} is of ${who} ${where}, which has not touched it for 10 minutes`, NEXT_CHANGE);
        else if (isLeftBehind(owner)) warn(`${path} is of a process that does not run here: ${who} ${where}`, NEXT_CHANGE);
        else warn(`${path} is of a process that does not run here, and perhaps elsewhere: ${who} ${where}`, "if it is gone, run ocicrypt-keystore doctor --fix --force; after 10 minutes without a sign of it the next change takes the lock over");
      }
      return busy;
    })),
    ...(await look("store.names", async (warn, fail) => {
      for (const file of listFolder(layout.namesDir(dir))) {
        if (!isName(file) && !file.startsWith(".")) warn(`${layout.name(dir, file)} is ignored: that cannot be a name`, "rename it to 1 to 64 of a-z A-Z 0-9 . _ -");
      }
      for (const name of nameList(dir)) {
        const kids = (await attempt(fail, () => readName(dir, name))) ?? [];
        for (const kid of kids.filter((one) => !existsSync(layout.publicKey(dir, one)))) {
          fail(`the name ${name} points to ${kid}, which is missing in ${layout.publicDir(dir)}`, "restore that file from a backup");
        }
        if (!kids.includes(name) && isKid(name) && existsSync(layout.publicKey(dir, name))) warn(`the name ${name} is also the kid of another key, which it hides`, "import its key under another name, then remove this one");
      }
      return `${nameList(dir).length} names`;
    })),
    ...(await look("store.default", (warn, fail) => {
      const name = readDefault(dir);
      if (name === undefined && nameList(dir).length > 0) warn("no default key: a client must name one, provider:PROVIDER:NAME", "set one with ocicrypt-keystore default NAME");
      if (name !== undefined && !nameList(dir).includes(name)) fail(`the default key is ${name}, and there is no such name`, "set another with ocicrypt-keystore default NAME");
      return name === undefined ? "no keys yet" : `the default key is ${name}`;
    })),
    ...(await keyChecks(dir, secrets, look)),
  ];
}

function folders(dir: string): string[] {
  return [dir, layout.publicDir(dir), layout.privateDir(dir), layout.namesDir(dir), layout.removedDir(dir)];
}

function files(dir: string): { path: string; folder: string; stat: Stats }[] {
  return folders(dir).flatMap((folder) =>
    listFolder(folder).flatMap((file) => {
      const stat = statSync(join(folder, file), { throwIfNoEntry: false });
      return stat === undefined ? [] : [{ path: join(folder, file), folder: basename(folder), stat }];
    }),
  );
}

/** Whether others than its owner and root may write to it. */
function isOpen({ mode, gid }: Stats): boolean {
  return (mode & 0o002) !== 0 || ((mode & 0o020) !== 0 && gid !== 0);
}

/** Whether it is on a read-only mount, such as a secret of Kubernetes, whose modes say nothing. */
function isReadOnly(path: string): boolean {
  try {
    accessSync(path, constants.W_OK);
    return false;
  } catch (error) {
    return errorCode(error) === "EROFS";
  }
}
