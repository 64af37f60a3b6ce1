// Checks of the file with clients' key providers.

import { basename, isAbsolute } from "node:path";
import { count } from "../errors.ts";
import { storeLocation } from "../keystore/location.ts";
import { attempt, skip, type Check, type Outcome, type Report } from "./check.ts";
import { realPath, SETTING, type ConfigFile, type Server } from "./config-file.ts";
import { tlsKnowledge } from "./clients.ts";
import type { Context } from "./context.ts";
import { lookPath } from "./programs.ts";
import { wrapsForUs } from "./round-trip.ts";

const REWRITE = "write it again with ocicrypt-keystore config";
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
  return named === "" ? `${SETTING} is not set; this node's service takes ${config?.path}` : `${SETTING} is ${named}`;
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
export function configJson({ path, exists, error, refused }: ConfigFile, { fail }: Report): Outcome {
  if (!exists || error !== undefined) return skip(`${path} is missing or cannot be read`);
  if (refused?.startsWith("is ") === true) {
    fail(`${path} ${refused}: clients know no provider`, REWRITE);
  }
  return `${path} is JSON`;
}

/** Clients can use each entry, and one of them is this program, wraps for its keys, or is a server. */
export function configProvider(config: ConfigFile, report: Report, context: Context): Outcome {
  const { path, exists, error, refused, refusedTls, names, providers, servers, unusable } = config;
  const { warn, fail } = report;
  if (!exists || error !== undefined || refused?.startsWith("is ") === true) {
    return skip(`${path} cannot be read as a JSON object`);
  }
  if (refused !== undefined) {
    fail(`${path} ${refused}: clients refuse the whole file, and know no provider`, PRINTED);
    return "";
  }
  if (names.length === 0) fail(`${path} has no key-providers`, REWRITE);
  if (refusedTls !== undefined && (tlsKnowledge().aware.length > 0 || tlsKnowledge().unaware.length === 0)) {
    fail(`${path} ${refusedTls}: clients that know grpc-tls refuse the whole file`, PRINTED);
  }
  const usable = providers.length + servers.length;
  for (const [name, obstacle] of unusable) {
    (usable === 0 ? fail : warn)(`provider ${name} of ${path} ${obstacle}`, PRINTED);
  }
  const own = providers.filter((provider) => provider.own);
  if (usable > 0 && own.length === 0 && servers.length === 0 && !wrapsForUs(providers, context)) {
    warn(`no provider of ${path} is this program, ${process.execPath}`, "add what ocicrypt-keystore config prints");
  }
  return [
    ...own.map(({ name }) => `provider ${name} is this program`),
    ...servers.map(({ name, address }) => `provider ${name} is the server at ${address}`),
    ...(own.length + servers.length === 0 ? ["a provider wraps for keys of this key store"] : []),
  ].join(", ");
}

/** The program of each provider is there and can be executed. */
export function configPath({ path: file, providers, servers }: ConfigFile, { warn, fail }: Report): Outcome {
  if (providers.length === 0) return skip(`${file} has no provider that is started`);
  const others = servers.length > 0 || providers.some(({ path }) => lookPath(path).path !== undefined);
  for (const { name, path } of providers) {
    const hint = `set the "path" of provider ${name} to the program's absolute path`;
    if (!isAbsolute(path)) {
      const where = path.includes("/") ? "relative to its own working directory" : "on its own PATH";
      warn(`the program of provider ${name} is ${path}, which a client looks for ${where}`, hint);
    }
    const { obstacle } = lookPath(path);
    if (obstacle === undefined) continue;
    const note = others ? warn : fail; // clients that use another provider do not notice
    note(`the program of provider ${name} ${obstacle.message}: ${path}`, obstacle.hint ?? hint);
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
      const words = count(args.length, "word", "words");
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
    for (const secret of [options.passphraseFile, options.masterKeyFile]) {
      if (secret === undefined || isAbsolute(secret)) continue;
      const message = `provider ${name} has a secret file that depends on a client's working directory`;
      warn(`${message}: ${secret}`, "name it by its absolute path");
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

/** Each server answers as clients call it: with its `grpc-tls` if a client here knows that, or none is here. */
export async function configGrpc(
  { path, servers }: ConfigFile,
  { warn, fail }: Report,
  context: Context,
): Promise<Outcome> {
  if (servers.length === 0) return skip(`no provider of ${path} is a server`);
  const { tryServer } = await import("./grpc.ts"); // the library takes long to load
  const { aware, unaware } = tlsKnowledge();
  const called: Server[] = [];
  for (const server of servers) {
    const { name, tls } = server;
    if (tls?.insecure === true) {
      warn(`provider ${name} takes any server's certificate`, 'take "insecure-skip-verify" out of its grpc-tls');
    }
    if (tls !== undefined && aware.length === 0 && unaware.length > 0) continue; // client.NAME calls it without TLS
    called.push(server);
    await attempt(fail, async () => await tryServer(server, context.store.names()[0]));
  }
  if (called.length === 0) return skip("no client here knows grpc-tls: see client.NAME");
  return called.map(({ name, address }) => `${name} answers at ${address}`).join(", ");
}
