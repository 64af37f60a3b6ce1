// A registry's credentials, from where skopeo, podman and docker keep them: auth.json, config.json, credential helpers.

import { spawnSync } from "node:child_process";
import { homedir } from "node:os";
import { join } from "node:path";
import { readSmallFile } from "../../fs/read.ts";
import { isObject, member, parseJson, type JsonObject } from "../../json.ts";
import { imageError } from "../../errors.ts";

/** A user name and a password. An identity token (docker's OAuth2 logins) is none, and not read. */
export interface Credentials {
  readonly username: string;
  readonly password: string;
}

const HELPER_TIMEOUT = 30_000; // ms
const MAX_AUTH_FILE = 1024 * 1024; // bytes; who works with many registries has hundreds of entries

/** The credentials for a host and path, from the first file that has some (containers-auth.json(5)). */
export function credentialsFor(host: string, path: string): Credentials | undefined {
  for (const file of authFiles()) {
    const bytes = readSmallFile(file, MAX_AUTH_FILE)?.bytes;
    if (bytes === undefined) continue;
    const config = parseJson(bytes, 8, (reason) => {
      return imageError(`${file} ${reason}`, "log in again, or fix the file");
    });
    const found = isObject(config) ? lookUp(config, host, path) : undefined;
    if (found !== undefined) return found;
  }
  return undefined;
}

function authFiles(): string[] {
  const named = process.env["REGISTRY_AUTH_FILE"];
  if (named !== undefined && named !== "") return [named];
  const { XDG_RUNTIME_DIR, XDG_CONFIG_HOME, DOCKER_CONFIG, HOME = homedir() } = process.env;
  const own = `/run/containers/${process.getuid?.() ?? 0}`;
  return [
    join(XDG_RUNTIME_DIR === undefined ? own : join(XDG_RUNTIME_DIR, "containers"), "auth.json"),
    join(XDG_CONFIG_HOME ?? join(HOME, ".config"), "containers/auth.json"),
    join(DOCKER_CONFIG ?? join(HOME, ".docker"), "config.json"),
  ];
}

/** The most specific entry counts: host/path/of/image, host/path, host. */
function lookUp(config: JsonObject, host: string, path: string): Credentials | undefined {
  const parts = path.split("/");
  const names = [...parts.keys()].map((end) => [host, ...parts.slice(0, parts.length - end)].join("/"));
  names.push(...new Set([host, dockerName(host)]));
  const auths = member(config, "auths");
  for (const name of names) {
    const helpers = member(config, "credHelpers");
    const helper = isObject(helpers) ? member(helpers, name) : undefined;
    const entry = isObject(auths) ? member(auths, name) : undefined;
    const credentials = typeof helper === "string" ? askHelper(helper, name) : decode(entry);
    if (credentials !== undefined) return credentials;
  }
  const store = member(config, "credsStore");
  return typeof store === "string" && store !== "" ? askHelper(store, dockerName(host)) : undefined;
}

/** The name that docker gives a host in its files: Docker Hub has the address of its first API. */
function dockerName(host: string): string {
  return host === "docker.io" ? "https://index.docker.io/v1/" : host;
}

function decode(entry: unknown): Credentials | undefined {
  const auth = isObject(entry) ? member(entry, "auth") : undefined;
  if (typeof auth !== "string") return undefined;
  const [, username, password] = /^([^:]+):(.*)$/s.exec(Buffer.from(auth, "base64").toString()) ?? [];
  return username === undefined || password === undefined ? undefined : { username, password };
}

/** docker-credential-helpers: the host on stdin, JSON on stdout. */
function askHelper(helper: string, host: string): Credentials | undefined {
  if (!/^[A-Za-z0-9._-]+$/.test(helper)) return undefined;
  const program = `docker-credential-${helper}`;
  const { status, stdout } = spawnSync(program, ["get"], {
    input: host,
    timeout: HELPER_TIMEOUT,
    killSignal: "SIGKILL",
    stdio: ["pipe", "pipe", "ignore"],
  });
  if (status !== 0) return undefined;
  const answer = parseJson(stdout, 4, (reason) => {
    return imageError(`what ${program} answered ${reason}`, "try it by hand");
  });
  const [username, password] = isObject(answer) ? [member(answer, "Username"), member(answer, "Secret")] : [];
  return typeof username === "string" && typeof password === "string" ? { username, password } : undefined;
}
