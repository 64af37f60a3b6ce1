// Records of writers' locks: whose a lock is.

import { spawnSync } from "node:child_process";
import { readFileSync, utimesSync } from "node:fs";
import { join } from "node:path";
import { withLock } from "../../src/fs/lock.ts";
import { temporaryFolder } from "./folders.ts";

/** The lock record of this process, changed. */
export function owner(changes: object): string {
  let written = "";
  const path = join(temporaryFolder(), "lock");
  void withLock(path, () => (written = readFileSync(path, "utf8")));
  return JSON.stringify({ ...(JSON.parse(written || readFileSync(path, "utf8")) as object), ...changes });
}

/** The pid of a process that has ended. */
export function deadPid(): number {
  return spawnSync("true").pid;
}

/** Makes a file one that nobody touched for over 10 minutes. */
export function makeOld(path: string): void {
  utimesSync(path, Date.now() / 1000 - 700, Date.now() / 1000 - 700);
}
