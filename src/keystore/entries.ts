// What the store holds, for people and programs: a row for each name and kid.

import { naturalAlgorithm } from "../jwe/alg/algorithms.ts";
import { KeystoreError } from "../errors.ts";
import { kindOf, type PublicJwk, type TypeName } from "../jwk/jwk.ts";
import { locatePrivate, mustExist, nameList, readDefault, readName, readPublicKey } from "./directory.ts";
import { layout } from "./layout.ts";

/** One key under one name. The member names are those of `list --json`. */
export interface Entry {
  readonly name: string;
  readonly kid: string;
  readonly type: TypeName;
  /** The key management algorithm that wraps for it. */
  readonly alg: string;
  readonly crv?: string;
  /** A retired key unwraps and no longer wraps. */
  readonly state: "current" | "retired";
  /** Whether it is the current key of the default name. */
  readonly default: boolean;
  /** Where the private key is. */
  readonly private: "file" | "locked" | "holder" | "none";
  /** RFC 3339. */
  readonly created: string;
  readonly public: PublicJwk;
}

/** Every key of every name, by name, the current one first. @throws KeystoreError if a file is damaged or missing */
export function entries(dir: string): Entry[] {
  mustExist(dir);
  return nameList(dir).flatMap((name) => entriesOfName(dir, name));
}

/** The keys of a name, the current one first, or the rows of a kid. @throws KeystoreError `recipient` if there is none */
export function entriesOf(dir: string, nameOrKid: string): Entry[] {
  mustExist(dir);
  if (nameList(dir).includes(nameOrKid)) return entriesOfName(dir, nameOrKid);
  const found = entries(dir).filter(({ kid }) => kid === nameOrKid);
  if (found.length > 0) return found;
  throw new KeystoreError("recipient", `no key named ${nameOrKid} in ${dir}`, "see ocicrypt-keystore list");
}

function entriesOfName(dir: string, name: string): Entry[] {
  const isDefault = readDefault(dir) === name;
  return (readName(dir, name) ?? []).flatMap((kid, place) => {
    const jwk = readPublicKey(dir, kid);
    if (jwk === undefined && readName(dir, name)?.includes(kid) !== true) return []; // removed while we read
    if (jwk === undefined) throw new KeystoreError("store", `the name ${name} points to ${kid}, which is missing in ${layout.publicDir(dir)}`, "restore that file from a backup");
    const { type, curve } = kindOf(jwk);
    return {
      name,
      kid,
      type,
      alg: jwk.alg ?? naturalAlgorithm(jwk) ?? "",
      ...(curve === undefined ? {} : { crv: curve }),
      state: place === 0 ? "current" : "retired",
      default: isDefault && place === 0,
      private: locatePrivate(dir, kid)?.kind ?? "none",
      created: jwk.created ?? "",
      public: jwk,
    };
  });
}

/** The name that each kid of the store has; nothing where there is no store. */
export function namesByKid(dir: string): Map<string, string> {
  const pairs = nameList(dir).flatMap((name) => (readName(dir, name) ?? []).map((kid, place) => [kid, place === 0 ? name : `${name} (retired)`] as const));
  return new Map(pairs);
}
