// One file with credentials: auth.json, docker's config.json and its older .dockercfg, read as Go's clients read JSON.

import type { Node } from "jsonc-parser";
import { imageError } from "../../errors.ts";
import { readSmallFile } from "../../fs/read.ts";
import type { Fail } from "../../json.ts";
import { lastText, members, parseTreeAsGo, structOf, textOf } from "./go-struct.ts";

/** What a file says of a registry or a namespace. */
export interface AuthEntry {
  /** base64 of USER:PASSWORD. */
  readonly auth: string;
  readonly identityToken: string;
}

/** An auth file. */
export interface AuthFile {
  readonly path: string;
  /** .dockercfg: only entries, and every key may be a URL. */
  readonly legacy: boolean;
  readonly auths: ReadonlyMap<string, AuthEntry>;
  /** The credential helper of a registry. */
  readonly helpers: ReadonlyMap<string, string>;
  /** The credential helper of every other registry, for docker alone. */
  readonly store: string;
}

const MAX_AUTH_FILE = 1024 * 1024; // bytes; who works with many registries has hundreds of entries

/** Reads a file. @returns undefined if there is none. @throws KeystoreError `image` if Go's clients refuse it too */
export function readAuthFile(path: string, legacy: boolean): AuthFile | undefined {
  const bytes = readSmallFile(path, MAX_AUTH_FILE)?.bytes;
  if (bytes === undefined) return undefined;
  const fail: Fail = (reason) => imageError(`${path} ${reason}`, "log in again, or fix the file");
  const root = parseTreeAsGo(bytes.toString("utf8"), fail);
  if (legacy) return { path, legacy, auths: entries(root, fail), helpers: new Map(), store: "" };
  const fields = structOf(root, fail, ["auths", "credhelpers", "credsstore"]);
  return {
    path,
    legacy,
    auths: new Map(fields("auths").flatMap((node) => [...entries(node, fail)])),
    helpers: new Map(
      fields("credhelpers").flatMap((node) =>
        members(node, fail).map(([name, value]): [string, string] => [name, textOf(value, fail)]),
      ),
    ),
    // Only docker reads this member: one that is no text is not skopeo's concern.
    store: fields("credsstore").reduce((former, { value }) => (typeof value === "string" ? value : former), ""),
  };
}

function entries(node: Node, fail: Fail): Map<string, AuthEntry> {
  const found = new Map<string, AuthEntry>();
  for (const [name, value] of members(node, fail)) {
    const fields = structOf(value, fail, ["auth", "identitytoken"]);
    const [auth, identityToken] = [lastText(fields("auth"), fail), lastText(fields("identitytoken"), fail)];
    found.set(name, { auth, identityToken });
  }
  return found;
}
