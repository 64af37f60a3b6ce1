// What several checks need, worked out once.

import { existsSync } from "node:fs";
import { secretFiles, type SecretFiles } from "../at-rest/secret-files.ts";
import { openStore, type Store } from "../keystore/store.ts";
import { readConfigFile, SETTING, type ConfigFile, type Provider } from "./config-file.ts";
import { CONTAINERD_CONF, readContainerds, type Containerd } from "./containerd-config.ts";
import { crioConfigFile } from "./crio.ts";

/** What every check is given. */
export interface Context {
  readonly store: Store;
  /** The files with the secrets of locked keys: those of the command line, else those that the provider is given. */
  readonly secretFiles: SecretFiles;
  /** The file in which clients look for providers; undefined if no file is named. */
  readonly config: ConfigFile | undefined;
  /** The provider of that file that starts this program to answer requests. */
  readonly provider: Provider | undefined;
  /** Where the configurations of containerd and CRI-O are: empty for this machine's own. */
  readonly root: string;
  /** The containerds of this machine. They are read when a check first asks, since a program is read for each. */
  readonly containerds: () => readonly Containerd[];
  /** Whether a check failed that ran before this one. */
  readonly failed: (id: string) => boolean;
}

/** The file that clients read: the one that the variable names, else containerd's, else CRI-O's. */
function findConfigFile(root: string): string | undefined {
  const named = process.env[SETTING];
  if (named !== undefined && named !== "") return named;
  const crio = crioConfigFile(root);
  return existsSync(root + CONTAINERD_CONF) ? root + CONTAINERD_CONF : crio && root + crio;
}

/**
 * The context of checks that have not run yet.
 *
 * @param given the files that the command line names
 * @param root where the configurations of containerd and CRI-O are
 */
export function newContext({ dir }: Store, given: SecretFiles, root = ""): Omit<Context, "failed"> {
  const path = findConfigFile(root);
  const config = path === undefined ? undefined : readConfigFile(path);
  const provider = config?.providers.find(({ own, options }) => own && options !== undefined);
  const files = {
    passphraseFile: given.passphraseFile ?? provider?.options?.passphraseFile,
    masterKeyFile: given.masterKeyFile ?? provider?.options?.masterKeyFile,
  };
  const store = openStore(dir, secretFiles(files));
  let read: readonly Containerd[] | undefined;
  return { store, secretFiles: files, config, provider, root, containerds: () => (read ??= readContainerds(root)) };
}
