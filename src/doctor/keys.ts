// Checks of the store's key files.

import { existsSync, statSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import type { AtRest, AtRestKind, SecretKind } from "../at-rest/locked-file.ts";
import { readSmallFile } from "../fs/read.ts";
import { removeFile } from "../fs/write.ts";
import { atRestOfFile, openKeyFile, parsePrivateFile, unlockKeyFile } from "../keystore/key-file.ts";
import { rebuildPublic } from "../keystore/add.ts";
import type { Store } from "../keystore/store.ts";
import { inForm } from "../keystore/paths.ts";
import { secretFile } from "../at-rest/secret-files.ts";
import { asKeystoreError, count } from "../errors.ts";
import { attempt, quietly, skip, type Note, type Outcome, type Report } from "./check.ts";
import type { Context } from "./context.ts";

const OPTIONS: ReadonlyMap<SecretKind, string> = new Map([
  ["master key", "--master-key-file"],
  ["passphrase", "--passphrase-file"],
]);

/** Each key file holds the key that it is named after, and private keys have their public file. */
export async function storeKeys({ store }: Context, { warn, fail }: Report): Promise<Outcome> {
  const listed = store.publicKids();
  const kids = store.allPrivateKids();
  for (const kid of listed) await attempt(fail, () => store.publicKey(kid), await rebuild(store, kid));
  const unlisted = decryptsOnly(store);
  for (const kid of kids) {
    const path = store.paths.privateKey(kid, "jwk");
    if (existsSync(path)) await attempt(fail, () => parsePrivateFile(path, kid, contents(path)));
    if (unlisted || existsSync(store.paths.publicKey(kid)) || store.locate(kid)?.form === "holder") continue;
    const fix = await rebuild(store, kid);
    const hint = "make it again with ocicrypt-keystore doctor --fix";
    const locked = `${hint}, and give what the private key is locked with`;
    warn(`private key ${kid} has no public file: it unwraps only`, fix === undefined ? locked : hint, fix);
  }
  return `${count(listed.length, "key", "keys")}, ${kids.length} of them with the private key`;
}

/** Whether a store has only private/, which is enough to decrypt. */
export function decryptsOnly(store: Store): boolean {
  const { names, public: folder, default: defaultFile } = store.paths;
  return ![names, folder, defaultFile].some((path) => existsSync(path)) && store.allPrivateKids().length > 0;
}

/** Why a check of names and recipients skips such a store. */
export const ONLY_DECRYPTS = "the store has only private keys, which decrypt";

/** How to make a public file again: from its private key, if that can be opened now. */
async function rebuild(store: Store, kid: string): Promise<(() => void) | undefined> {
  const located = quietly(() => store.locate(kid));
  const sound = quietly(() => store.publicKey(kid)) !== undefined;
  if (sound || located === undefined || located.form === "holder") return undefined;
  const jwk = await store.privateJwk(kid).catch(() => undefined); // another check says why
  return jwk && ((): void => rebuildPublic(store, kid, jwk, statSync(located.path).mtime));
}

/** A name leads to each private key. */
export function storeUnnamed({ store }: Context, { warn }: Report): Outcome {
  if (decryptsOnly(store)) return skip(ONLY_DECRYPTS);
  const named = new Set(store.names().flatMap((name) => quietly(() => store.kidsOf(name)) ?? []));
  for (const kid of store.allPrivateKids().filter((one) => !named.has(one))) {
    const message = `no name points to private key ${kid}: a keygen was interrupted, or its name was removed`;
    warn(message, "it still unwraps; import it under a name, or move its files away");
  }
  return "every private key has a name";
}

/** No key has both an unlocked and a locked file. If both hold the same key, the fix removes the unlocked file. */
export async function storeTwice(context: Context, { warn }: Report): Promise<Outcome> {
  const { store } = context;
  for (const { path: locked, kid } of store.keyFiles("jwe")) {
    const path = inForm(locked, "jwk");
    if (!existsSync(path)) continue;
    const message = `${path} exists unlocked and locked: a lock or unlock was interrupted`;
    if (await isSameKey(locked, path, kid, context)) {
      warn(message, "finish it with ocicrypt-keystore doctor --fix", () => removeFile(path));
    } else {
      const options = [...OPTIONS.values()]
        .toReversed()
        .map((option) => `${option} FILE`)
        .join(" or ");
      warn(message, `give the secret that opens the locked one to the same key, with ${options}, and --fix`);
    }
  }
  return "no key exists both unlocked and locked";
}

/** Private keys are all locked, in one way, and open; or none is locked. */
export async function storeLocked(context: Context, { warn, fail }: Report): Promise<Outcome> {
  const { store, secretFiles } = context;
  const locked = lockedKeys(context, fail);
  const kinds = [...new Set(locked.map(({ lock }) => lock.kind))].toSorted();
  const open = store.keyFiles("jwk").filter(({ path }) => !existsSync(inForm(path, "jwe")));
  if (locked.length > 0 && open.length > 0) {
    const message = count(open.length, "private key is not locked", "private keys are not locked");
    warn(`${message}, others are`, "lock them with ocicrypt-keystore lock");
  }
  if (kinds.length > 1) {
    warn(`some keys are locked with a ${kinds.join(", others with a ")}`, "run ocicrypt-keystore unlock, then lock");
  }
  const missing = new Set<AtRestKind>();
  for (const [kind, option] of OPTIONS) {
    const keys = locked.filter(({ lock }) => lock.kind === kind);
    if (keys.length === 0) continue;
    if (secretFile(kind, secretFiles) === undefined) {
      const message = `${count(keys.length, "key is", "keys are")} locked with a ${kind}, which was not given`;
      const client = `a client needs it in its environment or args: ocicrypt-keystore config ${option} FILE`;
      warn(message, `name it with ${option} FILE; ${client}`);
      missing.add(kind);
    } else if ((await attempt(fail, async () => await store.secrets(kind))) === undefined) missing.add(kind);
  }
  const tried = locked.filter(({ lock }) => !missing.has(lock.kind));
  await Promise.all(
    tried.map(async ({ path, kid, bytes, lock }) => {
      await attempt(fail, async () => await openKeyFile(path, kid, bytes, lock));
    }),
  );
  if (locked.length === 0) return skip("no private key is locked");
  const keys = count(locked.length, "private key is", "private keys are");
  const urls = [...new Set(locked.flatMap(({ lock }) => lock.url ?? []))];
  if (urls.length === 0) return `${keys} locked with a ${kinds.join()}, which was given and opens them`;
  return `${keys} locked for the ${kinds.join()} ${urls.join(", ")}, which is needed each time and opened them`;
}

interface LockedKey {
  readonly kid: string;
  readonly path: string;
  readonly bytes: Buffer;
  readonly lock: AtRest;
}

function lockedKeys({ store }: Context, fail: Note): LockedKey[] {
  return store.keyFiles("jwe").flatMap(({ path, kid }) => {
    const bytes = contents(path);
    try {
      return [{ kid, path, bytes, lock: atRestOfFile(path, bytes, store.secrets) }];
    } catch (error) {
      const { message, hint } = asKeystoreError(error);
      fail(message.replace(": it is damaged:", " is damaged:"), hint);
      return [];
    }
  });
}

async function isSameKey(locked: string, open: string, kid: string, { store }: Context): Promise<boolean> {
  try {
    const jwk = await unlockKeyFile(locked, kid, contents(locked), store.secrets);
    return isDeepStrictEqual(jwk, parsePrivateFile(open, kid, contents(open)));
  } catch {
    return false; // the checks of the files say why
  }
}

/** The bytes of a file; none if it has just been removed. */
function contents(path: string): Buffer {
  return readSmallFile(path)?.bytes ?? Buffer.alloc(0);
}
