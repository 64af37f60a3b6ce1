// The client's ocicrypt.conf, for one question: which of its entries start this program in the same way. It is read only
// if a request names several providers.

import { requestError } from "../errors.ts";
import { isObject } from "../json.ts";
import { readSmallFile } from "../fs/read.ts";

/**
 * The names of the entries that start a program as `startedAs` without --provider: it cannot tell which of them started
 * it.
 *
 * @throws KeystoreError `request` if the client's file cannot be read
 */
export function entriesAlike(startedAs: string): readonly string[] {
  const path = process.env["OCICRYPT_KEYPROVIDER_CONFIG"];
  if (!path) return [];
  try {
    const config: unknown = JSON.parse(readSmallFile(path)?.bytes.toString() ?? "{}");
    const entries = inAnyCase(config, "KEY-PROVIDERS");
    return Object.entries(isObject(entries) ? entries : {})
      .filter(([, entry]) => isAlike(inAnyCase(entry, "CMD"), startedAs))
      .map(([name]) => name);
  } catch {
    throw requestError(`${path} cannot be read to tell the providers apart`, 'add "--provider", "NAME" to their args');
  }
}

function isAlike(cmd: unknown, startedAs: string): boolean {
  const [path, args] = [inAnyCase(cmd, "PATH"), inAnyCase(cmd, "ARGS")];
  if (!isObject(cmd) || (path ?? startedAs) !== startedAs) return false; // Go and Rust give the path as argv[0]
  return !Array.isArray(args) || !args.some((arg) => /^--provider(?:=|$)/.test(String(arg)));
}

/** A member as Go finds it: its name in any case, also with a long s or a Kelvin sign. */
function inAnyCase(object: unknown, name: string): unknown {
  const members = isObject(object) ? Object.entries(object) : [];
  return members.findLast(([written]) => written.toLowerCase().toUpperCase() === name)?.[1];
}
