// Mounts that only the test's own commands see: each is made in a mount namespace, which ends with this process.

import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import type { Socket } from "node:net";
import { temporaryFolder } from "./folders.ts";
import { mountNamespace, tool } from "./parts.ts";
import { BINARY, run, type Result, type RunOptions } from "./program.ts";

/** A mount, and how to start the binary where it is visible. */
export interface Mounted {
  /** The mount point. */
  readonly dir: string;
  readonly run: (args: readonly string[], options?: RunOptions) => Result;
  /** Runs another program there. */
  readonly use: (program: string, args: readonly string[], options?: RunOptions) => Result;
}

const PATH = "/usr/sbin:/usr/bin:/sbin:/bin";

/**
 * Makes mounts with a script for sh, whose $0 is the mount point. Root is the user who starts the tests, or root.
 *
 * @param how unshare's option for the namespace: -m with root's rights, -rm with those of a user namespace
 */
export async function mounted(
  script: string,
  dir = temporaryFolder(),
  how = mountNamespace()?.[0] ?? "",
): Promise<Mounted> {
  const words = [how, "setpriv", "--pdeathsig", "KILL", "sh", "-ec", `${script}\necho ready; exec sleep 600`, dir];
  const child = spawn("unshare", words, { stdio: ["ignore", "pipe", "inherit"], env: { PATH } });
  process.on("exit", () => child.kill("SIGKILL"));
  const [line] = (await Promise.race([once(child.stdout, "data"), once(child, "close")])) as [unknown];
  if (String(line).trim() !== "ready") throw new Error(`cannot mount: ${script}: ${String(line)}`);
  child.unref();
  (child.stdout as Socket).unref();
  const enter = ["-t", String(child.pid), "-m", ...(how === "-rm" ? ["-U", "--preserve-credentials"] : [])];
  const use = (program: string, args: readonly string[], options: RunOptions = {}): Result =>
    run([...enter, program, ...args], { ...options, binary: "/usr/bin/nsenter", env: { PATH, ...options.env } });
  return { dir, use, run: (args, options) => use(BINARY, args, options) };
}

/** Whether this user can make mounts of his own. */
export const canMount = mountNamespace() !== undefined && tool("nsenter") !== undefined ? true : undefined;

const EXFAT = [
  'mkfs.exfat "$0/../image" > /dev/null',
  'device=$(losetup --find --show "$0/../image")',
  'mount.exfat-fuse -o "$OPTIONS" "$device" "$0" > /dev/null || { losetup -d "$device"; exit 1; }',
  'losetup -d "$device"', // as soon as it is no longer mounted
].join("\n");

/** An exFAT file system of 8 MiB, by FUSE: it has neither hard links nor modes. */
export async function exfat(options = "rw"): Promise<Mounted> {
  const dir = join(temporaryFolder(), "m");
  const prepare = `mkdir "$0"; truncate -s 8M "$0/../image"; OPTIONS=${options}`;
  return await mounted(`${prepare}\n${EXFAT}`, dir, "-m");
}

/** Whether this machine can mount exFAT by FUSE. */
export const exfatParts =
  process.geteuid?.() === 0 &&
  canMount === true &&
  ["mkfs.exfat", "mount.exfat-fuse", "losetup"].every(
    (name) => spawnSync("which", [name], { env: { PATH } }).status === 0,
  )
    ? true
    : undefined;
