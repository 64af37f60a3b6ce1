// Programs that the Go module proxy has: each is built into a cache folder, once for each version.

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "./program.ts";

/** A program's package and version. */
export interface GoProgram {
  readonly name: string;
  readonly package: string;
  readonly version: string;
  /** Build tags that leave out what needs C. */
  readonly tags?: string;
}

const CACHE = join(ROOT, "node_modules/.cache/ocicrypt-keystore/go");
const TIME_LIMIT = 1_800_000; // ms; containerd takes three minutes on two processors that have nothing else to do

const folderOf = ({ name, version }: GoProgram): string => join(CACHE, `${name}@${version}`);

/** The program's path; undefined if it is not built. */
export function findGoProgram(program: GoProgram): string | undefined {
  const path = join(folderOf(program), program.name);
  return existsSync(path) ? path : undefined;
}

/** Builds it, unless it is there. @throws Error if there is no go for it, or no module proxy */
export function buildGoProgram(program: GoProgram): void {
  if (findGoProgram(program) !== undefined) return;
  const { name, package: path, version, tags = "" } = program;
  const folder = folderOf(program);
  const fresh = `${folder}.new`;
  mkdirSync(fresh, { recursive: true });
  process.stdout.write(`building ${name} ${version}\n`);
  // A go that is older than the program asks for fails, rather than download another.
  const env = { ...process.env, CGO_ENABLED: "0", GOTOOLCHAIN: "local", GOBIN: fresh };
  const args = ["install", "-trimpath", "-ldflags", "-s -w", "-tags", tags, `${path}@${version}`];
  const { error, status, stderr } = spawnSync("go", args, { cwd: "/", env, encoding: "utf8", timeout: TIME_LIMIT });
  if (status !== 0) throw new Error(`no ${name}: ${error?.message ?? stderr}`);
  rmSync(folder, { recursive: true, force: true });
  renameSync(fresh, folder);
}
