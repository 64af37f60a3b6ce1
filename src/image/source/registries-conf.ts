// registries.conf (containers-registries.conf(5)): mirrors, other locations, insecure and blocked registries.

import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { parse as parseToml, type TomlTable, type TomlValue } from "smol-toml";
import { errorCode, imageError, printable, type KeystoreError } from "../../errors.ts";
import { readSmallFile } from "../../fs/read.ts";
import { AUTH_FILES } from "./credentials.ts";
import { homeFolder } from "./home.ts";
import { isHost, readReference, referenceText, repositoryOf, type Reference } from "./registry-reference.ts";

/** Where images of a registry are. */
interface Endpoint {
  readonly location: string;
  readonly insecure: boolean;
  /** Of a mirror: the references that it may serve; empty for all. */
  readonly pullFromMirror: string;
}

/** A [[registry]]. */
export interface Registry extends Endpoint {
  readonly prefix: string;
  readonly mirrors: readonly Endpoint[];
  readonly mirrorByDigestOnly: boolean;
  readonly blocked: boolean;
}

/** The configuration of a machine and a user. */
export interface RegistriesConf {
  readonly registries: readonly Registry[];
  readonly credentialHelpers: readonly string[];
  /** The files that it was read from. */
  readonly files: readonly string[];
}

/** A place to read an image from. */
export interface PullSource {
  readonly reference: Reference;
  readonly insecure: boolean;
}

const SYSTEM = "/etc/containers/registries.conf";
const MAX_FILE = 1024 * 1024;

/** Reads the configuration. @throws KeystoreError `image` if a file has what skopeo refuses */
export function readRegistriesConf(): RegistriesConf {
  const { CONTAINERS_REGISTRIES_CONF = "" } = process.env;
  const users = join(homeFolder(), ".config/containers/registries.conf");
  const [main, folders] =
    CONTAINERS_REGISTRIES_CONF !== ""
      ? [CONTAINERS_REGISTRIES_CONF, [`${SYSTEM}.d`, `${users}.d`]]
      : existsSync(users)
        ? [users, [`${users}.d`]]
        : [SYSTEM, [`${SYSTEM}.d`, `${users}.d`]];
  if (CONTAINERS_REGISTRIES_CONF !== "" && !existsSync(main)) {
    throw imageError(`there is no ${main}, which $CONTAINERS_REGISTRIES_CONF names`, "fix or unset it");
  }
  const files = [main, ...folders.flatMap(dropIns)].filter((file) => existsSync(file));
  const registries = new Map<string, Registry>();
  let credentialHelpers: readonly string[] = [];
  for (const file of files) {
    const read = readFile(file, file !== main);
    for (const registry of read.registries) registries.set(registry.prefix, registry);
    credentialHelpers = read.credentialHelpers ?? credentialHelpers;
  }
  if (credentialHelpers.length === 0) credentialHelpers = [AUTH_FILES];
  return { registries: [...registries.values()], credentialHelpers, files };
}

function dropIns(folder: string): string[] {
  try {
    const entries = readdirSync(folder, { withFileTypes: true });
    const files = entries.filter((entry) => !entry.isDirectory() && entry.name.endsWith(".conf"));
    return files.map(({ name }) => join(folder, name)).toSorted();
  } catch (error) {
    const code = errorCode(error) ?? "unknown error";
    if (code === "ENOENT") return [];
    throw imageError(`cannot read ${folder}: ${code}`, "skopeo refuses it too: see ls -l");
  }
}

interface Read {
  readonly registries: readonly Registry[];
  readonly credentialHelpers: readonly string[] | undefined;
}

function readFile(file: string, dropIn: boolean): Read {
  const fail = (what: string): KeystoreError => {
    return imageError(`${file} ${printable(what, 256)}`, "fix it: skopeo and podman refuse it too");
  };
  const bytes = readSmallFile(file, MAX_FILE)?.bytes ?? Buffer.alloc(0);
  let root: TomlTable;
  try {
    root = parseToml(bytes.toString("utf8"));
  } catch (error) {
    throw fail(`is not TOML: ${error instanceof Error ? (error.message.split("\n")[0] ?? "") : ""}`);
  }
  const table = reader(root, fail);
  const old = reader(table.table("registries"), fail);
  const version1 = ["search", "insecure", "block"].map((name) => reader(old.table(name), fail).texts("registries"));
  const version2 = table.tables("registry").map((one) => readRegistry(reader(one, fail), fail));
  const [search, insecure, block] = version1;
  const helpers = table.texts("credential-helpers");
  const unqualified = table.texts("unqualified-search-registries");
  if (search !== undefined || insecure !== undefined || block !== undefined) {
    if (dropIn) throw fail("has the first version of registries.conf, which only the main file may have");
    if (table.has("registry") || helpers !== undefined || unqualified !== undefined) {
      throw fail("has both versions of registries.conf");
    }
    const names = new Set([...(block ?? []), ...(insecure ?? [])].map((name) => location(name, fail)));
    const of = (list: readonly string[] | undefined, name: string): boolean =>
      (list ?? []).some((one) => location(one, fail) === name);
    const plain = { pullFromMirror: "", mirrors: [], mirrorByDigestOnly: false };
    const registries = [...names].map((name): Registry => {
      return { ...plain, prefix: name, location: name, insecure: of(insecure, name), blocked: of(block, name) };
    });
    return { registries, credentialHelpers: undefined };
  }
  const bad = unqualified?.find((host) => !isHost(location(host, fail)));
  if (bad !== undefined) throw fail(`has ${bad} in unqualified-search-registries, which is no host`);
  for (const one of version2) {
    const same = version2.filter((other) => (other.location || other.prefix) === (one.location || one.prefix));
    if (same.some(({ insecure: other }) => other !== one.insecure))
      throw fail(`contradicts itself: ${one.location} is insecure, and is not`);
    if (same.some(({ blocked }) => blocked !== one.blocked))
      throw fail(`contradicts itself: ${one.location} is blocked, and is not`);
  }
  const first = version2.filter((one, at) => version2.findIndex(({ prefix }) => prefix === one.prefix) === at);
  return { registries: first, credentialHelpers: helpers };
}

type Fail = (what: string) => KeystoreError;

function readRegistry(table: Reader, fail: Fail): Registry {
  const endpoint = readEndpoint(table, fail);
  const prefix = location(table.text("prefix"), fail) || endpoint.location;
  const wildcard = prefix.startsWith("*.");
  if (prefix === "" || (endpoint.location === "" && !wildcard)) throw fail("has a [[registry]] without location");
  if (wildcard && /[/@:]/.test(prefix)) throw fail(`has the prefix ${prefix}: after *. only a domain may follow`);
  if (endpoint.pullFromMirror !== "") throw fail(`has pull-from-mirror outside of a mirror, for ${prefix}`);
  const mirrors = table.tables("mirror").map((one) => readEndpoint(reader(one, fail), fail));
  const mirrorByDigestOnly = table.flag("mirror-by-digest-only");
  for (const { location: place, pullFromMirror } of mirrors) {
    if (place === "") throw fail(`has a mirror of ${prefix} without location`);
    if (!["", "all", "digest-only", "tag-only"].includes(pullFromMirror)) {
      throw fail(`has pull-from-mirror = ${pullFromMirror}, which is not all, digest-only or tag-only`);
    }
    if (mirrorByDigestOnly && pullFromMirror !== "") {
      throw fail(`has both mirror-by-digest-only and pull-from-mirror for ${prefix}`);
    }
  }
  return { ...endpoint, prefix, mirrors, mirrorByDigestOnly, blocked: table.flag("blocked") };
}

function readEndpoint(table: Reader, fail: Fail): Endpoint {
  return {
    location: location(table.text("location"), fail),
    insecure: table.flag("insecure"),
    pullFromMirror: table.text("pull-from-mirror"),
  };
}

function location(text: string, fail: Fail): string {
  if (/^https?:\/\//.test(text)) throw fail(`has ${text}: a registry has no http:// or https:// there`);
  return text.replace(/\/+$/, "");
}

/** Reads the members of a table. Names may be written in any case, as Go's TOML reader takes them. */
interface Reader {
  readonly has: (name: string) => boolean;
  readonly text: (name: string) => string;
  readonly texts: (name: string) => readonly string[] | undefined;
  readonly flag: (name: string) => boolean;
  readonly table: (name: string) => TomlTable;
  readonly tables: (name: string) => readonly TomlTable[];
}

function reader(table: TomlTable, fail: Fail): Reader {
  const get = (name: string): TomlValue | undefined =>
    Object.hasOwn(table, name)
      ? table[name]
      : Object.entries(table).find(([other]) => other.toLowerCase() === name)?.[1];
  const wrong = (name: string, type: string): KeystoreError => fail(`has ${name}, which is not ${type}`);
  return {
    has: (name) => get(name) !== undefined,
    text: (name) => {
      const value = get(name) ?? "";
      if (typeof value !== "string") throw wrong(name, "a string");
      return value;
    },
    texts: (name) => {
      const value = get(name);
      if (value === undefined) return undefined;
      if (!Array.isArray(value) || !value.every((one) => typeof one === "string"))
        throw wrong(name, "a list of strings");
      return value;
    },
    flag: (name) => {
      const value = get(name) ?? false;
      if (typeof value !== "boolean") throw wrong(name, "true or false");
      return value;
    },
    table: (name) => {
      const value = get(name) ?? {};
      if (!isTable(value)) throw wrong(name, "a table");
      return value;
    },
    tables: (name) => {
      const value = get(name) ?? [];
      if (!Array.isArray(value) || !value.every(isTable)) throw wrong(name, `a list: write [[${name}]]`);
      return value;
    },
  };
}

function isTable(value: TomlValue): value is TomlTable {
  return typeof value === "object" && !Array.isArray(value) && !(value instanceof Date);
}

/** The registry with the longest prefix of an image's repository. @throws KeystoreError `image` if it is blocked */
export function findRegistry({ registries, files }: RegistriesConf, reference: Reference): Registry | undefined {
  const name = repositoryOf(reference);
  let best: Registry | undefined;
  for (const one of registries) {
    if (matchLength(name, one.prefix) !== undefined && one.prefix.length > (best?.prefix.length ?? 0)) best = one;
  }
  if (best?.blocked !== true) return best;
  throw imageError(`${best.prefix} is blocked in ${files.join(", ")}`, "ask whoever blocked it");
}

/** How much of a name a prefix takes; undefined if it is no prefix. `*.example.com` takes every host below it. */
function matchLength(name: string, prefix: string): number | undefined {
  const wildcard = prefix.startsWith("*.");
  const start = wildcard ? name.indexOf(prefix.slice(1)) : name.startsWith(prefix) ? 0 : -1;
  if (start === -1 || (wildcard && name.slice(0, start).includes("/"))) return undefined;
  const end = start + prefix.length - (wildcard ? 1 : 0);
  return end === name.length || /[:/@]/.test(name.charAt(end)) ? end : undefined;
}

/** Where to read an image from: the mirrors that serve its kind of reference in their order, its own place at last. */
export function pullSources(conf: RegistriesConf, reference: Reference): PullSource[] {
  const name = referenceText(reference);
  const registry = findRegistry(conf, reference);
  if (registry === undefined) return [{ reference, insecure: false }];
  const kind = reference.digest === undefined ? "tag-only" : "digest-only";
  const mirrors = registry.mirrors.filter(({ pullFromMirror }) =>
    registry.mirrorByDigestOnly ? kind === "digest-only" : ["", "all", kind].includes(pullFromMirror),
  );
  return [...mirrors, registry].map(({ location: place, insecure }) => {
    return { reference: place === "" ? reference : rewrite(name, registry.prefix, place, conf), insecure };
  });
}

function rewrite(name: string, prefix: string, place: string, { files }: RegistriesConf): Reference {
  const text = place + name.slice(matchLength(name, prefix));
  const rewritten = readReference(text);
  if (typeof rewritten !== "string" && referenceText(rewritten) === text) return rewritten;
  throw imageError(`${files.join(", ")} has ${place} for ${prefix}: ${text} is no image reference`, "fix its location");
}
