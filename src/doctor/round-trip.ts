// Wraps and unwraps through the very program, started as a client starts it.

import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { KeystoreError, printable } from "../errors.ts";
import { locatePrivate, nameList, readDefault, readHeld, readName, readPublicKey } from "../keystore/store.ts";
import { timeLimit } from "../keys/holder.ts";
import { isSymmetric } from "../jwk/jwk.ts";
import { check, type Check } from "./check.ts";
import type { Provider } from "./config-file.ts";
import { resultIn, unwrapRequest, wrapRequest } from "./exchange.ts";

const TIME_LIMIT = 10_000; // ms for one start, beside what a holder may take

/**
 * A round trip for a key of `dir`, the provider's store.
 *
 * @param askHolders whether it may be a key that a command holds: one that has just failed may count wrong PINs
 */
export async function roundTrip(provider: Provider, dir: string, askHolders: boolean): Promise<Check[]> {
  return await check("round-trip", (warn, fail) => {
    const name = [readDefault(dir), ...nameList(dir)].find((one) => one !== undefined && wrapsAndOpens(dir, currentKid(dir, one), askHolders));
    if (name === undefined) {
      if (askHolders) warn(`not tried: no current key of ${dir} has its private key there`, "make one with ocicrypt-keystore keygen NAME, if images are to be decrypted here");
      else warn(`not tried: only commands hold the current keys of ${dir}, and not all of them work`, "mend what store.holders says");
      return "";
    }
    const held = readHeld(dir, currentKid(dir, name));
    const limits = held === undefined ? { env: scarceEnvironment(), timeout: TIME_LIMIT } : { env: process.env, timeout: TIME_LIMIT + timeLimit(held.holder) };
    const optsdata = randomBytes(32).toString("base64");
    const annotation = ask(provider, wrapRequest(provider.name, name, optsdata), "keywrapresults", "annotation", limits);
    const opened = ask(provider, unwrapRequest(annotation), "keyunwrapresults", "optsdata", limits);
    if (opened !== optsdata) fail(`${name}: what was unwrapped is not what was wrapped`, "please report it");
    return `wrapped for ${name} and unwrapped, by ${provider.path}`;
  });
}

function currentKid(dir: string, name: string): string {
  return readName(dir, name)?.[0] ?? "";
}

/** A symmetric key with a holder only opens. */
function wrapsAndOpens(dir: string, kid: string, askHolders: boolean): boolean {
  const kind = locatePrivate(dir, kid)?.kind;
  if (kind !== "holder") return kind !== undefined;
  const jwk = readPublicKey(dir, kid);
  return askHolders && jwk !== undefined && !isSymmetric(jwk);
}

/** What containerd passes on. A holder's command gets what this process has instead: what it needs is its own affair. */
function scarceEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([variable]) => variable.startsWith("OCICRYPT_") || variable === "CREDENTIALS_DIRECTORY"));
}

interface Limits {
  readonly env: NodeJS.ProcessEnv;
  /** ms */
  readonly timeout: number;
}

/** One request to the provider: a member of the result it answers with. */
function ask({ path, args }: Provider, request: string, result: string, name: string, limits: Limits): string {
  const { error, status, stdout, stderr } = spawnSync(path, args, { ...limits, input: request, cwd: "/", killSignal: "SIGKILL", encoding: "utf8" });
  if (status !== 0) {
    const line = /.+/.exec(stderr ?? "")?.[0]?.replace(/^ocicrypt-keystore: /, "") ?? error?.message ?? `killed after ${limits.timeout / 1000} s`;
    throw failure(`${path} failed (exit code ${status}): ${printable(line, 600)}`);
  }
  const value = resultIn(Buffer.from(stdout), result, name, (reason) => failure(`${path} gave an answer that ${reason}`));
  if (typeof value !== "string") throw failure(`${path} gave an answer without ${result}.${name}`);
  return value;
}

function failure(message: string): KeystoreError {
  return new KeystoreError("io", message, "mend what it says; clients get the same answer");
}
