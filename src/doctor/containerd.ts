// Checks of what keeps containerd from decrypting, by the text of its configuration.

import { existsSync, lstatSync, readdirSync } from "node:fs";
import { attempt, skip, type Check, type Outcome, type Report } from "./check.ts";
import { readConfigFile } from "./config-file.ts";
import { CONTAINERD_CONF, CONTAINERD_CONFIG, CONTAINERD_KEYS } from "./containerd-config.ts";
import { findProgram, isProgram } from "./programs.ts";

const SERVICE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"; // systemd.exec(5)
const DEFAULT_KEY_MODEL = "node"; // of CRI
const HINT = "see ocicrypt-keystore config --client containerd";

/** A check of the configuration's text. It is skipped if containerd is not installed. */
export function withContainerd(run: (text: string, report: Report) => Outcome | Promise<Outcome>): Check["run"] {
  return async ({ containerd }, report) => {
    return containerd === undefined ? skip("no containerd here") : await run(containerd, report);
  };
}

/** containerd can start its decoder. */
export function containerdDecoder(text: string, { warn }: Report): Outcome {
  const path = /^\s*path\s*=\s*["'](\/[^"']*ctd-decoder)["']/m.exec(text)?.[1];
  const program = path === undefined ? findProgram("ctd-decoder", SERVICE_PATH) : [path].find(isProgram);
  if (program !== undefined) return program;
  const hint = `install imgcrypt's ctd-decoder into a folder of ${SERVICE_PATH}`;
  warn(`${path ?? "ctd-decoder"} is not there for containerd to start`, hint);
  return "";
}

/** The decoder accepts its folder of keys. */
export async function containerdKeys(_text: string, { warn }: Report): Promise<Outcome> {
  const stat = lstatSync(CONTAINERD_KEYS, { throwIfNoEntry: false });
  if (stat === undefined) {
    const message = `${CONTAINERD_KEYS} is not there: ctd-decoder fails without it, even with no key file to read`;
    warn(message, `run mkdir -p ${CONTAINERD_KEYS}`);
  }
  const list = { recursive: true, withFileTypes: true } as const;
  const files = stat?.isDirectory() === true ? await attempt(warn, () => readdirSync(CONTAINERD_KEYS, list)) : [];
  if (stat?.isSymbolicLink() === true || files?.some((file) => file.isSymbolicLink()) === true) {
    const message = `${CONTAINERD_KEYS} is or holds a symlink, which ctd-decoder refuses`;
    warn(message, "put a real folder with real files there");
  }
  return `${CONTAINERD_KEYS} is there`;
}

/** The decoder's file of providers names this program. */
export function containerdProvider(text: string, { warn }: Report): Outcome {
  const path = /OCICRYPT_KEYPROVIDER_CONFIG=([^"']+)/.exec(text)?.[1] ?? CONTAINERD_CONF;
  if (!existsSync(path)) warn(`there is no ${path}: containerd's decoder knows no provider`, HINT);
  else if (!readConfigFile(path).providers.some(({ own }) => own)) warn(`no provider of ${path} is this program`, HINT);
  return `${path} names this program`;
}

/** Encrypted zstd layers get to the decoder too. */
export function containerdZstd(text: string, { warn }: Report): Outcome {
  if (!text.includes("tar+zstd+encrypted")) {
    warn("encrypted zstd layers have no stream processor: images with such layers are not decrypted", HINT);
  }
  return "encrypted zstd layers have a stream processor";
}

/** CRI is set to decrypt. */
export function containerdKeyModel(text: string, { warn }: Report): Outcome {
  const model = /^\s*key_model\s*=\s*["'](.*?)["']/m.exec(text)?.[1] ?? DEFAULT_KEY_MODEL;
  if (model !== "node") warn(`key_model is "${model}": CRI does not decrypt`, `set key_model = "node"; ${HINT}`);
  return 'key_model is "node"';
}

/** CRI pulls in the way that decrypts. */
export function containerdPull(text: string, { warn }: Report): Outcome {
  const version = /^\s*version\s*=\s*(\d+)/m.exec(text)?.[1];
  if (version === undefined) return skip(`no version in ${CONTAINERD_CONFIG}`);
  if (version !== "3") return `not needed by version ${version} of ${CONTAINERD_CONFIG}`;
  if (!/^\s*use_local_image_pull\s*=\s*true/m.test(text)) {
    const message = "containerd 2.1 and later pull by the transfer service, which does not decrypt";
    warn(message, `set use_local_image_pull = true; ${HINT}`);
  }
  return "use_local_image_pull is set";
}
