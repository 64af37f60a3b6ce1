// The list of all checks, how it is run, and how what it finds is fixed.

import { asKeystoreError } from "../errors.ts";
import { removeLock } from "../fs/lock.ts";
import { isLeftBehind, lockOwner } from "../fs/lock-owner.ts";
import type { SecretFiles } from "../at-rest/secret-files.ts";
import { changeStore, storeLocks } from "../keystore/change.ts";
import type { RegistryAccess } from "../image/source/registry.ts";
import type { Store } from "../keystore/store.ts";
import { runCheck, type Check, type Finding } from "./check.ts";
import { anyClient, CLIENTS, knowsProvider } from "./clients.ts";
import {
  configArgs,
  configFile,
  configGrpc,
  configJson,
  configPath,
  configProvider,
  configVariable,
  withConfig,
} from "./config.ts";
import {
  containerdConfig,
  containerdDecoder,
  containerdKeyModel,
  containerdKeys,
  containerdLayers,
  containerdProvider,
  containerdPull,
  withContainerd,
  withItsConfig,
} from "./containerd.ts";
import { newContext, type Context } from "./context.ts";
import { crioConfig, crioKeys, crioProvider, withCrio } from "./crio.ts";
import { storeHolders } from "./holders.ts";
import { examineImage, type ImageFindings } from "./image.ts";
import { storeKeys, storeLocked, storeTwice, storeUnnamed } from "./keys.ts";
import { roundTrip } from "./round-trip.ts";
import {
  inStore,
  storeDefault,
  storeFolder,
  storeLeftovers,
  storeLock,
  storeModes,
  storeNames,
  storeOwners,
} from "./store.ts";

/** Checks of the store's files: those whose problems can have a fix. */
const STORE_CHECKS: readonly Check[] = [
  { id: "store", run: storeFolder },
  { id: "store.modes", run: inStore(storeModes) },
  { id: "store.owners", run: inStore(storeOwners) },
  { id: "store.leftovers", run: inStore(storeLeftovers) },
  { id: "store.lock", run: inStore(storeLock) },
  { id: "store.names", run: inStore(storeNames) },
  { id: "store.default", run: inStore(storeDefault) },
  { id: "store.keys", run: inStore(storeKeys) },
  { id: "store.unnamed", run: inStore(storeUnnamed) },
  { id: "store.twice", run: inStore(storeTwice) },
  { id: "store.locked", run: inStore(storeLocked) },
];

/** All checks, in the order in which they depend on each other. */
export const CHECKS: readonly Check[] = [
  ...STORE_CHECKS,
  { id: "store.holders", run: inStore(storeHolders) },
  { id: "config.variable", run: configVariable },
  { id: "config.file", run: withConfig(configFile) },
  { id: "config.json", run: withConfig(configJson) },
  { id: "config.provider", run: withConfig(configProvider) },
  { id: "config.path", run: withConfig(configPath) },
  { id: "config.args", run: withConfig(configArgs) },
  { id: "config.grpc", run: withConfig(configGrpc) },
  { id: "clients", run: anyClient },
  ...CLIENTS.map((name) => ({ id: `client.${name}`, run: knowsProvider(name) })),
  { id: "containerd.config", run: withContainerd(containerdConfig) },
  { id: "containerd.decoder", run: withItsConfig(containerdDecoder) },
  { id: "containerd.keys", run: withItsConfig(containerdKeys) },
  { id: "containerd.provider", run: withItsConfig(containerdProvider) },
  { id: "containerd.gzip", run: withItsConfig(containerdLayers("gzip")) },
  { id: "containerd.zstd", run: withItsConfig(containerdLayers("zstd")) },
  { id: "containerd.key-model", run: withItsConfig(containerdKeyModel) },
  { id: "containerd.pull", run: withItsConfig(containerdPull) },
  { id: "crio.config", run: withCrio(crioConfig) },
  { id: "crio.provider", run: withCrio(crioProvider) },
  { id: "crio.keys", run: withCrio(crioKeys) },
  { id: "round-trip", run: roundTrip },
];

/** Looks at one image, and names the one reason why this machine cannot open it. */
export async function diagnoseImage(
  image: string,
  store: Store,
  given: SecretFiles,
  access?: RegistryAccess,
): Promise<ImageFindings> {
  return await examineImage(image, { ...newContext(store, given), failed: () => false }, access);
}

/**
 * Looks at everything and changes nothing.
 *
 * @param root where the configurations of containerd and CRI-O are
 */
export async function examine(store: Store, given: SecretFiles, root = ""): Promise<Finding[]> {
  return await runChecks(CHECKS, newContext(store, given, root));
}

async function runChecks(checks: readonly Check[], known: Omit<Context, "failed">): Promise<Finding[]> {
  const findings: Finding[] = [];
  const failed = (id: string): boolean => findings.some((one) => one.id === id && one.status === "fail");
  for (const check of checks) findings.push(...(await runCheck(check, { ...known, failed })));
  return findings;
}

/**
 * Fixes what can be fixed without losing anything.
 *
 * @param force also remove the lock of a process that cannot be seen from here
 * @returns a line for each thing
 */
export async function fix(looked: Store, given: SecretFiles, force: boolean): Promise<string[]> {
  const context = newContext(looked, given);
  const { store } = context;
  const lines = new Map<string, string>();
  for (const path of storeLocks(store)) await fixLock(path, force, lines);
  const find = async (): Promise<Finding[]> => {
    const findings = await runChecks(STORE_CHECKS, context);
    return findings.filter((finding) => finding.fix !== undefined && !lines.has(finding.message));
  };
  if ((await find()).length === 0) return [...lines.values()]; // do not write to a store that needs nothing
  await changeStore(store, async () => {
    // A fix can reveal another problem, so repeat until none is left: a secret must be usable to open what is locked.
    for (let problems = await find(); problems.length > 0; problems = await find()) {
      for (const problem of problems) lines.set(problem.message, fixProblem(problem));
    }
  });
  return [...lines.values()];
}

function fixProblem(problem: Finding): string {
  try {
    problem.fix?.();
    return `fixed: ${problem.message}`;
  } catch (error) {
    return `not fixed: ${problem.message}: ${asKeystoreError(error).message}`;
  }
}

/** Removes a lock that is left behind. This does not take the lock: it could not, where a lock is in the way. */
async function fixLock(path: string, force: boolean, lines: Map<string, string>): Promise<void> {
  try {
    const owner = lockOwner(path);
    if (owner.state === "none" || (!isLeftBehind(owner) && !(force && owner.state === "unknown"))) return;
    await removeLock(path, owner);
    lines.set(path, `fixed: ${path} of ${owner.who} ${owner.where} is removed`);
  } catch (error) {
    lines.set(path, `not fixed: ${asKeystoreError(error).message}`);
  }
}
