// One writer at a time. A lock whose owner died is taken over; readers never look at it.

import { readFileSync, readlinkSync, rmSync, statSync, unlinkSync, utimesSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { errorCode, KeystoreError } from "../errors.ts";
import { isObject, member, parseJson } from "../json.ts";
import { makeFolder, readSmallFile, writeFileSafely } from "./files.ts";
import { layout } from "./layout.ts";

const PATIENCE = 30_000; // ms to wait for another writer
const PAUSE = 20; // ms between two looks
const HEARTBEAT = 60_000; // ms between two touches of a lock that is held long
const UNKNOWN_OWNER = 10 * 60_000; // ms after which the lock of a process that cannot be seen from here counts as left behind

/**
 * Runs `work` while holding the lock file at `path`.
 *
 * @throws KeystoreError `store` if another writer keeps it for 30 s
 */
export async function withLock<T>(path: string, work: () => T | Promise<T>): Promise<T> {
  await acquire(path);
  const heartbeat = setInterval(() => touch(path), HEARTBEAT);
  try {
    return await work();
  } finally {
    clearInterval(heartbeat);
    rmSync(path, { force: true }); // gone already if somebody removed it by hand: the work is done all the same
  }
}

function touch(path: string): void {
  try {
    utimesSync(path, new Date(), new Date());
  } catch {
    // removed by hand; nothing to keep alive
  }
}

/** Runs a change of a store while holding its lock. */
export async function changeStore<T>(dir: string, work: () => T | Promise<T>): Promise<T> {
  makeFolder(dir, 0o755);
  return await withLock(layout.lock(dir), work);
}

async function acquire(path: string): Promise<void> {
  const mine = JSON.stringify(thisProcess());
  for (const deadline = Date.now() + PATIENCE; ; await sleep(PAUSE)) {
    try {
      writeFileSafely(path, mine, "shared", "create");
      return;
    } catch (error) {
      if (errorCode(error) !== "EEXIST") throw error;
    }
    const found = readSmallFile(path)?.bytes.toString("latin1");
    if (found === undefined) continue; // released just now
    if (isLeftBehind(path, found)) {
      // Only who holds the lock's own lock may remove it, and only if it is still the one that was judged.
      await withLock(`${path}-takeover`, () => {
        if (readSmallFile(path)?.bytes.toString("latin1") === found) unlinkSync(path);
      });
    } else if (Date.now() > deadline) {
      throw new KeystoreError("store", `another process is changing the store (${path}: ${found.slice(0, 200)})`, "try again when it is done");
    }
  }
}

interface Owner {
  readonly pid: number;
  /** When the process started, in clock ticks since boot: a pid is used again. */
  readonly start: string;
  /** The running system and the pid namespace: only within both does a pid say anything. */
  readonly system: string;
}

function thisProcess(): Owner {
  return { pid: process.pid, start: processState(process.pid)?.start ?? "", system: thisSystem() };
}

function thisSystem(): string {
  try {
    return `${readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim()} ${readlinkSync("/proc/self/ns/pid")}`;
  } catch {
    return "";
  }
}

function isLeftBehind(path: string, content: string): boolean {
  const owner = parseOwner(content);
  if (owner === undefined || owner.system !== thisSystem()) {
    const age = statSync(path, { throwIfNoEntry: false })?.mtimeMs;
    return age !== undefined && Date.now() - age > UNKNOWN_OWNER;
  }
  try {
    process.kill(owner.pid, 0);
  } catch (error) {
    if (errorCode(error) === "ESRCH") return true; // EPERM: another user's process, which may have got the pid since
  }
  const state = processState(owner.pid);
  return state !== undefined && (state.start !== owner.start || state.zombie);
}

function parseOwner(content: string): Owner | undefined {
  try {
    const value = parseJson(Buffer.from(content, "latin1"), 1, (reason) => new Error(reason));
    if (!isObject(value)) return undefined;
    const [pid, start, system] = [member(value, "pid"), member(value, "start"), member(value, "system")];
    if (typeof pid !== "number" || !Number.isSafeInteger(pid) || pid <= 0) return undefined;
    return typeof start === "string" && typeof system === "string" ? { pid, start, system } : undefined;
  } catch {
    return undefined;
  }
}

/** proc(5), /proc/PID/stat: field 3 is the state, field 22 the start time; field 2 may hold spaces and brackets. */
function processState(pid: number): { start: string; zombie: boolean } | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return { start: fields[19] ?? "", zombie: fields[0] === "Z" || fields[0] === "X" };
  } catch {
    return undefined;
  }
}
