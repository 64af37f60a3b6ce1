// Checks of what keeps containerd from decrypting: its configuration, and what that names.

import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { isObject, member, type JsonObject } from "../json.ts";
import { skip, type Check, type Note, type Outcome, type Report } from "./check.ts";
import { SETTING } from "./config-file.ts";
import {
  CONTAINERD_CONF,
  DECODERS,
  isAboutDecryption,
  LAYER,
  type Containerd,
  type StreamProcessor,
} from "./containerd-config.ts";
import type { Context } from "./context.ts";
import { keysFolder, usableProviders } from "./node-provider.ts";
import { findProgram, isProgram } from "./programs.ts";
import { tableIn, UNREADABLE } from "./toml.ts";
import { unitEnvironment } from "./units.ts";

const CONFIG = "see ocicrypt-keystore config --client";
const NO_CRI = "disabled_plugins turns CRI off";

/** The units that start a containerd. */
const UNITS = { containerd: ["containerd"], k3s: ["k3s", "k3s-agent"], rke2: ["rke2-server", "rke2-agent"] } as const;

/** Where to read how it is set up. */
function setUp({ distribution }: Containerd): string {
  return `${CONFIG} ${distribution === undefined ? "containerd" : "k3s"}`;
}

type ContainerdCheck = (containerd: Containerd, warn: Note, context: Context) => Outcome | Promise<Outcome>;

/** A check of each containerd here. It is skipped if there is none. */
export function withContainerd(run: ContainerdCheck): Check["run"] {
  return async (context, { warn }: Report) => {
    const outcomes = [];
    for (const containerd of context.containerds()) outcomes.push(await run(containerd, warn, context));
    if (outcomes.length === 0) return skip("no containerd here");
    const said = outcomes.filter((outcome) => typeof outcome === "string");
    return said.length === 0 ? (outcomes[0] ?? "") : said.join("; ");
  };
}

/** A check of each containerd here, which is skipped if its configuration cannot be read. */
export function withItsConfig(run: ContainerdCheck): Check["run"] {
  return withContainerd((containerd, warn, context) => {
    const { unreadable } = containerd;
    return unreadable === undefined ? run(containerd, warn, context) : skip(`${unreadable} ${UNREADABLE[0]}`);
  });
}

/** containerd starts with its configuration, and reads all files that are meant for it. */
export function containerdConfig(containerd: Containerd, warn: Note, { root }: Context): Outcome {
  const { file, refused, unreadable, unread, distribution } = containerd;
  if (unreadable !== undefined) {
    warn(`${unreadable} ${UNREADABLE[0]}`, UNREADABLE[1]);
    return "";
  }
  if (refused !== undefined) {
    const merge = /redefin|already|existing|duplicate/i.test(refused) ? "merge the two tables" : "correct the file";
    const template = `correct the template beside ${file}, then restart ${distribution}`;
    warn(`${refused}: containerd does not start`, distribution === undefined ? merge : template);
  }
  for (const path of unread) {
    const imports = `add imports = ["${dirname(path)}/*.toml"] to ${file}, above its first table`;
    const template = `write what it has into the template beside ${file}; ${setUp(containerd)}`;
    warn(
      `${path} is not read: ${existsSync(root + file) ? `${file} does not import it` : `there is no ${file}`}`,
      distribution === undefined ? imports : template,
    );
  }
  if (distribution !== undefined) checkTemplate(containerd, distribution, warn, root);
  return existsSync(root + file) ? `${file} is read` : skip(`there is no ${file}`);
}

/** k3s and RKE2 write the file again at each start: what is not in the template is lost. */
function checkTemplate({ file }: Containerd, distribution: string, warn: Note, root: string): void {
  const folder = dirname(file);
  const templates = ["config-v3.toml.tmpl", "config.toml.tmpl"].map((name) => join(folder, name));
  const present = templates.filter((path) => existsSync(root + path));
  const about = (path: string): boolean => isAboutDecryption(root + path);
  if (about(file) && !present.some(about)) {
    const lost = `${file} has settings that no template has: ${distribution} makes it again at each start`;
    warn(lost, `write them into ${templates[0]} (before k3s 1.32: ${templates[1]}), below {{ template "base" . }}`);
  }
  const [template] = present.filter(about);
  if (template !== undefined && !about(file)) {
    warn(
      `${file} was not made from ${template}`,
      `restart ${distribution}; containerd 2 reads config-v3.toml.tmpl only`,
    );
  }
}

/** containerd can start its decoders. */
export function containerdDecoder({ processors, path }: Containerd, warn: Note, { root }: Context): Outcome {
  const found = new Set<string>();
  for (const name of new Set(decoders(processors).map((one) => one.path))) {
    const program = name.startsWith("/") ? [root + name].find(isProgram) : findProgram(name, path);
    if (program !== undefined) found.add(program);
    else {
      const hint = name.startsWith("/")
        ? `install it there, or name it by path = "ctd-decoder"`
        : `into a folder of ${path}`;
      warn(`${name || "a decoder"} is not there for containerd to start`, `install imgcrypt's ctd-decoder: ${hint}`);
    }
  }
  return [...found].join(", ");
}

/** The decoders accept their folder of keys. */
export async function containerdKeys({ processors }: Containerd, warn: Note, { root }: Context): Promise<Outcome> {
  const folders = new Set(decoders(processors).flatMap((one) => keysPath(one) ?? []));
  for (const folder of folders) {
    if (await keysFolder(root, folder, "ctd-decoder", warn)) continue;
    const message = `${folder} is not there: ctd-decoder fails without it, even with no key file to read`;
    warn(message, `run mkdir -p ${folder}`);
  }
  return folders.size === 0 ? skip("no decoder has a folder of keys") : `${[...folders].join(", ")} is there`;
}

/** The decoders' files of providers name providers that work. */
export async function containerdProvider(containerd: Containerd, warn: Note, context: Context): Promise<Outcome> {
  const { root } = context;
  const units = UNITS[containerd.distribution ?? "containerd"].map((unit) => unitEnvironment(root, unit).get(SETTING));
  const unit = units.find((file) => file !== undefined && file !== "");
  const files = new Set<string>();
  for (const { id, env } of decoders(containerd.processors)) {
    const assigned = env.findLast((one) => one.startsWith(`${SETTING}=`))?.slice(SETTING.length + 1);
    const file = assigned ?? unit;
    if (file !== undefined && file !== "") files.add(file);
    else
      warn(
        `${id} has no ${SETTING} in its env: its decoder knows no provider`,
        `add env = ["${SETTING}=${CONTAINERD_CONF}"]`,
      );
  }
  const said = [];
  const hint = setUp(containerd);
  for (const file of files) said.push(await usableProviders(root, file, "containerd's decoder", hint, warn, context));
  return said.join(", ");
}

/** Encrypted layers of one compression get to a decoder that gets their keys. */
export function containerdLayers(suffix: "gzip" | "zstd"): ContainerdCheck {
  return (containerd, warn) => {
    const hint = setUp(containerd);
    const accepting = containerd.processors.filter(({ accepts }) => accepts.includes(`${LAYER}+${suffix}+encrypted`));
    const [odd] = accepting.filter(({ id }) => !DECODERS.includes(id));
    if (accepting.length === 0) {
      const message = `encrypted ${suffix} layers have no stream processor: images with such layers are not decrypted`;
      warn(message, `add their media type to the accepts of ${DECODERS[1]}; ${hint}`);
    } else if (odd !== undefined) {
      const message = `encrypted ${suffix} layers go to the stream processor ${odd.id}, which gets no keys`;
      warn(message, `add their media type to the accepts of ${DECODERS[1]} instead; ${hint}`);
    }
    return `encrypted ${suffix} layers have a stream processor`;
  };
}

/** CRI is set to decrypt. */
export function containerdKeyModel(containerd: Containerd, warn: Note): Outcome {
  const { images, cri } = containerd;
  if (!cri) return skip(NO_CRI);
  const model = member(tableIn(images, "image_decryption"), "key_model") ?? "node";
  if (model !== "node")
    warn(`key_model is ${JSON.stringify(model)}: CRI does not decrypt`, `set key_model = "node"; ${setUp(containerd)}`);
  return 'key_model is "node"';
}

/** CRI pulls in the way that decrypts. */
export function containerdPull(containerd: Containerd, warn: Note): Outcome {
  const { generation, images, file, cri, distribution } = containerd;
  if (!cri) return skip(NO_CRI);
  if (["1.6", "1.7", "2.0"].includes(generation)) return skip(`containerd ${generation} needs no setting for that`);
  if (member(images, "use_local_image_pull") === true) return "use_local_image_pull is set";
  const other = localPullBy(images);
  if (other !== undefined) return `${other} makes containerd pull by itself`;
  const which = generation === "unknown" ? "containerd 2.1 and later pull" : "containerd pulls";
  const into = distribution === undefined ? file : `the template beside ${file}`;
  const where = `[plugins.'io.containerd.cri.v1.images'] of ${into}`;
  warn(
    `${which} by the transfer service, which does not decrypt`,
    `set use_local_image_pull = true in ${where}; ${setUp(containerd)}`,
  );
  return "";
}

/** A setting that makes containerd 2.1 and later pull as if `use_local_image_pull` were set. */
function localPullBy(images: JsonObject): string | undefined {
  const registry = tableIn(images, "registry");
  const lists = ["mirrors", "configs", "auths"].find((name) => {
    const list = member(registry, name);
    return isObject(list) && Object.keys(list).length > 0;
  });
  if (lists !== undefined) return `registry.${lists}`;
  const downloads = member(images, "max_concurrent_downloads");
  if (downloads !== undefined && downloads !== 3) return "max_concurrent_downloads";
  if (member(images, "disable_snapshot_annotations") === false) return "disable_snapshot_annotations";
  return ["discard_unpacked_layers", "image_pull_with_sync_fs"].find((name) => member(images, name) === true);
}

/** The stream processors that decrypt compressed layers: hardly an image has others. */
function decoders(processors: readonly StreamProcessor[]): StreamProcessor[] {
  const types = [`${LAYER}+gzip+encrypted`, `${LAYER}+zstd+encrypted`];
  return processors.filter(({ accepts }) => accepts.some((type) => types.includes(type)));
}

function keysPath({ args }: StreamProcessor): string | undefined {
  const option = "--decryption-keys-path";
  const joined = args.find((arg) => arg.startsWith(`${option}=`))?.slice(option.length + 1);
  const at = args.indexOf(option);
  return joined ?? (at === -1 ? undefined : args[at + 1]);
}
