// Programs: where PATH has one, what keeps one from being started, and what is inside.

import {
  accessSync,
  closeSync,
  constants,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  realpathSync,
  statSync,
} from "node:fs";
import { join } from "node:path";
import { errorCode } from "../errors.ts";
import { noexecMount } from "../fs/mount.ts";
import { quietly } from "./check.ts";

/** Whether there is a file at `path` that this user may execute. */
export function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/** Where a program is found on a PATH. Relative folders of it are left out. */
export function findProgram(name: string, path = process.env["PATH"] ?? ""): string | undefined {
  const folders = path.split(":").filter((folder) => folder.startsWith("/"));
  return folders.map((folder) => join(folder, name)).find(isProgram);
}

/** What keeps a program from being started: words that follow its name, and what to do. */
export interface Obstacle {
  readonly message: string;
  /** Undefined if it depends on who named the program. */
  readonly hint?: string;
}

/** Where a program is, or why it cannot be started. */
export type Found =
  | { readonly path: string; readonly obstacle?: undefined }
  | { readonly path?: undefined; readonly obstacle: Obstacle };

/** Finds a program as Go's os/exec does: a bare name on PATH. Go refuses what a relative folder of PATH has. */
export function lookPath(name: string): Found {
  if (name.includes("/")) {
    const obstacle = obstacleTo(name);
    return obstacle === undefined ? { path: name } : { obstacle };
  }
  for (const folder of (process.env["PATH"] ?? "").split(":")) {
    const path = join(folder === "" ? "." : folder, name);
    if (!isProgram(path)) continue;
    if (!path.startsWith("/")) return { obstacle: { message: `is in a relative folder of PATH: clients refuse that` } };
    const obstacle = obstacleTo(path);
    return obstacle === undefined ? { path } : { obstacle };
  }
  return { obstacle: { message: "is not there, in no folder of PATH" } };
}

/** Why the file at `path` cannot be executed; undefined if it can. */
export function obstacleTo(path: string): Obstacle | undefined {
  let stat;
  try {
    stat = statSync(path);
  } catch (error) {
    const code = errorCode(error) ?? "unknown error";
    return { message: code === "ENOENT" ? "is not there" : `cannot be reached (${code})` };
  }
  if (!stat.isFile()) return { message: "cannot be executed: it is not a file" };
  if (!isProgram(path)) {
    const mount = noexecMount(path);
    if (mount !== undefined) {
      const hint = "put the program on another file system";
      return { message: `cannot be executed: it is on ${mount}, which is mounted noexec`, hint };
    }
    const hint = (stat.mode & 0o111) === 0 ? `run chmod +x ${path}` : "let this user execute it (see ls -l)";
    return { message: "cannot be executed", hint };
  }
  return obstacleInside(path);
}

/** A script needs its first line: clients do not start a shell for it, as shells do. */
function obstacleInside(path: string): Obstacle | undefined {
  const start = quietly(() => readPart(path, 0, HEAD));
  if (start === undefined) return undefined; // it may be executable and not readable
  if (start.subarray(0, 4).equals(ELF)) return obstacleInHeader(start);
  const [, interpreter] = /^#![ \t]*([^ \t\n]+)/.exec(start.toString("latin1")) ?? [];
  if (interpreter === undefined) {
    const message = 'cannot be executed: it is neither a program nor a script that begins with "#!"';
    return { message, hint: "write #!/bin/sh into its first line if it is a shell script" };
  }
  const interpreterPath = Buffer.from(interpreter, "latin1").toString();
  if (isProgram(interpreterPath.replace(/\r$/, "")) && interpreterPath.endsWith("\r")) {
    const message = "cannot be executed: its lines end in CR LF, and so the name of its interpreter ends in CR";
    return { message, hint: `run sed -i 's/\\r$//' ${path}` };
  }
  if (isProgram(interpreterPath)) return undefined;
  return { message: `cannot be executed: its interpreter ${interpreterPath} is not there`, hint: "fix its first line" };
}

/** A program of another machine. Node would have a shell run it as a script, line by line. */
function obstacleInHeader(header: Buffer): Obstacle | undefined {
  if (header.length < ELF_HEADER) {
    return { message: "cannot be executed: it is cut off", hint: "install it again" };
  }
  const known = MACHINES[process.arch];
  if (known === undefined || known.includes(header.readUInt16LE(E_MACHINE)) || hasEmulators()) return undefined;
  const message = "cannot be executed: it is for a machine of another kind (exec format error)";
  return { message, hint: `install the program for ${process.arch}` };
}

/** Whether the kernel may start programs of other machines (binfmt_misc). */
function hasEmulators(): boolean {
  try {
    return readdirSync("/proc/sys/fs/binfmt_misc").some((name) => !["register", "status"].includes(name));
  } catch {
    return false;
  }
}

const ELF = Buffer.from("\x7fELF", "latin1");
const ELF_HEADER = 52; // bytes of the shorter form (elf(5))
const E_MACHINE = 18; // where a header names the machine
/** The machines whose programs a kernel runs, with those of 32 bits. */
const MACHINES: Partial<Record<string, readonly number[]>> = { x64: [62, 3], arm64: [183, 40] };
const HEAD = 256; // bytes: the kernel reads as many of a script's first line

/** The bytes of a program; none if it cannot be read. */
export function contents(path: string): Buffer {
  return quietly(() => readFileSync(path)) ?? Buffer.alloc(0); // a program may be executable and not readable
}

/** What is in every build of this program, and in no other program (scripts/build.ts). */
const OWN = "file:///ocicrypt-keystore/node_modules/yargs";
const NODE_SIZE = 32 * 1024 * 1024; // bytes: no build is smaller than the Node in it
const OWN_TAIL = 16 * 1024 * 1024; // bytes at the end of a build that hold our sources

/** Whether a file is this program: the same file, or another build of it. */
export function isThisProgram(path: string): boolean {
  try {
    const real = realpathSync(path);
    const { size } = statSync(real);
    if (real === realpathSync(process.execPath)) return true;
    return size > NODE_SIZE && readPart(real, size - OWN_TAIL, OWN_TAIL).includes(OWN);
  } catch {
    return false;
  }
}

function readPart(path: string, start: number, length: number): Buffer {
  const file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const bytes = Buffer.alloc(length);
    return bytes.subarray(0, readSync(file, bytes, 0, length, start));
  } finally {
    closeSync(file);
  }
}
