// User namespaces: in them, uid 0 is not the machine's root.

import { readFileSync } from "node:fs";

/** Whether this process is in a user namespace. There, as in rootless podman, uid 0 cannot write the host's /etc. */
export function inUserNamespace(): boolean {
  try {
    return !/^\s*0\s+0\s+4294967295\s*$/.test(readFileSync("/proc/self/uid_map", "latin1"));
  } catch {
    return false; // no /proc: this cannot be found out
  }
}
