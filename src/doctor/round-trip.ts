// The check that wraps and unwraps with the program itself, started as a client starts it.

import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { ioError, KeystoreError, printable } from "../errors.ts";
import { timeLimit } from "../keys/holder.ts";
import { storeLocation } from "../keystore/location.ts";
import { openStore, type Store } from "../keystore/store.ts";
import { isSymmetric } from "../jwk/jwk.ts";
import { skip, type Outcome, type Report } from "./check.ts";
import type { Provider } from "./config-file.ts";
import type { Context } from "./context.ts";
import { resultIn, unwrapRequest, wrapRequest } from "./exchange.ts";

const TIME_LIMIT = 10_000; // ms for one start, beside what a holder may take

/** A round trip through the client's provider and its store; through this store if no provider is this program. */
export function roundTrip(context: Context, { warn, fail }: Report): Outcome {
  const provider = context.provider ?? asConfigured(context);
  const store = storeOf(context);
  const { dir } = store;
  const unusable = dir === context.store.dir ? context.failed("store") : !existsSync(dir);
  if (unusable) return skip(`no key store to use at ${dir}`);
  const askHolders = !context.failed("store.holders"); // a token may count wrong PINs
  const names = [store.defaultName(), ...store.names()].filter((one) => one !== undefined);
  const name = names.find((one) => wrapsAndOpens(store, currentKid(store, one), askHolders));
  if (name === undefined && !askHolders) {
    return skip(`only commands hold the current keys of ${dir}, and not all of them work: see store.holders`);
  }
  if (name === undefined) {
    const hint = "make one with ocicrypt-keystore keygen NAME, if images are to be decrypted here";
    warn(`not tried: no current key of ${dir} has its private key there`, hint);
    return "";
  }
  const limits = limitsFor(store, name);
  const optsdata = randomBytes(32).toString("base64");
  const wrapping = wrapRequest(provider.name, name, optsdata);
  const annotation = request(provider, wrapping, "keywrapresults", "annotation", limits);
  const opened = request(provider, unwrapRequest(annotation), "keyunwrapresults", "optsdata", limits);
  if (opened !== optsdata) fail(`${name}: what was unwrapped is not what was wrapped`, "please report it");
  return `wrapped for ${name} and unwrapped, by ${provider.path}`;
}

/** The store of the client's provider, else the one that doctor looks at. */
function storeOf({ provider, store }: Context): Store {
  return provider === undefined ? store : openStore(storeLocation(provider.options?.keystore), store.secrets);
}

/** This program as `config` would name it. */
function asConfigured({ store: { dir }, secretFiles: { passphraseFile, masterKeyFile } }: Context): Provider {
  const options = {
    keystore: dir,
    provider: "keystore",
    ...(passphraseFile && { "passphrase-file": passphraseFile }),
    ...(masterKeyFile && { "master-key-file": masterKeyFile }),
  };
  const args = Object.entries(options).flatMap(([name, value]) => [`--${name}`, value]);
  return { name: "keystore", path: process.execPath, args, options: undefined, own: true };
}

function currentKid(store: Store, name: string): string {
  return store.kidsOf(name)?.[0] ?? "";
}

/** Whether a key can be tried. A symmetric key with a holder cannot wrap. */
function wrapsAndOpens(store: Store, kid: string, askHolders: boolean): boolean {
  const form = store.locate(kid)?.form;
  if (form !== "holder") return form !== undefined;
  const jwk = store.publicKey(kid);
  return askHolders && jwk !== undefined && !isSymmetric(jwk);
}

interface Limits {
  readonly env: NodeJS.ProcessEnv;
  /** ms */
  readonly timeout: number;
}

/** Starts have the environment that containerd passes on; if the key has a holder, ours, which its command may need. */
function limitsFor(store: Store, name: string): Limits {
  const held = store.held(currentKid(store, name));
  if (held !== undefined) return { env: process.env, timeout: TIME_LIMIT + timeLimit(held.holder) };
  const variables = Object.entries(process.env);
  const passed = variables.filter(([key]) => key.startsWith("OCICRYPT_") || key === "CREDENTIALS_DIRECTORY");
  return { env: Object.fromEntries(passed), timeout: TIME_LIMIT };
}

/** Sends one request to the provider: a member of the result in its answer. */
function request({ path, args }: Provider, input: string, result: string, name: string, limits: Limits): string {
  const options = { ...limits, input, cwd: "/", killSignal: "SIGKILL", encoding: "utf8" } as const;
  const { error, status, stdout, stderr } = spawnSync(path, args, options);
  if (status !== 0) {
    const said = /.+/.exec(stderr ?? "")?.[0]?.replace(/^ocicrypt-keystore: /, "");
    const line = said ?? error?.message ?? `killed after ${limits.timeout / 1000} s`;
    throw failure(`${path} failed (exit code ${status}): ${printable(line, 600)}`);
  }
  const wrong = (reason: string): KeystoreError => failure(`${path} gave an answer that ${reason}`);
  const value = resultIn(Buffer.from(stdout), result, name, wrong);
  if (typeof value !== "string") throw failure(`${path} gave an answer without ${result}.${name}`);
  return value;
}

function failure(message: string): KeystoreError {
  return ioError(message, "fix what it says; clients get the same answer");
}
