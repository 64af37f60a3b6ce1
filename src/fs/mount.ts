// What the mount of a file means for it: whether its mode can be changed, and whether programs start there.

import { accessSync, constants, readFileSync, realpathSync } from "node:fs";
import { errorCode } from "../errors.ts";

// File systems whose modes are those of their mount options. exfat-fuse and ntfs-3g are `fuseblk`.
const WITHOUT_MODES = new Set(["vfat", "msdos", "exfat", "fuseblk", "fuse.exfat", "fuse.ntfs", "ntfs", "vboxsf"]);

interface Mount {
  readonly point: string;
  readonly type: string;
  readonly options: readonly string[];
}

/**
 * Whether a file is on a read-only mount, such as a secret of Kubernetes: there its mode cannot be changed. Of a file
 * that its mode forbids to write, access(2) says that first.
 */
export function isReadOnly(path: string): boolean {
  const error = refusesWith(path, constants.W_OK);
  return error === "EROFS" || (error === "EACCES" && mountOf(path)?.options.includes("ro") === true);
}

/** Whether a program cannot be started because its mount has the option noexec. */
export function isNoexec(path: string): boolean {
  return refusesWith(path, constants.X_OK) === "EACCES" && noexecMount(path) !== undefined;
}

/** Where the mount of a file is, if it has the option noexec. */
export function noexecMount(path: string): string | undefined {
  const mount = mountOf(path);
  return mount?.options.includes("noexec") === true ? mount.point : undefined;
}

/** The type of a file's file system, if it has no modes: then every file there has the mode that the mount says. */
export function systemWithoutModes(path: string): string | undefined {
  const type = mountOf(path)?.type ?? "";
  return WITHOUT_MODES.has(type) ? type : undefined;
}

/** The hint for a file with a wrong mode. @param change what chmod needs, such as `go-w` */
export function chmodHint(path: string, change: string): string {
  if (isReadOnly(path)) return `it is on a read-only mount: run chmod ${change} on the file that is mounted there`;
  const type = systemWithoutModes(path);
  return type === undefined ? `run chmod ${change} ${path}` : noModes(type);
}

/** What to do on a file system without modes. */
export function noModes(type: string): string {
  return `files of its file system (${type}) have the mode that the mount says: mount it with umask=077`;
}

function refusesWith(path: string, right: number): string | undefined {
  try {
    accessSync(path, right);
    return undefined;
  } catch (error) {
    return errorCode(error);
  }
}

/** proc(5), /proc/PID/mountinfo: field 5 is the mount point, field 6 its options; after a lone dash comes the type. */
function mountOf(path: string): Mount | undefined {
  try {
    const real = realpathSync(path);
    const lines = readFileSync("/proc/self/mountinfo", "latin1").split("\n");
    const mounts = lines.map((line) => {
      const [, , , , point = "", options = ""] = line.split(" ");
      return { point: unescaped(point), options: options.split(","), type: / - (\S+)/.exec(line)?.[1] ?? "" };
    });
    const above = mounts.filter(({ point }) => point !== "" && `${real}/`.startsWith(point.replace(/\/?$/, "/")));
    return above.toSorted((one, other) => one.point.length - other.point.length).at(-1); // the last of several covers
  } catch {
    return undefined; // no /proc: this cannot be found out
  }
}

/** Spaces and the like are octal there. */
function unescaped(text: string): string {
  const bytes = text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
  return Buffer.from(bytes, "latin1").toString();
}
