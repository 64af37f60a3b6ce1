// A registry's credentials, from where skopeo, podman and docker keep them: auth files and credential helpers, in the
// order and with the rules of skopeo (containers-auth.json(5)). What only docker reads comes last.

import { join } from "node:path";
import { asKeystoreError, imageError } from "../../errors.ts";
import { readAuthFile, type AuthEntry, type AuthFile } from "./auth-file.ts";
import { askHelper, helperProgram, type Credentials } from "./credential-helper.ts";
import { homeFolder } from "./home.ts";
import { DOCKER_HUB } from "./registry-reference.ts";

/** The result of a search. */
export interface Found {
  readonly credentials: Credentials | undefined;
  /** The file or helper that they are from. */
  readonly source: string;
  /** Where they were looked for. */
  readonly searched: readonly string[];
  /** What went wrong at places that skopeo does not ask. */
  readonly notes: readonly string[];
}

/** In the list `credential-helpers` of registries.conf: the auth files. */
export const AUTH_FILES = "containers-auth.json";

interface Named {
  readonly credentials: Credentials;
  readonly source: string;
}

/**
 * The credentials for a host and path.
 *
 * @param helpers the list `credential-helpers` of registries.conf
 * @throws KeystoreError `image` or `store` if a file or a helper is in the way, as it is for skopeo
 */
export function credentialsFor(host: string, path: string, helpers: readonly string[] = [AUTH_FILES]): Found {
  const places = authFiles();
  const searched = helpers.flatMap((helper) =>
    helper === AUTH_FILES ? places.map(({ path: file }) => file) : [helperProgram(helper)],
  );
  const failures: unknown[] = [];
  for (const helper of helpers) {
    try {
      const found = helper === AUTH_FILES ? fromFiles(places, host, path) : fromHelper(helper, host, "registries.conf");
      if (found !== undefined) return { ...found, searched, notes: [] };
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length > 0) throw failures[0];
  const notes: string[] = [];
  return { credentials: undefined, source: "", ...fromDockersStores(places, host, notes), searched, notes };
}

interface Place {
  readonly path: string;
  readonly legacy: boolean;
}

function authFiles(): Place[] {
  const { REGISTRY_AUTH_FILE = "", XDG_RUNTIME_DIR = "", XDG_CONFIG_HOME = "", DOCKER_CONFIG = "" } = process.env;
  if (REGISTRY_AUTH_FILE !== "") return [{ path: REGISTRY_AUTH_FILE, legacy: false }];
  const home = homeFolder();
  const runtime =
    XDG_RUNTIME_DIR === "" ? `/run/containers/${process.getuid?.() ?? 0}` : `${XDG_RUNTIME_DIR}/containers`;
  const files = [
    join(runtime, "auth.json"),
    join(XDG_CONFIG_HOME === "" ? join(home, ".config") : XDG_CONFIG_HOME, "containers/auth.json"),
    join(DOCKER_CONFIG === "" ? join(home, ".docker") : DOCKER_CONFIG, "config.json"),
  ];
  return [...files.map((path) => ({ path, legacy: false })), { path: join(home, ".dockercfg"), legacy: true }];
}

function fromFiles(places: readonly Place[], host: string, path: string): Named | undefined {
  for (const place of places) {
    const file = readAuthFile(place.path, place.legacy);
    const found = file && fromFile(file, host, path);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** A helper of the host comes first, then the most specific entry: host/path/of/image, host/path, host. */
function fromFile(file: AuthFile, host: string, path: string): Named | undefined {
  const helper = file.helpers.get(host);
  if (helper !== undefined) return fromHelper(helper, host, file.path);
  const parts = [host, ...path.split("/")];
  const keys = file.legacy ? [host] : [...parts.keys()].map((end) => parts.slice(0, parts.length - end).join("/"));
  const key =
    keys.find((name) => file.auths.has(name)) ??
    [...file.auths.keys()].find((name) => hostOfKey(name, file.legacy) === dockerHost(host));
  const entry = key === undefined ? undefined : file.auths.get(key);
  return entry && decode(entry, `${key} in ${file.path}`, file.path);
}

/** The host of a key that is a URL, as older logins wrote it. */
function hostOfKey(key: string, legacy: boolean): string {
  const stripped = key.replace(/^http:\/\//, "").replace(/^https:\/\//, "");
  return dockerHost(legacy || stripped !== key ? stripped.replace(/\/.*$/s, "") : stripped);
}

/** One name for the hosts that are Docker Hub's. */
function dockerHost(host: string): string {
  return host === "registry-1.docker.io" || host === DOCKER_HUB ? "index.docker.io" : host;
}

const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

/** USER:PASSWORD of an entry. Without a colon it counts for nothing, with its identity token. */
function decode({ auth, identityToken }: AuthEntry, what: string, source: string): Named | undefined {
  const text = auth.replaceAll(/[\r\n]/g, "");
  if (!BASE64.test(text)) throw imageError(`the auth of ${what} is not base64`, "log in again, or fix the file");
  const [, username, padded] = /^([^:]*):(.*)$/s.exec(Buffer.from(text, "base64").toString("latin1")) ?? [];
  if (username === undefined || padded === undefined) return undefined;
  const password = padded.replace(/^\0+/, "").replace(/\0+$/, "");
  return named({ username, password, identityToken }, source);
}

function fromHelper(helper: string, registry: string, namedIn: string): Named | undefined {
  const credentials = askHelper(helper, registry, namedIn);
  return credentials && named(credentials, helperProgram(helper));
}

function named(credentials: Credentials, source: string): Named | undefined {
  return Object.values(credentials).every((text) => text === "") ? undefined : { credentials, source };
}

/** docker's own: a store for every registry, and a helper under Docker Hub's old name. Nobody else asks them. */
function fromDockersStores(places: readonly Place[], host: string, notes: string[]): Named | undefined {
  const name = host === DOCKER_HUB ? "https://index.docker.io/v1/" : host;
  for (const place of places) {
    try {
      const file = readAuthFile(place.path, place.legacy);
      const helper = file?.helpers.get(name) ?? file?.store ?? "";
      const found = helper === "" ? undefined : fromHelper(helper, name, place.path);
      if (found !== undefined) return found;
    } catch (error) {
      notes.push(asKeystoreError(error).message);
    }
  }
  return undefined;
}
