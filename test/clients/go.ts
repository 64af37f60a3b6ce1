// The client in go/, ocicrypt's own key wrapper for exec and gRPC providers, built once into the cache folder.

import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, renameSync, rmSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { ROOT } from "../support.ts";

const SOURCES = join(import.meta.dirname, "go");
const CLIENT = join(ROOT, "node_modules/.cache/ocicrypt-keystore/go-client");
const TIME_LIMIT = 300_000; // ms; a cold build takes about half a minute

/** The program's path: `wrap PROVIDER RECIPIENT… < optsdata`, `unwrap PROVIDER < annotation`. Undefined, and says why, where it cannot be built. */
export function findGoClient(): string | undefined {
  if (isFresh()) return CLIENT;
  mkdirSync(dirname(CLIENT), { recursive: true });
  const fresh = `${CLIENT}.${process.pid}`; // of this process: two test files may build it at once
  // A go that is older than go.mod asks for fails, rather than download another.
  const env = { ...process.env, CGO_ENABLED: "0", GOTOOLCHAIN: "local" };
  const { error, status, stderr } = spawnSync("go", ["build", "-trimpath", "-buildvcs=false", "-o", fresh, "."], { cwd: SOURCES, env, encoding: "utf8", timeout: TIME_LIMIT });
  if (status === 0) {
    renameSync(fresh, CLIENT);
    return CLIENT;
  }
  rmSync(fresh, { force: true });
  process.stdout.write(`no Go client: ${error?.message ?? /.*$/.exec(stderr.trimEnd())?.[0]}\n`);
  return undefined;
}

function isFresh(): boolean {
  const built = statSync(CLIENT, { throwIfNoEntry: false })?.mtimeMs;
  return built !== undefined && readdirSync(SOURCES).every((name) => statSync(join(SOURCES, name)).mtimeMs <= built);
}
