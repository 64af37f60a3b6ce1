// The key store as a server reads it: from the disk for each request, so that a change counts at once. Unlocked keys
// stay in memory.

import { setImmediate as giveWay } from "node:timers/promises";
import { asKeystoreError, errorLine, KeystoreError, unusableError } from "../errors.ts";
import { readSmallFile } from "../fs/read.ts";
import type { PrivateKey } from "../jwe/key.ts";
import type { PrivateJwk } from "../jwk/jwk.ts";
import { Store } from "../keystore/store.ts";
import type { KeyStore } from "../keystore/keystore.ts";
import { shownTime, TIME_LIMITS, within, type Allowance, type Turns } from "./limits.ts";

/**
 * A store whose locked keys are unlocked once and kept in memory. If a key does not open in time, the next request
 * for it tries again.
 */
class UnlockedStore extends Store {
  readonly #kept = new Map<string, { readonly file: Buffer; readonly jwk: Promise<PrivateJwk | undefined> }>();
  readonly #limit: number;

  /** @param limit ms that unlocking a key may take */
  constructor({ dir, secrets }: Store, limit: number) {
    super(dir, secrets);
    this.#limit = limit;
  }

  get isEmpty(): boolean {
    return this.#kept.size === 0;
  }

  override async privateJwk(kid: string): Promise<PrivateJwk | undefined> {
    const path = this.paths.privateKey(kid, "jwe");
    const file = readSmallFile(path)?.bytes;
    const known = this.#kept.get(kid);
    if (file !== undefined && known?.file.equals(file) === true) return await known.jwk;
    this.#kept.delete(kid);
    const jwk = within(this.#limit, super.privateJwk(kid), () => this.#late(path));
    // Before it is open: other requests for it wait for this.
    if (file !== undefined) this.#kept.set(kid, { file, jwk });
    let opened: PrivateJwk | undefined;
    try {
      opened = await jwk;
      return opened;
    } finally {
      if (opened === undefined && this.#kept.get(kid)?.jwk === jwk) this.#kept.delete(kid);
    }
  }

  #late(path: string): KeystoreError {
    const hint = "check what it is locked for, such as its Tang server, and try again";
    return unusableError(`locked key ${path} did not open within ${shownTime(this.#limit)}`, hint);
  }
}

/**
 * The store with its locked keys unlocked. A key that is locked or made later is unlocked when it is first needed.
 *
 * @param warn gets a line for each key that does not open
 * @param limit ms that unlocking a key may take
 * @throws KeystoreError (exit code 3) if there are locked keys and none opens, `store` if the directory does not exist
 */
export async function unlockedStore(
  opened: Store,
  warn: (line: string) => void,
  limit = TIME_LIMITS.unlock,
): Promise<KeyStore> {
  const store = new UnlockedStore(opened, limit).mustExist();
  const closed: unknown[] = [];
  for (const kid of store.allPrivateKids().filter((one) => store.locate(one)?.form === "jwe")) {
    await store.privateKey(kid).catch((error: unknown) => closed.push(error));
  }
  if (closed.length > 0 && store.isEmpty) throw asKeystoreError(closed[0]);
  for (const error of closed) warn(errorLine(error));
  return store;
}

const AT_A_STRETCH = 2; // steps: nearly every request needs one key and one private operation

/**
 * A store for one request. It notes the kids of the keys in `kids`. Before each further key and private operation it
 * lets other requests go on. It has holders' commands run in their turn, and it starts nothing once the request is
 * abandoned.
 */
export function watched(store: KeyStore, kids: string[], turns: Turns, allowance: Allowance): KeyStore {
  let steps = 0;
  const politely = async <T>(step: () => Promise<T>): Promise<T> => {
    if (++steps > AT_A_STRETCH) await giveWay();
    allowance.abandoned.throwIfAborted();
    return await step();
  };
  const noted = <T extends { readonly kid: string }>(key: T): T => {
    kids.push(key.kid);
    return key;
  };
  const politeKey = (key: PrivateKey): PrivateKey => {
    const operate = async <T>(step: () => Promise<T>): Promise<T> => {
      if (key.holder === undefined) return await politely(step);
      return await turns.run(allowance, async () => await politely(step));
    };
    return { ...key, perform: async (wrapped) => await operate(async () => await key.perform(wrapped)) };
  };
  return {
    recipient: async (nameOrKid) => noted(await politely(async () => await store.recipient(nameOrKid))),
    defaultRecipient: async () => noted(await store.defaultRecipient()),
    privateKids: async () => await store.privateKids(),
    privateKey: async (kid) => {
      const key = await politely(async () => await store.privateKey(kid));
      return key && politeKey(noted(key));
    },
  };
}
