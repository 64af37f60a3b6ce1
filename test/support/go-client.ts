// The client in go-client/, ocicrypt's own key wrapper for exec and gRPC providers, built into the cache folder by running this file.

import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, renameSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { ROOT } from "./program.ts";

const SOURCES = join(import.meta.dirname, "go-client");
const CLIENT = join(ROOT, "node_modules/.cache/ocicrypt-keystore/go-client");
const TIME_LIMIT = 600_000; // ms; with nothing downloaded yet it takes one or two minutes

/** The program's path: `wrap PROVIDER RECIPIENT… < optsdata`, `unwrap PROVIDER < annotation`. Undefined where it is not built, or older than its sources. */
export function findGoClient(): string | undefined {
  const built = statSync(CLIENT, { throwIfNoEntry: false })?.mtimeMs;
  return built !== undefined && readdirSync(SOURCES).every((name) => statSync(join(SOURCES, name)).mtimeMs <= built)
    ? CLIENT
    : undefined;
}

/** Builds it, which downloads ocicrypt and what that needs. @throws Error where there is no go for it, or no module proxy */
function buildGoClient(): void {
  mkdirSync(dirname(CLIENT), { recursive: true });
  const fresh = `${CLIENT}.new`;
  // A go that is older than go.mod asks for fails, rather than download another.
  const env = { ...process.env, CGO_ENABLED: "0", GOTOOLCHAIN: "local" };
  const { error, status, stderr } = spawnSync("go", ["build", "-trimpath", "-buildvcs=false", "-o", fresh, "."], {
    cwd: SOURCES,
    env,
    encoding: "utf8",
    timeout: TIME_LIMIT,
  });
  if (status !== 0) throw new Error(`no Go client: ${error?.message ?? stderr}`);
  renameSync(fresh, CLIENT);
}

if (import.meta.main && findGoClient() === undefined) buildGoClient();
