// Makes the bundles' code caches. It runs real requests and commands, so that V8 compiles the functions that they
// need, and writes V8's code cache beside each bundle. build.ts runs it with the base Node: warm.ts EXEC CLI

import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { Script } from "node:vm";
import { addKey } from "../src/keystore/add.ts";
import { openStore } from "../src/keystore/store.ts";
import { generateJwk, TYPES } from "../src/jwk/jwk.ts";
import { secretFiles } from "../src/at-rest/secret-files.ts";

const [, , bundle = "", cli = ""] = process.argv;
// Or V8 compiles functions that were hot here again at each start, on another thread.
setFlagsFromString("--no-sparkplug");
const script = new Script(readFileSync(bundle, "latin1"), { filename: "ocicrypt-keystore" });
const run = script.runInThisContext() as (load: NodeJS.Require) => void;
const commands = new Script(readFileSync(cli, "latin1"), { filename: "cli" });
const load = createRequire(import.meta.url);
const exit = process.reallyExit.bind(process);
const dir = mkdtempSync(join(tmpdir(), "ocicrypt-keystore-"));

/** Runs one request as exec mode does, files in place of its standard input and output. */
async function request(body: object): Promise<unknown> {
  const [input, output] = [join(dir, "input"), join(dir, "output")];
  writeFileSync(input, JSON.stringify(body));
  reopen(0, input, "r");
  reopen(1, output, "w");
  process.argv = [process.execPath, bundle, "--keystore", join(dir, "store")];
  const code = await new Promise<number>((resolve) => {
    process.reallyExit = (status): never => {
      resolve(status);
      return undefined as never;
    };
    run(load);
  });
  if (code !== 0) throw new Error(`a warm-up request failed: ${JSON.stringify(body)}`);
  return JSON.parse(readFileSync(output, "utf8"));
}

function reopen(fd: 0 | 1, path: string, flags: string): void {
  closeSync(fd);
  if (openSync(path, flags) !== fd) throw new Error(`descriptor ${fd} could not be reopened`);
}

for (const type of TYPES.keys()) {
  await addKey(openStore(join(dir, "store"), secretFiles({})), type, generateJwk({ type }));
  const parameters = { provider: [Buffer.from(type).toString("base64")] };
  const optsdata = Buffer.from('{"symkey":""}').toString("base64");
  const wrapped = (await request({ op: "keywrap", keywrapparams: { ec: { Parameters: parameters }, optsdata } })) as {
    keywrapresults: { annotation: string };
  };
  const { annotation } = wrapped.keywrapresults;
  await request({ op: "keyunwrap", keyunwrapparams: { dc: { Parameters: null }, annotation } });
}
const module = { exports: {} as { run: (args: readonly string[]) => Promise<void> } };
(commands.runInThisContext() as (module: object, exports: object, load: NodeJS.Require) => void)(
  module,
  module.exports,
  load,
);
await module.exports.run(["keygen", "one", "--keystore", join(dir, "store")]);
await module.exports.run(["list", "--keystore", join(dir, "store")]);
rmSync(dir, { recursive: true });
setFlagsFromString("--sparkplug"); // the cache is taken only by a V8 with the same flags
writeFileSync(`${bundle}.cache`, script.createCachedData());
writeFileSync(`${cli}.cache`, commands.createCachedData());
exit(0);
