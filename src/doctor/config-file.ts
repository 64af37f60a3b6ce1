// The file that $OCICRYPT_KEYPROVIDER_CONFIG names (ocicrypt's docs/keyprovider.md), as the clients read it.

import { existsSync, realpathSync } from "node:fs";
import { basename, isAbsolute } from "node:path";
import { readSmallFile } from "../fs/files.ts";
import { isObject, member, type JsonObject } from "../json.ts";
import { storeLocation } from "../keystore/location.ts";
import { parseExecOptions, type ExecOptions } from "../exec/exec.ts";
import { check, findProgram, isProgram, type Check } from "./check.ts";
import type { GrpcProvider } from "./grpc.ts";

/** A provider that is started: an entry of `key-providers` with a `cmd`. */
export interface Provider {
  readonly name: string;
  readonly path: string;
  readonly args: readonly string[];
  /** What its args say where the program is this very one; undefined if it is another, or they say something else. */
  readonly options: ExecOptions | undefined;
  /** Whether it is this very program. */
  readonly own: boolean;
}

const SETTING = "OCICRYPT_KEYPROVIDER_CONFIG";
const NONE = "no file to look at";

/** Checks of the file, where one is named, against the store in `dir`. */
export async function configChecks(file: string | undefined, dir: string): Promise<Check[]> {
  const value = file === undefined ? undefined : parsed(file);
  const entries = isObject(value) ? member(value, "key-providers") : undefined;
  const providers = file === undefined ? [] : readProviders(file);
  const servers = file === undefined ? [] : readServers(file);
  const own = providers.filter((provider) => provider.own);
  return [
    ...(await check("config.variable", (warn) => {
      const named = process.env[SETTING] ?? "";
      if (named !== "" && !isAbsolute(named)) warn(`${SETTING} is ${named}: that depends on a client's working directory`, "name the file by its absolute path");
      if (file === undefined) warn(`${SETTING} is not set: clients know no provider`, `run ocicrypt-keystore config > FILE and export ${SETTING}=FILE`);
      return named === "" ? `${SETTING} is not set; containerd takes ${file}` : `${SETTING} is ${named}`;
    })),
    ...(await check("config.file", (_, fail) => {
      if (file === undefined) return NONE;
      if (readSmallFile(file) === undefined) fail(`there is no file ${file}: clients go on without a word, and know no provider`, `write it with ocicrypt-keystore config > ${file}`);
      return file;
    })),
    ...(await check("config.json", (_, fail) => {
      if (file === undefined || readSmallFile(file) === undefined) return NONE;
      if (!isObject(value)) fail(`${file} is not a JSON object`, "write it anew with ocicrypt-keystore config");
      return `${file} is JSON`;
    })),
    ...(await check("config.provider", (warn, fail) => {
      if (!isObject(value)) return NONE;
      if (!isObject(entries)) fail(`${file} has no key-providers`, "write it anew with ocicrypt-keystore config");
      else {
        for (const [name, entry] of Object.entries(entries)) {
          const obstacle = obstacleOf(entry);
          if (obstacle !== undefined) fail(`provider ${name} of ${file} ${obstacle}`, "write it as ocicrypt-keystore config prints it");
        }
        if (own.length === 0 && servers.length === 0) warn(`no provider of ${file} is this program, ${process.execPath}`, "add what ocicrypt-keystore config prints");
      }
      return [...own.map(({ name }) => `provider ${name} is this program`), ...servers.map(({ name, address }) => `provider ${name} is asked at ${address}`)].join(", ");
    })),
    ...(await check("config.path", (warn, fail) => {
      for (const { name, path } of providers) {
        const hint = `set the "path" of provider ${name} to the program's absolute path`;
        if (!isAbsolute(path)) warn(`the program of provider ${name} is ${path}, which a client looks for on its own PATH`, hint);
        const found = path.includes("/") ? path : (findProgram(path) ?? path);
        if (!existsSync(found)) fail(`the program of provider ${name} is not there: ${path}`, hint);
        else if (!isProgram(found)) fail(`the program of provider ${name} cannot be executed: ${path}`, `run chmod +x ${path}`);
      }
      return providers.length === 0 ? NONE : "every provider's program is there";
    })),
    ...(await check("config.args", (warn, fail) => {
      for (const { name, path, args, options } of own) {
        const hint = "write it as ocicrypt-keystore config prints it";
        if (options === undefined) {
          fail(`the args of provider ${name} are none that a client may start this program with (${args.length} words)`, hint);
          continue;
        }
        const store = storeLocation(options.keystore);
        if (options.keystore !== undefined && !isAbsolute(options.keystore)) warn(`provider ${name} has a key store that depends on a client's working directory: ${options.keystore}`, "name it by its absolute path");
        else if (realPath(store) !== realPath(dir)) warn(`provider ${name} uses the key store ${store}, not ${dir}, which is checked here`, `check that one with --keystore ${store}, or set --keystore in the args of ${file}`);
        if (options.provider !== undefined && options.provider !== name) fail(`provider ${name} is told to be ${options.provider}: it refuses to encrypt`, `set "--provider", "${name}" in its args`);
        const told = options.provider !== undefined || [name, `ocicrypt-${name}`].includes(basename(path));
        if (own.length > 1 && !told) warn(`${own.length} providers are this program, and ${name} is told apart by nothing where an image is encrypted for both`, `add "--provider", "${name}" to its args`);
      }
      return own.length === 0 ? NONE : "the args are right, and name this key store";
    })),
    ...(servers.length === 0 ? [] : await (await import("./grpc.ts")).grpcChecks(servers)),
  ];
}

/** The entries in a file that clients can use; none where it cannot be read. */
function usableEntries(file: string): [string, JsonObject][] {
  const value = parsed(file);
  const entries = isObject(value) ? member(value, "key-providers") : undefined;
  return Object.entries(isObject(entries) ? entries : {}).flatMap(([name, entry]) => (isObject(entry) && obstacleOf(entry) === undefined ? [[name, entry]] : []));
}

/** The providers in a file that are servers: clients take `cmd` where an entry has both. */
function readServers(file: string): GrpcProvider[] {
  return usableEntries(file).flatMap(([name, entry]) => {
    const [address, tls] = [member(entry, "grpc"), member(entry, "grpc-tls")];
    return member(entry, "cmd") === undefined && typeof address === "string" ? [{ name, address, tls: isObject(tls) ? tls : undefined }] : [];
  });
}

/** The providers in a file that are started; none where it cannot be read. */
export function readProviders(file: string): Provider[] {
  return usableEntries(file).flatMap(([name, entry]) => {
    const cmd = member(entry, "cmd");
    if (!isObject(cmd)) return [];
    const path = String(member(cmd, "path"));
    const args = ((list) => (Array.isArray(list) ? list.map(String) : []))(member(cmd, "args"));
    const own = realPath(path.includes("/") ? path : (findProgram(path) ?? path)) === realPath(process.execPath);
    return [{ name, path, args, own, options: args.length === 0 ? {} : parseExecOptions(args) }];
  });
}

/** Why clients cannot use an entry. */
function obstacleOf(entry: unknown): string | undefined {
  if (!isObject(entry)) return "is not an object";
  const cmd = member(entry, "cmd");
  if (cmd === undefined && typeof member(entry, "grpc") === "string") return undefined;
  if (cmd === undefined && member(entry, "path") !== undefined) return 'has its "path" directly below its name: clients say "Unsupported keyprovider invocation" unless "cmd" is around it';
  if (cmd === undefined) return "has neither cmd nor grpc";
  if (!isObject(cmd) || typeof member(cmd, "path") !== "string") return "has a cmd without a path";
  const args = member(cmd, "args") ?? [];
  if (!Array.isArray(args) || !args.every((arg) => typeof arg === "string")) return "has args that are not a list of strings";
  return undefined;
}

function parsed(file: string): unknown {
  try {
    return JSON.parse(readSmallFile(file)?.bytes.toString() ?? "");
  } catch {
    return undefined;
  }
}

function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}
