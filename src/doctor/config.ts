// Checks of the file with clients' key providers.

import { existsSync } from "node:fs";
import { basename, isAbsolute } from "node:path";
import { storeLocation } from "../keystore/location.ts";
import { skip, type Check, type Outcome, type Report } from "./check.ts";
import { obstacleOf, programPath, realPath, SETTING, type ConfigFile } from "./config-file.ts";
import type { Context } from "./context.ts";
import { isProgram } from "./programs.ts";

const PRINTED = "write it as ocicrypt-keystore config prints it";

type ConfigCheck = (config: ConfigFile, report: Report, context: Context) => Outcome | Promise<Outcome>;

/** A check of the file, which is skipped if no file is named. */
export function withConfig(run: ConfigCheck): Check["run"] {
  return async (context, report) => {
    return context.config === undefined ? skip("no file is named") : await run(context.config, report, context);
  };
}

/** The environment variable that names the file. */
export function configVariable({ config }: Context, { warn }: Report): Outcome {
  const named = process.env[SETTING] ?? "";
  if (named !== "" && !isAbsolute(named)) {
    const message = `${SETTING} is ${named}: that depends on a client's working directory`;
    warn(message, "name the file by its absolute path");
  }
  if (config === undefined) {
    const hint = `run ocicrypt-keystore config > FILE and export ${SETTING}=FILE`;
    warn(`${SETTING} is not set: clients know no provider`, hint);
  }
  return named === "" ? `${SETTING} is not set; containerd takes ${config?.path}` : `${SETTING} is ${named}`;
}

/** The file is there and can be read. */
export function configFile({ path, exists, error }: ConfigFile, { fail }: Report): Outcome {
  if (error !== undefined) throw error;
  if (!exists) {
    const message = `there is no file ${path}: clients go on without a message, and know no provider`;
    fail(message, `write it with ocicrypt-keystore config > ${path}`);
  }
  return path;
}

/** It is JSON. */
export function configJson({ path, exists, error, value }: ConfigFile, { fail }: Report): Outcome {
  if (!exists || error !== undefined) return skip(`${path} is missing or cannot be read`);
  if (value === undefined) fail(`${path} is not a JSON object`, "write it again with ocicrypt-keystore config");
  return `${path} is JSON`;
}

/** Clients can use each entry, and one of them is this program or a server. */
export function configProvider({ path, value, entries, providers, servers }: ConfigFile, report: Report): Outcome {
  const { warn, fail } = report;
  if (value === undefined) return skip(`${path} cannot be read as a JSON object`);
  if (entries === undefined) fail(`${path} has no key-providers`, "write it again with ocicrypt-keystore config");
  for (const [name, entry] of Object.entries(entries ?? {})) {
    const obstacle = obstacleOf(entry);
    if (obstacle !== undefined) fail(`provider ${name} of ${path} ${obstacle}`, PRINTED);
  }
  const own = providers.filter((provider) => provider.own);
  if (entries !== undefined && own.length === 0 && servers.length === 0) {
    warn(`no provider of ${path} is this program, ${process.execPath}`, "add what ocicrypt-keystore config prints");
  }
  return [
    ...own.map(({ name }) => `provider ${name} is this program`),
    ...servers.map(({ name, address }) => `provider ${name} is the server at ${address}`),
  ].join(", ");
}

/** The program of each provider is there and can be executed. */
export function configPath({ path: file, providers }: ConfigFile, { warn, fail }: Report): Outcome {
  if (providers.length === 0) return skip(`${file} has no provider that is started`);
  for (const { name, path } of providers) {
    const hint = `set the "path" of provider ${name} to the program's absolute path`;
    if (!isAbsolute(path)) {
      warn(`the program of provider ${name} is ${path}, which a client looks for on its own PATH`, hint);
    }
    const program = programPath(path);
    if (!existsSync(program)) fail(`the program of provider ${name} is not there: ${path}`, hint);
    else if (!isProgram(program)) {
      fail(`the program of provider ${name} cannot be executed: ${path}`, `run chmod +x ${path}`);
    }
  }
  return "every provider's program is there";
}

/** Each entry of this program has args that it can be started with, for this key store. */
export function configArgs({ path: file, providers }: ConfigFile, { warn, fail }: Report, { store }: Context): Outcome {
  const { dir } = store;
  const own = providers.filter((provider) => provider.own);
  if (own.length === 0) return skip(`no provider of ${file} is this program`);
  for (const { name, path, args, options } of own) {
    if (options === undefined) {
      // The args are not quoted: one of them may be a secret.
      const words = `${args.length} words`;
      fail(`this program does not accept the args of provider ${name} (${words})`, PRINTED);
      continue;
    }
    const other = storeLocation(options.keystore);
    if (options.keystore !== undefined && !isAbsolute(options.keystore)) {
      const message = `provider ${name} has a key store that depends on a client's working directory`;
      warn(`${message}: ${options.keystore}`, "name it by its absolute path");
    } else if (realPath(other) !== realPath(dir)) {
      const hint = `check that one with --keystore ${other}, or set --keystore in the args of ${file}`;
      warn(`provider ${name} uses the key store ${other}, not ${dir}, which is checked here`, hint);
    }
    if (options.provider !== undefined && options.provider !== name) {
      const hint = `set "--provider", "${name}" in its args`;
      fail(`provider ${name} is told to be ${options.provider}: it refuses to encrypt`, hint);
    }
    const distinct = options.provider !== undefined || [name, `ocicrypt-${name}`].includes(basename(path));
    if (own.length > 1 && !distinct) {
      const message = `${own.length} providers are this program, and neither args nor path say that it is ${name}`;
      warn(`${message}: it refuses to encrypt an image for both`, `add "--provider", "${name}" to its args`);
    }
  }
  return "the args are right, and name this key store";
}

/** Each server answers as clients call it. */
export async function configGrpc({ path, servers }: ConfigFile, report: Report): Promise<Outcome> {
  if (servers.length === 0) return skip(`no provider of ${path} is a server`);
  const { callServers } = await import("./grpc.ts"); // the library takes long to load
  return await callServers(servers, report);
}
