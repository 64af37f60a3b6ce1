// containerd's configuration: where its parts are, and its text.

import { existsSync, globSync, readFileSync } from "node:fs";
import { findProgram } from "./programs.ts";

/** Where containerd's own default configuration looks for providers. */
export const CONTAINERD_CONF = "/etc/containerd/ocicrypt/ocicrypt_keyprovider.conf";
/** The folder of key files that its default configuration names. */
export const CONTAINERD_KEYS = "/etc/containerd/ocicrypt/keys";
/** The main file of the configuration. */
export const CONTAINERD_CONFIG = "/etc/containerd/config.toml";

const DROP_INS = "/etc/containerd/conf.d/*.toml";

/** The text of the whole configuration without its comments; undefined if containerd is not installed. */
export function readContainerdConfig(): string | undefined {
  if (!existsSync(CONTAINERD_CONFIG) && findProgram("containerd") === undefined) return undefined;
  const files = [CONTAINERD_CONFIG, ...globSync(DROP_INS)];
  return files
    .map(readText)
    .join("\n")
    .replace(/^\s*#.*$/gm, "");
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return ""; // it is missing, or this user may not read it
  }
}
