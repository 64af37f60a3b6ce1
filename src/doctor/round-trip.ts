// The check that wraps and unwraps through the providers of the configuration, started as a client starts them.

import { randomBytes } from "node:crypto";
import { KeystoreError } from "../errors.ts";
import { partRecipients } from "../image/parts.ts";
import { timeLimit } from "../keys/holder.ts";
import { storeLocation } from "../keystore/location.ts";
import { NO_RECIPIENT } from "../keystore/paths.ts";
import { openStore, type Store } from "../keystore/store.ts";
import { isSymmetric } from "../jwk/jwk.ts";
import { attempt, quietly, skip, type Note, type Outcome, type Report } from "./check.ts";
import { start, StartError, TIME_LIMIT } from "./command.ts";
import { realPath, type ConfigFile, type Provider } from "./config-file.ts";
import type { Context } from "./context.ts";
import { unwrapRequest, wrapRequest } from "./exchange.ts";
import { decryptsOnly } from "./keys.ts";
import { lookPath } from "./programs.ts";

const SECRET = 32; // bytes that are wrapped

/** A round trip through each provider that {@link triedProviders} names; through this program if no file is named. */
export async function roundTrip(context: Context, report: Report): Promise<Outcome> {
  const { config } = context;
  if (config === undefined) return tryOwn(asConfigured(context), context, report);
  const { path, providers, servers } = config;
  if (providers.length === 0) {
    return skip(
      servers.length > 0 ? `${path} names servers: see config.grpc` : `${path} has no provider that is started`,
    );
  }
  const tried = triedProviders(config);
  if (tried.length === 0) return skip(`no provider of ${path} can be started: see config.path and config.args`);
  const outcomes = [];
  for (const provider of tried) {
    const tryIt = async (): Promise<Outcome> =>
      provider.own ? tryOwn(provider, context, report) : tryOther(provider, context, report);
    outcomes.push((await attempt(report.fail, tryIt)) ?? "");
  }
  const skipped = outcomes.find((outcome) => typeof outcome !== "string");
  return skipped ?? outcomes.filter((outcome) => typeof outcome === "string").join("; ");
}

/**
 * The providers to try: those that are this program; if there is none and no server, whatever else the file names,
 * since one of them may be a wrapper of this program.
 */
function triedProviders({ providers, servers }: ConfigFile): Provider[] {
  const own = providers.filter((provider) => provider.own);
  const meant = own.length > 0 || servers.length > 0 ? own : providers;
  return meant.filter(({ path, options, own: isOwn }) => {
    return lookPath(path).path !== undefined && !(isOwn && options === undefined);
  });
}

/** A round trip through each provider and server of a file. Whatever fails is a warning. */
export async function tryAll(config: ConfigFile, context: Context, warn: Note): Promise<void> {
  const report = { warn, fail: warn };
  for (const provider of triedProviders(config)) {
    await attempt(warn, () => (provider.own ? tryOwn : tryOther)(provider, context, report));
  }
  if (config.servers.length === 0) return;
  const { tryServer } = await import("./grpc.ts");
  for (const server of config.servers)
    await attempt(warn, async () => await tryServer(server, context.store.names()[0]));
}

/** Tries this program as a provider, with a key of the store that its entry names. */
function tryOwn(provider: Provider, context: Context, { warn, fail }: Report): Outcome {
  const store = storeOf(provider, context);
  const { dir } = store;
  if (realPath(dir) === realPath(context.store.dir) && context.failed("store"))
    return skip(`no key store to use at ${dir}`);
  const askHolders = !context.failed("store.holders"); // a token may count wrong PINs
  const names = [store.defaultName(), ...store.names()].filter((one) => one !== undefined);
  if (decryptsOnly(store)) return skip(`${dir} has only private keys, which decrypt`);
  const name = names.find((one) => wrapsAndOpens(store, currentKid(store, one), askHolders));
  if (name === undefined && !askHolders) {
    return skip(`only commands hold the current keys of ${dir}, and not all of them work: see store.holders`);
  }
  const optsdata = randomBytes(SECRET);
  if (name === undefined) {
    const recipient = names.find((one) => wraps(store, currentKid(store, one)));
    const wrapping = recipient !== undefined || (names.length === 0 && context.config !== undefined);
    if (wrapping) start(provider, wrapRequest(provider.name, recipient ?? NO_RECIPIENT, optsdata), "keywrapresults");
    const tried = wrapping ? `wrapped for ${recipient ?? "the default key"}; unwrapping was not tried` : "not tried";
    const hint = "make one with ocicrypt-keystore keygen NAME, if images are to be decrypted here";
    warn(`${tried}: no current key of ${dir} has its private key there`, hint);
    return "";
  }
  const held = store.held(currentKid(store, name));
  const timeout = held === undefined ? TIME_LIMIT : TIME_LIMIT + timeLimit(held.holder);
  const annotation = start(provider, wrapRequest(provider.name, name, optsdata), "keywrapresults", timeout);
  const opened = start(provider, unwrapRequest(annotation), "keyunwrapresults", timeout);
  if (!opened.equals(optsdata)) fail(`${name}: what was unwrapped is not what was wrapped`, "please report it");
  return `wrapped for ${name} and unwrapped, by ${provider.path}`;
}

/** What came of a round trip through another program. */
interface Trial {
  readonly error?: KeystoreError;
  /** Whether it wraps and cannot unwrap what it wrapped, since no usable key here opens it. */
  readonly onlyWraps?: boolean;
  /** Whether it wrapped for a key of the store that is checked. */
  readonly ours: boolean;
}

const trials = new WeakMap<Provider, Trial>();

/** Tries another program, which may be a wrapper of this one. */
function tryOther(provider: Provider, context: Context, { warn, fail }: Report): Outcome {
  const { path, name } = provider;
  const { error, onlyWraps } = trialOf(provider, context);
  if (error === undefined) return `provider ${name} wrapped and unwrapped, by ${path}`;
  const wrong = `provider ${name}: ${error.message}`;
  if (onlyWraps === true) warn(`${wrong}: it wraps, and does not unwrap here`, error.hint);
  else fail(wrong, `${error.hint}, or name this program as ocicrypt-keystore config prints it`);
  return "";
}

/** Whether one of the programs wraps for keys of the store that is checked, as a wrapper of this program does. */
export function wrapsForUs(providers: readonly Provider[], context: Context): boolean {
  return providers.some((provider) => lookPath(provider.path).path !== undefined && trialOf(provider, context).ours);
}

function trialOf(provider: Provider, context: Context): Trial {
  const trial = trials.get(provider) ?? tryRoundTrip(provider, context.store);
  trials.set(provider, trial);
  return trial;
}

function tryRoundTrip(provider: Provider, store: Store): Trial {
  const usable = store.names().find((name) => wrapsAndOpens(store, currentKid(store, name), false));
  const recipients = [NO_RECIPIENT, usable].filter((one) => one !== undefined);
  const optsdata = randomBytes(SECRET);
  let ours = false;
  let error: KeystoreError | undefined;
  for (const recipient of recipients) {
    let wrapped = false;
    try {
      const annotation = start(provider, wrapRequest(provider.name, recipient, optsdata), "keywrapresults");
      wrapped = true;
      ours = partRecipients(annotation).some(({ kid }) => kid !== undefined && store.publicKids().includes(kid));
      const opened = start(provider, unwrapRequest(annotation), "keyunwrapresults");
      if (opened.equals(optsdata)) return { ours };
      throw new KeystoreError("io", `what ${provider.path} unwrapped is not what it wrapped`, "fix that program");
    } catch (thrown) {
      if (!(thrown instanceof KeystoreError)) throw thrown;
      const onlyWraps = wrapped && usable === undefined && thrown instanceof StartError && thrown.status === 3;
      if (onlyWraps) return { ours, error: thrown, onlyWraps };
      error ??= thrown;
    }
  }
  return { ours, ...(error && { error }) };
}

/** ms for one start that may ask a holder of a store, whichever it is. */
export function patienceWith(store: Store): number {
  const held = (quietly(() => store.heldKids()) ?? []).flatMap((kid) => quietly(() => store.held(kid)) ?? []);
  return TIME_LIMIT + Math.max(0, ...held.map(({ holder }) => timeLimit(holder)));
}

/** The store of a provider that is this program. */
export function storeOf({ options }: Provider, { store }: Context): Store {
  return openStore(storeLocation(options?.keystore), store.secrets);
}

/** This program as `config` would name it. */
function asConfigured({ store: { dir }, secretFiles: { passphraseFile, masterKeyFile } }: Context): Provider {
  const options = { keystore: dir, provider: "keystore" };
  const secrets = {
    ...(passphraseFile && { "passphrase-file": passphraseFile }),
    ...(masterKeyFile && { "master-key-file": masterKeyFile }),
  };
  const args = Object.entries({ ...options, ...secrets }).flatMap(([name, value]) => [`--${name}`, value]);
  return { name: "keystore", path: process.execPath, args, options, own: true };
}

function currentKid(store: Store, name: string): string {
  return store.kidsOf(name)?.[0] ?? "";
}

/** Whether there is what wraps for a key: for a symmetric one, the key itself. */
function wraps(store: Store, kid: string): boolean {
  const jwk = store.publicKey(kid);
  const form = store.locate(kid)?.form;
  return jwk !== undefined && !(isSymmetric(jwk) && (form === undefined || form === "holder"));
}

/** Whether a key can be tried. */
function wrapsAndOpens(store: Store, kid: string, askHolders: boolean): boolean {
  const form = store.locate(kid)?.form;
  return form !== undefined && (form !== "holder" || askHolders) && wraps(store, kid);
}
