// A registry's credentials, from where skopeo, podman and docker keep them: auth.json, config.json, credential helpers.

import { spawnSync } from "node:child_process";
import { homedir } from "node:os";
import { join } from "node:path";
import { readSmallFile } from "../../fs/files.ts";
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
    const config = parseJson(bytes, 8, (reason) => imageError(`${file} ${reason}`, "log in again, or mend it"));
    const found = isObject(config) ? lookUp(config, host, path) : undefined;
    if (found !== undefined) return found;
  }
  return undefined;
}

function authFiles(): string[] {
  const named = process.env["REGISTRY_AUTH_FILE"];
  if (named !== undefined && named !== "") return [named];
  const [runtime, config, docker] = [process.env["XDG_RUNTIME_DIR"], process.env["XDG_CONFIG_HOME"], process.env["DOCKER_CONFIG"]];
  const home = process.env["HOME"] ?? homedir();
  return [
    runtime === undefined ? `/run/containers/${process.getuid?.() ?? 0}/auth.json` : join(runtime, "containers/auth.json"),
    join(config ?? join(home, ".config"), "containers/auth.json"),
    join(docker ?? join(home, ".docker"), "config.json"),
  ];
}

/** The most specific entry counts: host/path/of/image, host/path, host. */
function lookUp(config: JsonObject, host: string, path: string): Credentials | undefined {
  const parts = path.split("/");
  const names = [...parts.keys()].map((end) => [host, ...parts.slice(0, parts.length - end)].join("/")).concat(host, ...(host === "docker.io" ? ["https://index.docker.io/v1/"] : []));
  const auths = member(config, "auths");
  for (const name of names) {
    const helpers = member(config, "credHelpers");
    const helper = isObject(helpers) ? member(helpers, name) : undefined;
    const found = typeof helper === "string" ? askHelper(helper, name) : isObject(auths) ? decode(member(auths, name)) : undefined;
    if (found !== undefined) return found;
  }
  const store = member(config, "credsStore");
  return typeof store === "string" && store !== "" ? askHelper(store, host === "docker.io" ? "https://index.docker.io/v1/" : host) : undefined;
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
  const { status, stdout } = spawnSync(`docker-credential-${helper}`, ["get"], { input: host, timeout: HELPER_TIMEOUT, killSignal: "SIGKILL", stdio: ["pipe", "pipe", "ignore"] });
  if (status !== 0) return undefined;
  const answer = parseJson(stdout, 4, (reason) => imageError(`what docker-credential-${helper} answered ${reason}`, "try it by hand"));
  const [username, password] = isObject(answer) ? [member(answer, "Username"), member(answer, "Secret")] : [];
  return typeof username === "string" && typeof password === "string" ? { username, password } : undefined;
}
