// Checks of what keeps CRI-O from decrypting: its unit's environment, and its configuration.

import { existsSync, globSync, statSync } from "node:fs";
import { member } from "../json.ts";
import { skip, type Check, type Note, type Outcome, type Report } from "./check.ts";
import { SETTING } from "./config-file.ts";
import type { Context } from "./context.ts";
import { keysFolder, usableProviders } from "./node-provider.ts";
import { findProgram } from "./programs.ts";
import { readToml, tableIn, UNREADABLE } from "./toml.ts";
import { unitEnvironment } from "./units.ts";

/** The file of providers that CRI-O's unit names. */
export function crioConfigFile(root: string): string | undefined {
  return unitEnvironment(root, "crio").get(SETTING) || undefined;
}

const FOLDER = "/etc/crio";
const DEFAULT_KEYS = "/etc/crio/keys/";
const HINT = "see ocicrypt-keystore config --client crio";

/** A check of CRI-O. It is skipped if CRI-O is not installed. */
export function withCrio(
  run: (root: string, warn: Note, context: Context) => Outcome | Promise<Outcome>,
): Check["run"] {
  return async (context, { warn }: Report) => {
    const { root } = context;
    const here = existsSync(root + FOLDER) || findProgram("crio") !== undefined;
    return here ? await run(root, warn, context) : skip("no CRI-O here");
  };
}

/** CRI-O starts with its configuration. */
export function crioConfig(root: string, warn: Note): Outcome {
  const files = configFiles(root);
  for (const path of files) {
    const toml = readToml(root + path);
    if (toml !== undefined && "refused" in toml)
      warn(`${path} ${toml.refused}: CRI-O does not start`, "correct the file");
    if (toml !== undefined && "unreadable" in toml) warn(`${path} ${UNREADABLE[0]}`, UNREADABLE[1]);
  }
  return files.length === 0 ? skip(`there is no configuration in ${FOLDER}`) : `${files.join(", ")} is read`;
}

/** CRI-O's environment names a file of providers that work. */
export async function crioProvider(root: string, warn: Note, context: Context): Promise<Outcome> {
  const file = crioConfigFile(root);
  if (file === undefined) {
    warn(`${SETTING} is not set for crio.service: CRI-O knows no provider`, `set it in crio.service.d; ${HINT}`);
    return "";
  }
  return await usableProviders(root, file, "CRI-O", HINT, warn, context);
}

/** CRI-O accepts its folder of keys, which may be missing. */
export async function crioKeys(root: string, warn: Note): Promise<Outcome> {
  let folder = DEFAULT_KEYS;
  for (const path of configFiles(root)) {
    const toml = readToml(root + path);
    if (toml !== undefined && "unreadable" in toml) return skip(`${path} ${UNREADABLE[0]}`);
    const found =
      toml && "table" in toml ? member(tableIn(toml.table, "crio", "runtime"), "decryption_keys_path") : undefined;
    if (typeof found === "string") folder = found;
  }
  const there = folder !== "" && (await keysFolder(root, folder, "CRI-O", warn));
  return there ? `${folder} is there` : skip(`there is no folder of keys ${folder}: CRI-O needs none`);
}

function configFiles(root: string): string[] {
  const dropIns = globSync(`${root}${FOLDER}/crio.conf.d/**/*`).map((path) => path.slice(root.length));
  return [`${FOLDER}/crio.conf`, ...dropIns.toSorted()].filter((path) => {
    return existsSync(root + path) && statSync(root + path).isFile();
  });
}
