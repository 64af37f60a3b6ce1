// The file with clients' key providers (ocicrypt's docs/keyprovider.md), as the clients read it.

import { realpathSync } from "node:fs";
import { readSmallFile } from "../fs/read.ts";
import { parseExecOptions, type ExecOptions } from "../exec/exec.ts";
import { booleanOr, GoJsonError, mapOf, parseGoJson, readStruct, stringOr, strings, type GoValue } from "../go-json.ts";
import { quietly } from "./check.ts";
import { isThisProgram, lookPath } from "./programs.ts";

/** The environment variable that names the file. */
export const SETTING = "OCICRYPT_KEYPROVIDER_CONFIG";

/** A provider that clients start: an entry of `key-providers` with a `cmd`. */
export interface Provider {
  readonly name: string;
  readonly path: string;
  readonly args: readonly string[];
  /** What its args mean to this program; undefined if this program cannot be started with them to answer requests. */
  readonly options: ExecOptions | undefined;
  /** Whether its program is this program, or a copy of it. */
  readonly own: boolean;
}

/** The `grpc-tls` of an entry. */
export interface Tls {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
  readonly serverName: string;
  readonly insecure: boolean;
}

/** A provider that clients call: an entry of `key-providers` with a `grpc` and no `cmd`. */
export interface Server {
  readonly name: string;
  readonly address: string;
  readonly tls: Tls | undefined;
}

/** The content of the file. It is empty if the file is missing, cannot be read or is damaged. */
export interface ConfigFile {
  readonly path: string;
  readonly exists: boolean;
  /** What was thrown if it exists and cannot be read. */
  readonly error?: unknown;
  /** Why clients refuse all of it: words that follow the file's path. */
  readonly refused?: string;
  /** Why clients that know `grpc-tls` refuse all of it. */
  readonly refusedTls?: string;
  /** The names of all entries. */
  readonly names: readonly string[];
  /** The entries that clients can start. */
  readonly providers: readonly Provider[];
  /** The entries that clients can call. */
  readonly servers: readonly Server[];
  /** The entries that clients can neither start nor call, each with the reason. */
  readonly unusable: ReadonlyMap<string, string>;
}

/** Largest file that is read; clients have no limit. */
const MAX_CONFIG = 4 * 1024 * 1024;

/** Reads a file with providers. It never throws: the result says what is wrong. */
export function readConfigFile(path: string): ConfigFile {
  const nothing = { path, names: [], providers: [], servers: [], unusable: new Map() };
  let bytes: Buffer | undefined;
  try {
    bytes = readSmallFile(path, MAX_CONFIG)?.bytes;
  } catch (error) {
    return { ...nothing, exists: true, error };
  }
  if (bytes === undefined) return { ...nothing, exists: false };
  try {
    return { ...nothing, exists: true, ...sorted(readEntries(parseGoJson(bytes))) };
  } catch (error) {
    if (error instanceof GoJsonError) return { ...nothing, exists: true, refused: error.message };
    throw error;
  }
}

/** An entry as clients decode it. */
interface Entry {
  cmd: { path: string; args: readonly string[] } | undefined;
  grpc: string;
  tls: Tls | undefined;
  /** What keeps clients that know `grpc-tls` from decoding it. */
  refusedTls: string | undefined;
  /** Whether it has a `path` where `cmd` belongs. */
  pathWithoutCmd: boolean;
}

function readEntries(file: GoValue): ReadonlyMap<string, Entry> {
  let entries: ReadonlyMap<string, Entry> = new Map();
  readStruct(file, "is JSON", {
    "key-providers": (value) => {
      entries = mapOf(entries, value, "has key-providers", (entry, name) => readEntry(name, entry));
    },
  });
  return entries;
}

function readEntry(name: string, value: GoValue): Entry {
  const has = `has a provider ${name} with`;
  const entry: Entry = { cmd: undefined, grpc: "", tls: undefined, refusedTls: undefined, pathWithoutCmd: false };
  readStruct(value, `has a provider ${name}`, {
    cmd: (cmd) => {
      if (cmd.kind === "null") entry.cmd = undefined;
      else entry.cmd ??= { path: "", args: [] };
      const read = entry.cmd ?? { path: "", args: [] };
      readStruct(cmd, `${has} a cmd`, {
        path: (path) => (read.path = stringOr(read.path, path, `${has} a path`)),
        args: (args) => (read.args = strings(read.args, args, `${has} args`)),
      });
    },
    grpc: (grpc) => (entry.grpc = stringOr(entry.grpc, grpc, `${has} a grpc`)),
    "grpc-tls": (tls) => {
      try {
        entry.tls = readTls(entry.tls, tls, has);
      } catch (error) {
        if (!(error instanceof GoJsonError)) throw error;
        entry.refusedTls ??= error.message;
      }
    },
    path: () => (entry.pathWithoutCmd = true),
  });
  return entry;
}

function readTls(before: Tls | undefined, value: GoValue, has: string): Tls | undefined {
  if (value.kind === "null") return undefined;
  let tls = before ?? { ca: "", cert: "", key: "", serverName: "", insecure: false };
  const text = (field: keyof Tls, member: string) => (found: GoValue) => {
    tls = { ...tls, [field]: stringOr(String(tls[field]), found, `${has} a ${member}`) };
  };
  readStruct(value, `${has} a grpc-tls`, {
    "root-ca-file": text("ca", "root-ca-file"),
    "cert-file": text("cert", "cert-file"),
    "key-file": text("key", "key-file"),
    "server-name": text("serverName", "server-name"),
    "insecure-skip-verify": (found) => {
      tls = { ...tls, insecure: booleanOr(tls.insecure, found, `${has} an insecure-skip-verify`) };
    },
  });
  return tls;
}

/** The entries by how clients use them: they start an entry that has both `cmd` and `grpc`. */
function sorted(
  entries: ReadonlyMap<string, Entry>,
): Pick<ConfigFile, "names" | "providers" | "servers" | "unusable" | "refusedTls"> {
  const [providers, servers, unusable]: [Provider[], Server[], Map<string, string>] = [[], [], new Map()];
  let refusedTls: string | undefined;
  for (const [name, { cmd, grpc, tls, ...entry }] of entries) {
    refusedTls ??= entry.refusedTls;
    if (cmd !== undefined && [cmd.path, ...cmd.args].some((word) => word.includes("\0")))
      unusable.set(name, "has a NUL character in its cmd: clients cannot start it");
    else if (cmd !== undefined && cmd.path !== "") providers.push(providerOf(name, cmd));
    else if (cmd !== undefined) unusable.set(name, "has a cmd without a path");
    else if (grpc !== "") servers.push({ name, address: grpc, tls });
    else if (entry.pathWithoutCmd) unusable.set(name, `has its "path" directly below its name, ${UNSUPPORTED}`);
    else unusable.set(name, "has neither cmd nor grpc");
  }
  const names = [...entries.keys()];
  return { names, providers, servers, unusable, ...(refusedTls !== undefined && { refusedTls }) };
}

const UNSUPPORTED = 'and clients say "Unsupported keyprovider invocation" unless "cmd" is around it';

function providerOf(name: string, { path, args }: { path: string; args: readonly string[] }): Provider {
  const own = isThisProgram(lookPath(path).path ?? path);
  return { name, path, args, own, options: args.length === 0 ? {} : parseExecOptions(args) };
}

/** A path without symlinks, or as it is if it leads nowhere. */
export function realPath(path: string): string {
  return quietly(() => realpathSync(path)) ?? path;
}
