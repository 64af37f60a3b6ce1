// Lists the keys of a store for users and programs: a row for each name and kid.

import { KeystoreError } from "../errors.ts";
import { naturalAlgorithm } from "../jwe/alg/algorithms.ts";
import { kindOf, type PublicJwk, type TypeName } from "../jwk/jwk.ts";
import type { Place } from "./paths.ts";
import type { Store } from "./store.ts";

/** One key under one name. The member names are those of `list --json`. */
export interface Entry {
  readonly name: string;
  readonly kid: string;
  readonly type: TypeName;
  /** The key management algorithm that wraps for it. */
  readonly alg: string;
  readonly crv?: string;
  /** A retired key still unwraps and no longer wraps. */
  readonly state: "current" | "retired";
  /** Whether it is the current key of the default name. */
  readonly default: boolean;
  /** Where the private key is. */
  readonly private: Place | "none" | "unreadable";
  /** RFC 3339. */
  readonly created: string;
  readonly public: PublicJwk;
}

/**
 * Every key of every name, sorted by name, the current key first.
 *
 * @throws KeystoreError if a file is damaged or missing
 */
export function entries(store: Store): Entry[] {
  return store
    .mustHaveNames()
    .names()
    .flatMap((name) => entriesOfName(store, name));
}

/**
 * The keys of a name, the current key first; or the rows of a kid.
 *
 * @throws KeystoreError `recipient` if there is no row
 */
export function entriesOf(store: Store, nameOrKid: string): readonly [Entry, ...Entry[]] {
  const named = store.mustHaveNames().names().includes(nameOrKid);
  const rows = named ? entriesOfName(store, nameOrKid) : entries(store).filter(({ kid }) => kid === nameOrKid);
  const [first, ...rest] = rows;
  if (first === undefined) throw store.noKey(nameOrKid);
  return [first, ...rest];
}

function entriesOfName(store: Store, name: string): Entry[] {
  const isDefault = store.defaultName() === name;
  return (store.kidsOf(name) ?? []).flatMap((kid, place) => {
    const jwk = store.publicKey(kid);
    if (jwk === undefined && store.kidsOf(name)?.includes(kid) !== true) return []; // removed in the meantime
    if (jwk === undefined) throw store.noPublicKey(name, kid);
    const { type, curve } = kindOf(jwk);
    return {
      name,
      kid,
      type,
      alg: jwk.alg ?? naturalAlgorithm(jwk) ?? "",
      ...(curve === undefined ? {} : { crv: curve }),
      state: place === 0 ? "current" : "retired",
      default: isDefault && place === 0,
      private: placeOf(store, kid),
      created: jwk.created ?? "",
      public: jwk,
    };
  });
}

/** Where a private key is, as far as this user can see: on a shared machine private/ is for its owner alone. */
function placeOf(store: Store, kid: string): Entry["private"] {
  try {
    return store.locate(kid)?.place ?? "none";
  } catch (error) {
    if (error instanceof KeystoreError) return "unreadable";
    throw error;
  }
}

/** The name of each kid of the store; an empty map if there is no store. */
export function namesByKid(store: Store): Map<string, string> {
  const pairs = store.names().flatMap((name) => {
    const kids = store.kidsOf(name) ?? [];
    return kids.map((kid, place) => [kid, place === 0 ? name : `${name} (retired)`] as const);
  });
  return new Map(pairs);
}
