// Who owns a lock file, and whether the owner still runs. Writers, doctor and the tests use this same rule.

import { lstatSync, readdirSync, readFileSync, readlinkSync, type Stats } from "node:fs";
import { hostname } from "node:os";
import { errorCode, printable, storeError } from "../errors.ts";
import { isObject, member, parseJson } from "../json.ts";
import { readSmallFile } from "./read.ts";

const SILENCE = 10 * 60_000; // ms after which an untouched lock is left behind, whoever owns it
const HOST_NAMESPACE = "pid:[4026531836]"; // the kernel's PROC_PID_INIT_INO: every process is visible in it

/**
 * An existing lock. It is `unknown` if its owner is not visible from this process (another host or container), or if
 * the file is not a lock record.
 */
export interface HeldLock {
  readonly state: "alive" | "dead" | "unknown";
  /** The owner, for messages: `process 7`. */
  readonly who: string;
  /** The owner's host and the time since when it has the lock, for messages. */
  readonly where: string;
  /** The lock was not touched for so long that it no longer counts. */
  readonly silent: boolean;
  /** Changes when the lock is touched or replaced. */
  readonly identity: string;
}

/** Who holds a lock. */
export type LockOwner = HeldLock | { readonly state: "none" };

/** A process as its lock file names it. */
export interface Process {
  readonly pid: number;
  /** When it started, in clock ticks since boot, and the time namespace that counts them: a pid is used again. */
  readonly start: string;
  /** The boot id and the pid namespace: a pid has a meaning only within both. */
  readonly system: string;
  /** The machine id: a process of an earlier boot of the same machine is dead. Empty in most containers. */
  readonly machine: string;
  readonly host: string;
}

/** This process. */
export function thisProcess(): Process {
  const boot = read("/proc/sys/kernel/random/boot_id").trim();
  const namespace = link("/proc/self/ns/pid");
  const start = startOf(processState("self"));
  return {
    pid: process.pid,
    start,
    system: `${boot} ${namespace ?? ""}`.trim(),
    machine: read("/etc/machine-id").trim(),
    host: hostname(),
  };
}

/**
 * The owner of the lock at `path`.
 *
 * @throws KeystoreError `store` if `path` cannot be a lock, such as a symlink
 */
export function lockOwner(path: string): LockOwner {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return { state: "none" };
  if (!stat.isFile()) {
    throw storeError(`${path} is in the way of the lock: it is not a regular file`, "move it away, then try again");
  }
  const content = contentOf(path);
  const owner = parseOwner(content);
  return {
    state: owner === undefined ? "unknown" : stateOf(owner),
    who: owner === undefined ? "an unknown process" : `process ${owner.pid}`,
    where: whereAndSince(owner, stat),
    silent: Math.abs(Date.now() - stat.mtimeMs) > SILENCE, // a time in the future is not a sign of life either
    identity: `${stat.mtimeMs} ${content}`, // not the inode number: on some FUSE file systems it changes
  };
}

/** Whether the next writer may take the lock over. */
export function isLeftBehind({ state, silent }: HeldLock): boolean {
  return state === "dead" || silent;
}

/** Whether a process of this pid namespace runs, and started at `start`, if that is given. */
export function isRunning(pid: number, start?: string): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if (errorCode(error) === "ESRCH") return false; // EPERM: another user's process has this pid
  }
  if (link("/proc/self") !== String(process.pid)) return true; // /proc is of another pid namespace, or not mounted
  const state = processState(pid);
  return state === undefined || (!state.ended && mayBe(start, state));
}

/** A start time as a lock has it: with the time namespace that it is counted in (time_namespaces(7)). */
function startOf(state: ProcessState | undefined): string {
  return `${state?.start ?? ""} ${link("/proc/self/ns/time") ?? ""}`.trim();
}

/** Whether a process can be the one that started then. What another time namespace counts cannot be compared. */
function mayBe(start: string | undefined, state: ProcessState): boolean {
  const [ticks, clock = ""] = (start ?? "").split(" ");
  const [, here = ""] = startOf(state).split(" ");
  return start === undefined || (clock !== "" && clock !== here) || ticks === state.start;
}

interface ProcessState {
  readonly start: string;
  readonly ended: boolean;
}

type Owner = Partial<Process> & { readonly pid: number; readonly since?: string };

function stateOf(owner: Owner): "alive" | "dead" | "unknown" {
  const here = thisProcess();
  const [boot = "", namespace = ""] = (owner.system ?? here.system).split(" ");
  const [bootHere = "", namespaceHere = ""] = here.system.split(" ");
  if (boot === "" || bootHere === "") return "unknown";
  const sameMachine = owner.machine === here.machine && here.machine !== "" && owner.host === here.host;
  if (boot !== bootHere) return sameMachine ? "dead" : "unknown";
  if (!namespace.startsWith("pid:")) return "unknown";
  if (namespace === namespaceHere) return isRunning(owner.pid, owner.start) ? "alive" : "dead";
  return searchProcesses(namespace, owner);
}

/**
 * Looks for a process of another pid namespace of the same kernel. A process sees the namespaces below its own; the
 * host's processes see all of them.
 */
function searchProcesses(namespace: string, { pid, start }: Owner): "alive" | "dead" | "unknown" {
  let complete = link("/proc/self/ns/pid") === HOST_NAMESPACE;
  const visible = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  if (!visible.includes("1")) complete = false; // /proc is mounted with hidepid
  for (const other of visible) {
    const status = read(`/proc/${other}/status`);
    const state = processState(other);
    if (state === undefined && lstatSync(`/proc/${other}`, { throwIfNoEntry: false }) !== undefined) complete = false;
    if (state === undefined || state.ended || !mayBe(start, state)) continue;
    const [, inside] = /^NSpid:.*\s\d+\s+(\d+)$/m.exec(status) ?? []; // proc(5): the innermost is the last
    if (inside !== String(pid)) continue;
    const otherNamespace = link(`/proc/${other}/ns/pid`);
    if (otherNamespace === namespace) return "alive";
    if (otherNamespace === undefined) complete = false; // another user's process: it may be the owner
  }
  return complete ? "dead" : "unknown";
}

function whereAndSince(owner: Owner | undefined, { mtime }: Stats): string {
  const touched = Number.isNaN(mtime.getTime()) ? "unknown" : mtime.toISOString();
  if (owner === undefined) return `since ${touched}`;
  const since = owner.since !== undefined && /^[\d:.TZ-]{20,24}$/.test(owner.since) ? owner.since : touched;
  return `${owner.host === undefined ? "" : `on ${printable(owner.host, 64)} `}since ${since}`;
}

function contentOf(path: string): string {
  try {
    return readSmallFile(path)?.bytes.toString("latin1") ?? "";
  } catch {
    return ""; // unreadable or too large: not a lock record
  }
}

function parseOwner(content: string): Owner | undefined {
  try {
    const value = parseJson(Buffer.from(content, "latin1"), 1, (reason) => new Error(reason));
    if (!isObject(value)) return undefined;
    const pid = member(value, "pid");
    if (typeof pid !== "number" || !Number.isSafeInteger(pid) || pid <= 0 || pid > 2 ** 31) return undefined;
    const texts = ["start", "system", "machine", "host", "since"].map((name) => [name, member(value, name)]);
    return { pid, ...Object.fromEntries(texts.filter(([, text]) => typeof text === "string")) };
  } catch {
    return undefined;
  }
}

/** proc(5), /proc/PID/stat: field 3 is the state, field 22 the start time; field 2 may hold spaces and brackets. */
function processState(pid: number | string): ProcessState | undefined {
  const stat = read(`/proc/${pid}/stat`);
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return stat === "" ? undefined : { start: fields[19] ?? "", ended: fields[0] === "Z" || fields[0] === "X" };
}

function read(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return "";
  }
}

function link(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}
