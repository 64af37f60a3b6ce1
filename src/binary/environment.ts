// What Node has done already, before the program's first line, because of variables in the environment: it is undone
// here. The README says what cannot be undone (Commands, The environment).

import { closeSync, rmdirSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { setAside } from "../environment.ts";

const UNDO: ReadonlyMap<string, () => void> = new Map([
  ["NODE_V8_COVERAGE", stopCoverage],
  ["NODE_COMPILE_CACHE", removeCacheFolders],
  ["NODE_DEBUG", dropDebugLines],
  ["NODE_REDIRECT_WARNINGS", dropWarnings],
]);

/** Lets no variable of Node or of a library steer the program. */
export function clearEnvironment(): void {
  for (const name of Object.keys(setAside())) UNDO.get(name)?.();
  // NODE_UNIQUE_ID is gone already. A worker of a cluster would ask its parent process to listen.
  if (process.listenerCount("internalMessage") > 0) leaveCluster();
}

/** Node would write a file of counts at the end. Without counts it complains at the end, when all has been said. */
function stopCoverage(): void {
  process.getBuiltinModule("node:v8").stopCoverage();
  const exit = process.reallyExit.bind(process);
  process.reallyExit = (code): never => {
    closeStandardError();
    return exit(code);
  };
  process.once("beforeExit", () => process.once("exit", closeStandardError)); // the last listener, which may say nothing
}

function closeStandardError(): void {
  try {
    closeSync(2);
  } catch {
    // it was closed before
  }
}

/** Node has made the folder of its cache, with its parents. Those that are older than this process stay. */
function removeCacheFolders(): void {
  try {
    let folder = process.getBuiltinModule("node:module").getCompileCacheDir();
    for (; folder !== undefined && statSync(folder).birthtimeMs >= performance.timeOrigin; folder = dirname(folder)) {
      rmdirSync(folder);
    }
  } catch {
    // it is not there, or not empty
  }
}

/** Debugging lines of Node's modules, which may hold passwords, begin with the module and this process's id. */
function dropDebugLines(): void {
  const ofNode = new RegExp(`^[A-Z0-9_]+ \\S*${process.pid}\\S*: `);
  process.stderr.write = new Proxy(process.stderr.write.bind(process.stderr), {
    apply: (write, _, args: unknown[]) => ofNode.test(String(args[0])) || Reflect.apply(write, undefined, args),
  });
  dropWarnings();
}

/** Node would append its warnings to a file. */
function dropWarnings(): void {
  process.removeAllListeners("warning");
}

function leaveCluster(): void {
  const cluster = process.getBuiltinModule("node:cluster");
  Object.assign(cluster, { isPrimary: true, isMaster: true, isWorker: false });
  process.removeAllListeners("disconnect"); // it would end the process
}
