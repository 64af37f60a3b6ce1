// User namespaces, in which uid 0 is not the machine's root.

import { readFileSync } from "node:fs";

/** Rootless podman runs its clients as uid 0 of a user namespace: it cannot write the host's /etc. */
export function inUserNamespace(): boolean {
  try {
    return !/^\s*0\s+0\s+4294967295\s*$/.test(readFileSync("/proc/self/uid_map", "latin1"));
  } catch {
    return false; // no /proc, no user namespace to tell
  }
}
