// One file with credentials: auth.json, docker's config.json and its older .dockercfg, read as Go's clients read JSON.

import { imageError } from "../../errors.ts";
import { readSmallFile } from "../../fs/read.ts";
import { mapOf, orFail, parseGoJson, readStruct, stringOr, type GoValue } from "../../go-json.ts";
import type { Fail } from "../../json.ts";

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
  return orFail(fail, () => ({ path, legacy, ...read(parseGoJson(bytes), legacy) }));
}

function read(root: GoValue, legacy: boolean): Pick<AuthFile, "auths" | "helpers" | "store"> {
  let auths: AuthFile["auths"] = new Map();
  let helpers: AuthFile["helpers"] = new Map();
  let store = "";
  if (legacy) return { auths: mapOf(auths, root, "is JSON", readEntry), helpers, store };
  readStruct(root, "is JSON", {
    auths: (value) => (auths = mapOf(auths, value, "has a member auths", readEntry)),
    credhelpers: (value) =>
      (helpers = mapOf(helpers, value, "has a member credHelpers", (one) =>
        stringOr("", one, "has a credential helper"),
      )),
    // Only docker reads this member: one that is no text is not skopeo's concern.
    credsstore: (value) => {
      if (value.kind === "scalar" && typeof value.scalar === "string") store = value.scalar;
    },
  });
  return { auths, helpers, store };
}

function readEntry(value: GoValue): AuthEntry {
  let [auth, identityToken] = ["", ""];
  readStruct(value, "has an entry", {
    auth: (text) => (auth = stringOr(auth, text, "has an auth")),
    identitytoken: (text) => (identityToken = stringOr(identityToken, text, "has an identitytoken")),
  });
  return { auth, identityToken };
}
