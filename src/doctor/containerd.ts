// What keeps containerd from decrypting, told from its configuration's text (CRI's key model is `node` unless it says otherwise).

import { existsSync, globSync, lstatSync, readdirSync, readFileSync } from "node:fs";
import { attempt, check, findProgram, isProgram, type Check } from "./check.ts";
import { readProviders } from "./config-file.ts";

/** Where containerd's own default configuration looks for providers. */
export const CONTAINERD_CONF = "/etc/containerd/ocicrypt/ocicrypt_keyprovider.conf";
/** The folder of key files that its default configuration names. */
export const CONTAINERD_KEYS = "/etc/containerd/ocicrypt/keys";

const CONFIG = "/etc/containerd/config.toml";
const SERVICE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"; // systemd.exec(5)
const HINT = "see ocicrypt-keystore config --client containerd";

/** Checks of what is below /etc/containerd; ok and not looked at where containerd is not installed. */
export async function containerdChecks(): Promise<Check[]> {
  const there = existsSync(CONFIG) || findProgram("containerd") !== undefined;
  const look: typeof check = async (id, body) => await check(id, there ? body : () => "no containerd here");
  const text = [CONFIG, ...globSync("/etc/containerd/conf.d/*.toml")].map(readText).join("\n").replace(/^\s*#.*$/gm, "");
  const checks = [
    look("containerd.decoder", (warn) => {
      const path = /^\s*path\s*=\s*["'](\/[^"']*ctd-decoder)["']/m.exec(text)?.[1];
      const found = path === undefined ? findProgram("ctd-decoder", SERVICE_PATH) : [path].find(isProgram);
      if (found === undefined) warn(`${path ?? "ctd-decoder"} is not there for containerd to start`, `install imgcrypt's ctd-decoder into a folder of ${SERVICE_PATH}`);
      return String(found);
    }),
    look("containerd.keys", async (warn) => {
      const stat = lstatSync(CONTAINERD_KEYS, { throwIfNoEntry: false });
      if (stat === undefined) warn(`${CONTAINERD_KEYS} is not there: ctd-decoder fails without it, even with no key file to read`, `run mkdir -p ${CONTAINERD_KEYS}`);
      const files = stat?.isDirectory() === true ? await attempt(warn, () => readdirSync(CONTAINERD_KEYS, { recursive: true, withFileTypes: true })) : [];
      if (stat?.isSymbolicLink() === true || files?.some((file) => file.isSymbolicLink()) === true) warn(`${CONTAINERD_KEYS} is or holds a symlink, which ctd-decoder refuses`, "put a real folder with real files there");
      return `${CONTAINERD_KEYS} is there`;
    }),
    look("containerd.provider", (warn) => {
      const conf = /OCICRYPT_KEYPROVIDER_CONFIG=([^"']+)/.exec(text)?.[1] ?? CONTAINERD_CONF;
      if (!existsSync(conf)) warn(`there is no ${conf}: containerd's decoder knows no provider`, HINT);
      else if (!readProviders(conf).some(({ own }) => own)) warn(`no provider of ${conf} is this program`, HINT);
      return `${conf} names this program`;
    }),
    look("containerd.zstd", (warn) => {
      if (!text.includes("tar+zstd+encrypted")) warn("encrypted zstd layers have no stream processor: images with such layers are not decrypted", HINT);
      return "encrypted zstd layers have a stream processor";
    }),
    look("containerd.key-model", (warn) => {
      const model = /^\s*key_model\s*=\s*["'](.*?)["']/m.exec(text)?.[1] ?? "node";
      if (model !== "node") warn(`key_model is "${model}": CRI does not decrypt`, `set key_model = "node"; ${HINT}`);
      return 'key_model is "node"';
    }),
    look("containerd.pull", (warn) => {
      const version = /^\s*version\s*=\s*(\d+)/m.exec(text)?.[1];
      if (version !== "3") return version === undefined ? `no version in ${CONFIG}` : `not needed by version ${version} of ${CONFIG}`;
      if (!/^\s*use_local_image_pull\s*=\s*true/m.test(text)) warn("containerd 2.1 and later pull by the transfer service, which does not decrypt", `set use_local_image_pull = true; ${HINT}`);
      return "use_local_image_pull is set";
    }),
  ];
  return (await Promise.all(checks)).flat();
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return ""; // not there, or not for this user
  }
}
