// Folders that go with the process, and the files in a folder.

import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const temporary: string[] = [];
process.on("exit", () => {
  for (const dir of temporary) rmSync(dir, { recursive: true, force: true });
});

/** A new folder that goes with the process. */
export function temporaryFolder(): string {
  const dir = mkdtempSync(join(tmpdir(), "ocicrypt-keystore-test-"));
  temporary.push(dir);
  return dir;
}

/** A new folder that every user can enter, whatever TMPDIR and the umask are. It goes with the process. */
export function sharedFolder(): string {
  const dir = mkdtempSync("/tmp/ocicrypt-keystore-test-");
  temporary.push(dir);
  chmodSync(dir, 0o755);
  return dir;
}

/** Does something under a umask, which what it starts gets too. */
export function withUmask<T>(umask: number, body: () => T): T {
  const former = process.umask(umask);
  try {
    return body();
  } finally {
    process.umask(former);
  }
}

/** Does something as a user who is not root. */
export async function withoutRoot<T>(body: () => Promise<T>): Promise<T> {
  const root = process.geteuid?.() === 0;
  if (root) process.seteuid?.(65534);
  try {
    return await body();
  } finally {
    if (root) process.seteuid?.(0);
  }
}

/** A file for its owner alone, or of another mode whatever the umask is, in a folder of its own. */
export function secretFile(content: string | Buffer, mode = 0o600): string {
  const path = join(temporaryFolder(), "file");
  writeFileSync(path, content, { mode });
  chmodSync(path, mode);
  return path;
}

/** Everything below a folder: each path with its mode and content. The times are left out. */
export function tree(dir: string): Record<string, string> {
  const found: Record<string, string> = {};
  if (!existsSync(dir)) return found;
  for (const path of readdirSync(dir, { recursive: true, encoding: "utf8" }).toSorted()) {
    const stat = lstatSync(join(dir, path));
    const content = stat.isFile()
      ? readFileSync(join(dir, path), "latin1")
      : stat.isSymbolicLink()
        ? readlinkSync(join(dir, path))
        : "";
    found[path] = `${stat.mode.toString(8)} ${content}`;
  }
  return found;
}
