// What several checks need, worked out once.

import { secretFiles, type SecretFiles } from "../at-rest/secret-files.ts";
import { openStore, type Store } from "../keystore/store.ts";
import { findConfigFile, readConfigFile, type ConfigFile, type Provider } from "./config-file.ts";
import { readContainerdConfig } from "./containerd-config.ts";

/** What every check is given. */
export interface Context {
  readonly store: Store;
  /** The files with the secrets of locked keys: those of the command line, else those that the provider is given. */
  readonly secretFiles: SecretFiles;
  /** The file in which clients look for providers; undefined if no file is named. */
  readonly config: ConfigFile | undefined;
  /** The provider of that file that starts this program to answer requests. */
  readonly provider: Provider | undefined;
  /** The text of containerd's configuration; undefined if containerd is not installed. */
  readonly containerd: string | undefined;
  /** Whether a check failed that ran before this one. */
  readonly failed: (id: string) => boolean;
}

/** The context of checks that have not run yet. @param given the files that the command line names */
export function newContext({ dir }: Store, given: SecretFiles): Omit<Context, "failed"> {
  const path = findConfigFile();
  const config = path === undefined ? undefined : readConfigFile(path);
  const provider = config?.providers.find(({ own, options }) => own && options !== undefined);
  const files = {
    passphraseFile: given.passphraseFile ?? provider?.options?.passphraseFile,
    masterKeyFile: given.masterKeyFile ?? provider?.options?.masterKeyFile,
  };
  const store = openStore(dir, secretFiles(files));
  return { store, secretFiles: files, config, provider, containerd: readContainerdConfig() };
}
