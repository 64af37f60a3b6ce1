// Programs: whether a path is a program, and where PATH has one.

import { accessSync, constants, statSync } from "node:fs";
import { join } from "node:path";

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
