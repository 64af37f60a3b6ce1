// The file with clients' key providers (ocicrypt's docs/keyprovider.md), as the clients read it.

import { existsSync, realpathSync } from "node:fs";
import { isObject, member, type JsonObject } from "../json.ts";
import { readSmallFile } from "../fs/read.ts";
import { parseExecOptions, type ExecOptions } from "../exec/exec.ts";
import { CONTAINERD_CONF } from "./containerd-config.ts";
import { findProgram } from "./programs.ts";

/** The environment variable that names the file. */
export const SETTING = "OCICRYPT_KEYPROVIDER_CONFIG";

/** A provider that clients start: an entry of `key-providers` with a `cmd`. */
export interface Provider {
  readonly name: string;
  readonly path: string;
  readonly args: readonly string[];
  /** What its args mean to this program; undefined if this program cannot be started with them to answer requests. */
  readonly options: ExecOptions | undefined;
  /** Whether its program is this program. */
  readonly own: boolean;
}

/** A provider that clients call: an entry of `key-providers` with a `grpc`. */
export interface Server {
  readonly name: string;
  readonly address: string;
  /** The entry's `grpc-tls`. */
  readonly tls: JsonObject | undefined;
}

/** The content of the file. It is empty if the file is missing, cannot be read or is damaged. */
export interface ConfigFile {
  readonly path: string;
  readonly exists: boolean;
  /** What was thrown if it exists and cannot be read. */
  readonly error?: unknown;
  /** Its JSON; undefined if it is not an object. */
  readonly value: JsonObject | undefined;
  /** The object `key-providers`. */
  readonly entries: JsonObject | undefined;
  /** The entries that clients can start. */
  readonly providers: readonly Provider[];
  /** The entries that clients can call. They start it if an entry has both `cmd` and `grpc`. */
  readonly servers: readonly Server[];
}

/** The file that clients read: the one that the variable names, else containerd's; undefined if there is neither. */
export function findConfigFile(): string | undefined {
  return process.env[SETTING] || (existsSync(CONTAINERD_CONF) ? CONTAINERD_CONF : undefined);
}

/** Reads a file with providers. It never throws: the result says what is wrong. */
export function readConfigFile(path: string): ConfigFile {
  const nothing = { path, value: undefined, entries: undefined, providers: [], servers: [] };
  let text: string | undefined;
  try {
    text = readSmallFile(path)?.bytes.toString();
  } catch (error) {
    return { ...nothing, exists: true, error };
  }
  if (text === undefined) return { ...nothing, exists: false };
  const value = parse(text);
  const found = value && member(value, "key-providers");
  const entries = isObject(found) ? found : undefined;
  const usable = Object.entries(entries ?? {}).flatMap(([name, entry]) => {
    return isObject(entry) && obstacleOf(entry) === undefined ? [{ name, entry }] : [];
  });
  const providers = usable.flatMap(({ name, entry }) => providerOf(name, entry) ?? []);
  const servers = usable.flatMap(({ name, entry }) => serverOf(name, entry) ?? []);
  return { path, exists: true, value, entries, providers, servers };
}

function parse(text: string): JsonObject | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function providerOf(name: string, entry: JsonObject): Provider | undefined {
  const cmd = member(entry, "cmd");
  if (!isObject(cmd)) return undefined;
  const path = String(member(cmd, "path"));
  const list = member(cmd, "args");
  const args = Array.isArray(list) ? list.map(String) : [];
  const own = realPath(programPath(path)) === realPath(process.execPath);
  return { name, path, args, own, options: args.length === 0 ? {} : parseExecOptions(args) };
}

function serverOf(name: string, entry: JsonObject): Server | undefined {
  const [address, tls] = [member(entry, "grpc"), member(entry, "grpc-tls")];
  if (member(entry, "cmd") !== undefined || typeof address !== "string") return undefined;
  return { name, address, tls: isObject(tls) ? tls : undefined };
}

/** Why clients cannot use an entry; undefined if they can. */
export function obstacleOf(entry: unknown): string | undefined {
  if (!isObject(entry)) return "is not an object";
  const cmd = member(entry, "cmd");
  if (cmd === undefined && typeof member(entry, "grpc") === "string") return undefined;
  if (cmd === undefined && member(entry, "path") !== undefined) {
    return (
      'has its "path" directly below its name: clients say "Unsupported keyprovider invocation" ' +
      'unless "cmd" is around it'
    );
  }
  if (cmd === undefined) return "has neither cmd nor grpc";
  if (!isObject(cmd) || typeof member(cmd, "path") !== "string") return "has a cmd without a path";
  const args = member(cmd, "args") ?? [];
  if (Array.isArray(args) && args.every((arg) => typeof arg === "string")) return undefined;
  return "has args that are not a list of strings";
}

/** The program that a `path` leads to: a bare name is looked for on PATH. */
export function programPath(path: string): string {
  return path.includes("/") ? path : (findProgram(path) ?? path);
}

/** A path without symlinks, or as it is if it leads nowhere. */
export function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}
