// Whose a new file of an image is: whoever could read the image before its change can do so after it.

import { fchmodSync, fchownSync, type Stats } from "node:fs";

/** Gives a new file the owner, group and mode of another one, each as far as this user and the file system can. */
export function keepOwner(fd: number, { uid, gid, mode }: Stats): void {
  const changes = [() => fchownSync(fd, -1, gid), () => fchownSync(fd, uid, -1), () => fchmodSync(fd, mode & 0o777)];
  for (const change of changes) {
    try {
      change();
    } catch {
      // it stays as a new file of this user's is
    }
  }
}
