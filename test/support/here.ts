// The work of commands in this process: tables of many rows would take minutes with a start of the binary for each.

import * as assert from "uvu/assert";
import type { AtRest, SecretSource } from "../../src/at-rest/locked-file.ts";
import { atRestByTang, meetServer } from "../../src/at-rest/tang.ts";
import { errorLine, KeystoreError } from "../../src/errors.ts";
import { generateJwk } from "../../src/jwk/jwk.ts";
import { addKey } from "../../src/keystore/add.ts";
import { lockKeys, unlockKeys } from "../../src/keystore/relock.ts";
import { openStore } from "../../src/keystore/store.ts";
import { tree } from "./folders.ts";
import { noSecrets } from "./stores.ts";

/** What `keygen NAME` does. */
export async function keygenHere(dir: string, name: string, secrets: SecretSource = noSecrets): Promise<string> {
  return await addKey(openStore(dir, secrets), name, generateJwk({ type: "ec" }));
}

/** What `unlock` does. @returns how many keys were unlocked */
export async function unlockHere(dir: string, secrets: SecretSource = noSecrets): Promise<number> {
  return await unlockKeys(openStore(dir, secrets));
}

/** What `lock` does with a lock that the command line names. @returns how many keys were locked */
export async function lockHere(dir: string, lock: AtRest): Promise<number> {
  return await lockKeys(openStore(dir, noSecrets), lock);
}

/** What `lock --tang URL` does where the server is trusted. @returns how many keys were locked */
export async function lockForTang(dir: string, url: string): Promise<number> {
  return await lockHere(dir, atRestByTang(await meetServer(url, async () => undefined)));
}

/** Asserts that work fails with the line and exit code of a command, and leaves the store as it is. @returns the line */
export async function refusedHere(dir: string, exitCode: number, work: () => Promise<unknown>): Promise<string> {
  const before = tree(dir);
  const error: unknown = await work().then(
    () => undefined,
    (reason: unknown) => reason,
  );
  assert.instance(error, KeystoreError);
  const line = errorLine(error);
  assert.is((error as KeystoreError).exitCode, exitCode, line);
  assert.match(line, /^ocicrypt-keystore: [^\n]+; [^\n]+$/, "one line with a hint");
  assert.equal(tree(dir), before, "the store is as it was");
  return line;
}
