// Adds a key whose private part is held by a command. First the command must open what was wrapped for the public key.

import { randomBytes } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import { keyError, KeystoreError, storeError, usageError } from "../errors.ts";
import { makeFolder, writeFileSafely } from "../fs/write.ts";
import { forbids, naturalAlgorithm } from "../jwe/alg/algorithms.ts";
import { open } from "../jwe/open.ts";
import { seal } from "../jwe/seal.ts";
import { isSymmetric, kidOf, publicHalf, typeName, type Jwk } from "../jwk/jwk.ts";
import { addNamed, now } from "./add.ts";
import type { Store } from "./store.ts";
import {
  algorithmOf,
  holderFile,
  holderKey,
  isOperationFor,
  MAX_WORDS,
  HOLDER_OPERATION_NAMES,
  readHolder,
  severalOperations,
  usableCommand,
  type Holder,
} from "../keys/holder.ts";

/**
 * Adds a key under a name, with a command that does one operation with its private key. If the key has a holder, adds
 * the operation to it.
 *
 * @param jwk its checked public key, for a256kw the symmetric key; private members are not stored
 * @param command an absolute path and arguments
 * @param force also if the name is taken, or the key has a holder
 * @param there is called if all of it is there already: then nothing is changed
 * @returns the key's kid
 * @throws KeystoreError `usage` if the operation is not for that key or the command is unusable, `key` if the command
 * does not open what was wrapped for the key, `store` if the name or the key is taken
 */
export async function addHolder(
  store: Store,
  name: string,
  jwk: Jwk,
  op: string,
  command: readonly string[],
  force: boolean,
  there?: () => void,
): Promise<string> {
  const kid = kidOf(jwk);
  const [program, ...args] = command;
  if (!HOLDER_OPERATION_NAMES.includes(op)) {
    throw usageError(`there is no operation ${op}`, `use one of ${HOLDER_OPERATION_NAMES.join(", ")}`);
  }
  if (program === undefined) throw usageError("the holder's command is missing", "end the line with -- COMMAND ARG…");
  if (!program.startsWith("/")) {
    throw usageError(
      "the holder's command is not an absolute path",
      "give the program's full path: PATH is not searched",
    );
  }
  if (command.length > MAX_WORDS) {
    throw usageError(`the holder's command has more than ${MAX_WORDS} words`, "put it into a script, and name that");
  }
  refuseOtherKey(jwk, op);

  const added = new Map([[op, [program, ...args] as const]]);
  await tryNew({ kid, ops: added }, op, jwk).catch((error: unknown) => {
    throw error instanceof KeystoreError ? keyError(error.message, `nothing was imported; ${error.hint}`) : error;
  });
  const isThere = (former: string): string | undefined => {
    if (former !== kid || store.locate(kid)?.form !== "holder" || store.publicKey(kid) === undefined) return undefined;
    const known = readHolder(store.paths.privateKey(kid, "holder"), kid);
    return isDeepStrictEqual(known?.ops.get(op), added.get(op)) ? kid : undefined;
  };
  const write = (): void => {
    const form = store.locate(kid)?.form;
    if (form === "jwk" || form === "jwe") {
      const hint = `run ocicrypt-keystore remove ${kid} --force, then import again`;
      const backup = "if its holder has no backup, export the key first";
      throw storeError(
        `the private key ${kid} is in the store, so its holder would never be asked`,
        `${hint}; ${backup}`,
      );
    }
    const known = readHolder(store.paths.privateKey(kid, "holder"), kid);
    // An import that was interrupted before the name was there is repeated as it was.
    const repeated = store.kidsOf(name) === undefined && isDeepStrictEqual(known?.ops, added);
    if (known !== undefined && !force && !repeated)
      throw storeError(
        `the key ${kid} has a holder under another name`,
        "add --force to give it this operation too, or import the public key alone for a second name",
      );
    const holder = { ...known, kid, ops: new Map([...(known?.ops ?? []), ...added]) };
    writeHolder(store, jwk, holder);
  };
  if ((await addNamed(store, name, kid, force, { ours: true, there: isThere, write })) !== undefined) there?.();
  return kid;
}

/** Tries a holder that is not in the store yet: a failure must come from its command. */
async function tryNew(holder: Holder, op: string, jwk: Jwk): Promise<void> {
  const [program] = usableCommand(holder, op);
  await tryHolder(holder, op, jwk).catch((error: unknown) => {
    if (!(error instanceof KeystoreError)) throw error;
    throw keyError(error.message, `run ${program} by hand with the same arguments to see why`);
  });
}

function refuseOtherKey(jwk: Jwk, op: string): void {
  const alg = algorithmOf(op);
  if (!isOperationFor(op, jwk)) {
    throw usageError(`${op} is not for ${typeName(jwk)} keys`, "name an operation of this type of key, or another key");
  }
  if (isSymmetric(jwk) && naturalAlgorithm(jwk) !== alg) {
    throw usageError(`${op} is for symmetric keys of 256 bits`, "give a key of that size");
  }
  const obstacle = alg === undefined ? undefined : forbids(publicHalf(jwk), "wrap", alg);
  if (obstacle === undefined) return;
  const hint = "nothing was imported; name another operation, or remove that member from the key file";
  throw keyError(`the key cannot be used with ${op}: ${obstacle}`, hint);
}

/**
 * Wraps a random secret for a holder's public key, and has the holder open it with one operation.
 *
 * @param jwk the public key, for a256kw the symmetric key
 * @throws KeystoreError if the holder does not open it
 */
export async function tryHolder(holder: Holder, op: string, jwk: Jwk): Promise<void> {
  const alg = algorithmOf(op);
  const recipient = isSymmetric(jwk) ? jwk : publicHalf(jwk);
  const key = holderKey({ ...holder, ops: new Map([...holder.ops].filter(([name]) => name === op)) }, jwk);
  const secret = randomBytes(32);
  const jwe = await seal(secret, [{ kid: holder.kid, jwk: alg === undefined ? recipient : { ...recipient, alg } }]);
  const opened = await open(jwe, { privateKey: async () => key, privateKids: async () => [] });
  if (!opened.equals(secret)) throw new Error("a JWE opened as something else"); // only with a forged tag
}

/**
 * Writes both files. If the holder can do only one algorithm that is not the natural one (RSA-OAEP), the public JWK
 * names it, so that clients wrap with it. The order of the writes makes sure that at no instant somebody wraps with an
 * algorithm that the holder cannot do.
 */
function writeHolder(store: Store, jwk: Jwk, holder: Holder): void {
  const { kid, ops } = holder;
  const { paths } = store;
  makeFolder(paths.public, 0o755);
  makeFolder(paths.private, 0o700);
  const { alg, ...known } = store.publicKey(kid) ?? { ...publicHalf(jwk), kid, created: now() };
  const [op = "", ...more] = ops.keys();
  const only = more.length === 0 ? algorithmOf(op) : undefined;
  const narrow = only !== undefined && only !== naturalAlgorithm(jwk); // clients may wrap with `only` alone
  const wraps = narrow ? only : severalOperations(jwk) ? jwk.alg : alg;
  const writePublic = (): void => {
    writeFileSafely(paths.publicKey(kid), `${JSON.stringify({ ...known, alg: wraps })}\n`, "shared", "replace");
  };
  if (narrow) writePublic();
  writeFileSafely(paths.privateKey(kid, "holder"), holderFile(holder), "secret", "replace");
  if (!narrow) writePublic();
}
