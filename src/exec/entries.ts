// The client's ocicrypt.conf, for one question: which of its entries start this program in the same way. It is read only
// if a request names several providers.

import { isObject, member } from "../json.ts";
import { readSmallFile } from "../fs/read.ts";

/**
 * The names of the entries that start a program as `startedAs` without --provider: it cannot tell which of them started
 * it. Empty if the file cannot be read.
 */
export function entriesAlike(startedAs: string): readonly string[] {
  const path = process.env["OCICRYPT_KEYPROVIDER_CONFIG"];
  if (!path) return [];
  try {
    const config: unknown = JSON.parse(readSmallFile(path)?.bytes.toString() ?? "{}");
    const entries = isObject(config) ? member(config, "key-providers") : undefined;
    return Object.entries(isObject(entries) ? entries : {})
      .filter(([, entry]) => isAlike(isObject(entry) ? member(entry, "cmd") : undefined, startedAs))
      .map(([name]) => name);
  } catch {
    return [];
  }
}

function isAlike(cmd: unknown, startedAs: string): boolean {
  if (!isObject(cmd) || member(cmd, "path") !== startedAs) return false; // Go and Rust give the path as argv[0]
  const args = member(cmd, "args");
  return !Array.isArray(args) || !args.some((arg) => /^--provider(?:=|$)/.test(String(arg)));
}
