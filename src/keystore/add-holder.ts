// Adding a key whose private part a command holds: only after it has opened what was wrapped for its public key.

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
import { algorithmOf, holderFile, holderKey, isOperationFor, MAX_WORDS, HOLDER_OPERATION_NAMES, readHolder, severalOperations, usableCommand, type Holder } from "../keys/holder.ts";

/**
 * Adds a key under a name, with the command that does one operation for its private key; or the operation to a key
 * that has a holder already.
 *
 * @param jwk its checked public key, for a256kw the symmetric key; whatever is private in it is not stored
 * @param command an absolute path and arguments
 * @param force where the name is taken, or the key has a holder
 * @returns the key's kid
 * @throws KeystoreError `usage` if the operation is not for that key or the command is none, `key` if it does not open
 * what was wrapped for the key, `store` if the name or the key is taken
 */
export async function addHolder(store: Store, name: string, jwk: Jwk, op: string, command: readonly string[], force: boolean): Promise<string> {
  const kid = kidOf(jwk);
  const [program, ...args] = command;
  if (!HOLDER_OPERATION_NAMES.includes(op)) throw usageError(`no operation ${op}`, `use ${HOLDER_OPERATION_NAMES.join(", ")}`);
  if (program === undefined) throw usageError("no command to ask the holder with", "end the line with -- COMMAND ARG…");
  if (!program.startsWith("/")) throw usageError("the holder's command is not an absolute path", "name it with its whole path: nothing is looked for in PATH");
  if (command.length > MAX_WORDS) throw usageError(`the holder's command has more than ${MAX_WORDS} words`, "put it into a script, and name that");
  refuseOtherKey(jwk, op);

  const added = new Map([[op, [program, ...args] as const]]);
  await tryNew({ kid, ops: added }, op, jwk).catch((error: unknown) => {
    throw error instanceof KeystoreError ? keyError(error.message, `nothing was imported; ${error.hint}`) : error;
  });
  await addNamed(store, name, kid, force, () => {
    const form = store.locate(kid)?.form;
    if (form === "jwk" || form === "jwe") {
      throw storeError(`the private key ${kid} itself is in the store, and no holder would be asked`, "export it as a backup if its holder has none, ocicrypt-keystore remove it with --force, then import again");
    }
    const known = readHolder(store.paths.privateKey(kid, "holder"), kid);
    // An import that was interrupted before the name was there is repeated as it was.
    const repeated = store.kidsOf(name) === undefined && isDeepStrictEqual(known?.ops, added);
    if (known !== undefined && !force && !repeated) throw storeError(`the key ${kid} has a holder under another name`, "add --force to give it this operation too, or import the public key alone for a second name");
    const holder = { ...known, kid, ops: new Map([...(known?.ops ?? []), ...added]) };
    write(store, jwk, holder);
  });
  return kid;
}

/** Tries a holder that is not in the store: what fails is to be looked for in its command. */
async function tryNew(holder: Holder, op: string, jwk: Jwk): Promise<void> {
  const [program] = usableCommand(holder, op);
  await tryHolder(holder, op, jwk).catch((error: unknown) => {
    throw error instanceof KeystoreError ? keyError(error.message, `run ${program} by hand with the same arguments to see why`) : error;
  });
}

function refuseOtherKey(jwk: Jwk, op: string): void {
  const alg = algorithmOf(op);
  if (!isOperationFor(op, jwk)) throw usageError(`${op} is not for ${typeName(jwk)} keys`, "name the operation that its holder does, or another key");
  if (isSymmetric(jwk) && naturalAlgorithm(jwk) !== alg) throw usageError(`${op} is for symmetric keys of 256 bits`, "give such a one");
  const obstacle = alg === undefined ? undefined : forbids(publicHalf(jwk), "wrap", alg);
  if (obstacle !== undefined) throw keyError(`the key cannot be used with ${op}: ${obstacle}`, "nothing was imported; name another operation, or give the key without that");
}

/**
 * Has a holder open what is wrapped for its public key with one operation.
 *
 * @param jwk the public key, for a256kw the symmetric key
 * @throws KeystoreError if it does not
 */
export async function tryHolder(holder: Holder, op: string, jwk: Jwk): Promise<void> {
  const alg = algorithmOf(op);
  const recipient = isSymmetric(jwk) ? jwk : publicHalf(jwk);
  const key = holderKey({ ...holder, ops: new Map([...holder.ops].filter(([one]) => one === op)) }, jwk);
  const secret = randomBytes(32);
  const jwe = await seal(secret, [{ kid: holder.kid, jwk: alg === undefined ? recipient : { ...recipient, alg } }]);
  const opened = await open(jwe, { privateKey: async () => key, privateKids: async () => [] });
  if (!opened.equals(secret)) throw new Error("a JWE that opens as another"); // its tag would have to be forged
}

/**
 * Writes both files. A key that does RSA-OAEP alone says so in its public JWK, so that it is wrapped for with that. At
 * no instant is it wrapped for with what its holder cannot do.
 */
function write(store: Store, jwk: Jwk, holder: Holder): void {
  const { kid, ops } = holder;
  const { paths } = store;
  makeFolder(paths.public, 0o755);
  makeFolder(paths.private, 0o700);
  const { alg, ...known } = store.publicKey(kid) ?? { ...publicHalf(jwk), kid, created: now() };
  const [op = "", ...more] = ops.keys();
  const only = more.length === 0 ? algorithmOf(op) : undefined;
  const narrow = only !== undefined && only !== naturalAlgorithm(jwk); // it is wrapped for with that alone
  const wraps = narrow ? only : severalOperations(jwk) ? jwk.alg : alg;
  const writePublic = (): void => writeFileSafely(paths.publicKey(kid), `${JSON.stringify({ ...known, alg: wraps })}\n`, "shared", "replace");
  if (narrow) writePublic();
  writeFileSafely(paths.privateKey(kid, "holder"), holderFile(holder), "secret", "replace");
  if (!narrow) writePublic();
}
