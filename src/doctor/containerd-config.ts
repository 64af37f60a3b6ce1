// containerd's configuration as containerd loads it: the main file, what it imports, and its own defaults.

import { existsSync, globSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { isObject, member, type JsonObject } from "../json.ts";
import { quietly } from "./check.ts";
import { SETTING } from "./config-file.ts";
import { contents, findProgram, isProgram } from "./programs.ts";
import { merged, readToml, stringsIn, tableIn } from "./toml.ts";

/** Where containerd's own default configuration looks for providers. */
export const CONTAINERD_CONF = "/etc/containerd/ocicrypt/ocicrypt_keyprovider.conf";
/** The folder of key files that its default configuration names. */
export const CONTAINERD_KEYS = "/etc/containerd/ocicrypt/keys";
/** The main file of the configuration. */
export const CONTAINERD_CONFIG = "/etc/containerd/config.toml";
/** The media type of an uncompressed layer. */
export const LAYER = "application/vnd.oci.image.layer.v1.tar";
/** imgcrypt hands the keys to stream processors of these ids only. */
export const DECODERS: readonly [string, string] = [
  "io.containerd.ocicrypt.decoder.v1.tar",
  "io.containerd.ocicrypt.decoder.v1.tar.gzip",
];

/** The PATH of a service (systemd.exec(5)). */
const SERVICE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** A program that containerd runs on layers. */
export interface StreamProcessor {
  readonly id: string;
  readonly accepts: readonly string[];
  readonly path: string;
  readonly args: readonly string[];
  readonly env: readonly string[];
}

/** What is known of containerd's version, by the strings in its program. */
export type Generation = "1.6" | "1.7" | "2.0" | "2.1 or later" | "unknown";

/** A containerd of this machine. */
export interface Containerd {
  /** The main file. */
  readonly file: string;
  /** k3s and RKE2 make the main file from a template beside it. */
  readonly distribution: "k3s" | "rke2" | undefined;
  readonly generation: Generation;
  /** Why it does not start with this configuration; undefined if nothing is known. */
  readonly refused: string | undefined;
  /** A file of the configuration that this user may not read; then nothing is known of it. */
  readonly unreadable: string | undefined;
  /** The main file's version; 0 if it has none. */
  readonly version: number;
  /** Whether CRI is on: Docker's package turns it off. */
  readonly cri: boolean;
  /** The settings of CRI's images. */
  readonly images: JsonObject;
  readonly processors: readonly StreamProcessor[];
  /** Files in conf.d that nothing imports, although they are about decryption. */
  readonly unread: readonly string[];
  /** The PATH that it finds decoders in. */
  readonly path: string;
}

const IMAGES = "io.containerd.cri.v1.images";
const OLD_CRI = "io.containerd.grpc.v1.cri";
const RANCHER = "/var/lib/rancher";

const DEFAULTS: readonly StreamProcessor[] = [
  [DECODERS[0], `${LAYER}+encrypted`] as const,
  [DECODERS[1], `${LAYER}+gzip+encrypted`] as const,
].map(([id, type]) => ({
  id,
  accepts: [type],
  path: "ctd-decoder",
  args: ["--decryption-keys-path", CONTAINERD_KEYS],
  env: [`${SETTING}=${CONTAINERD_CONF}`],
}));

/** The containerds of this machine. @param root where its files are; empty for this machine's own */
export function readContainerds(root: string): Containerd[] {
  const found: Containerd[] = [];
  const path = SERVICE_PATH.split(":")
    .map((folder) => root + folder)
    .join(":");
  const program = (root === "" ? findProgram("containerd") : undefined) ?? findProgram("containerd", path);
  for (const distribution of ["k3s", "rke2"] as const) {
    const home = `${RANCHER}/${distribution}`;
    const file = `${home}/agent/etc/containerd/config.toml`;
    if (!existsSync(root + dirname(file))) continue;
    const bin = `${home}/data/current/bin`;
    const own = [join(root, bin, "containerd"), join(root, home, "bin/containerd")].find(isProgram);
    found.push(readContainerd(root, file, distribution, own, `${root}${bin}:${path}`));
  }
  // A distribution's decoder has its keys below this folder, so there the folder alone is no containerd.
  const folder = found.length === 0 && existsSync(root + dirname(CONTAINERD_CONFIG));
  if (existsSync(root + CONTAINERD_CONFIG) || program !== undefined || folder) {
    found.unshift(readContainerd(root, CONTAINERD_CONFIG, undefined, program, path));
  }
  return found;
}

function readContainerd(
  root: string,
  file: string,
  distribution: Containerd["distribution"],
  program: string | undefined,
  path: string,
): Containerd {
  const generation = generationOf(program);
  const loaded = load(root, file, generation);
  const dropIns = globSync(`${root}${dirname(file)}/{conf.d,config.toml.d,config-v3.toml.d}/*.toml`).toSorted();
  const unread = dropIns
    .map((one) => one.slice(root.length))
    .filter((one) => !loaded.files.has(one) && isAboutDecryption(root + one));
  return { file, distribution, generation, path, unread, ...loaded };
}

/** Whether a file sets how layers are decrypted; false if it is missing, or this user may not read it. */
export function isAboutDecryption(path: string): boolean {
  return quietly(() => /ocicrypt|use_local_image_pull/.test(readFileSync(path, "utf8"))) ?? false;
}

function generationOf(program: string | undefined): Generation {
  const bytes = program === undefined ? Buffer.alloc(0) : contents(program);
  if (bytes.includes("use_local_image_pull")) return "2.1 or later";
  if (bytes.includes("containerd/containerd/v2/")) return "2.0"; // every Go program has the names of its packages
  if (!bytes.includes("containerd/containerd/")) return "unknown";
  return bytes.includes("is not supported, the max version is") ? "1.7" : "1.6";
}

interface Loaded extends Pick<Containerd, "refused" | "unreadable" | "version" | "cri" | "images" | "processors"> {
  readonly files: ReadonlySet<string>;
}

function load(root: string, file: string, generation: Generation): Loaded {
  const files = new Set<string>();
  const processors = new Map(DEFAULTS.map((one) => [one.id, one]));
  const pending = [file];
  let [images, cri]: [JsonObject, boolean] = [{}, true];
  let version = 0;
  let refused: string | undefined;
  let unreadable: string | undefined;
  for (let path = pending.shift(); path !== undefined; path = pending.shift()) {
    if (files.has(path)) continue;
    const toml = readToml(root + path);
    if (toml === undefined && path === file) break; // containerd takes its defaults
    files.add(path);
    if (toml !== undefined && "unreadable" in toml) {
      unreadable ??= path;
      continue;
    }
    if (toml === undefined || "refused" in toml) {
      refused ??= `${path} ${toml === undefined ? "is imported, and not there" : toml.refused}`;
      continue;
    }
    const { table } = toml;
    const written = Number(member(table, "version") ?? 0);
    version ||= written; // a drop-in's version stands in for a main file without one
    if (written > version) {
      refused ??= `${path} has version ${written}, which is higher than the version ${version} of ${file}`;
    }
    cri &&= !stringsIn(table, "disabled_plugins").some((id) => ["cri", OLD_CRI, IMAGES].includes(id));
    images = merged(images, imagesIn(table, written, generation));
    for (const [id, value] of Object.entries(tableIn(table, "stream_processors"))) {
      processors.set(id, processorOf(id, isObject(value) ? value : {}));
    }
    for (const found of imports(root, path, stringsIn(table, "imports"))) pending.push(found);
  }
  if (generation === "1.7" && version > 2) {
    refused ??= `${file} has version ${version}, and containerd 1.7 knows 2 as the highest`;
  }
  return { refused, unreadable, version, cri, images, processors: [...processors.values()], files };
}

/** The settings of CRI's images in one file, where containerd 2.x looks for them after it migrated the file. */
function imagesIn(table: JsonObject, version: number, generation: Generation): JsonObject {
  const plugins = tableIn(table, "plugins");
  const old = merged(version < 2 ? tableIn(plugins, "cri") : {}, tableIn(plugins, OLD_CRI));
  if (generation === "1.6" || generation === "1.7") return old;
  const images = tableIn(plugins, IMAGES);
  if (version > 2) return images;
  const migrated = take(old, ["registry", "image_decryption", "max_concurrent_downloads", "image_pull_with_sync_fs"]);
  const inner = take(tableIn(old, "containerd"), ["disable_snapshot_annotations", "discard_unpacked_layers"]);
  return { ...images, ...migrated, ...inner };
}

function take(from: JsonObject, names: readonly string[]): JsonObject {
  return Object.fromEntries(
    names.filter((name) => Object.hasOwn(from, name)).map((name) => [name, member(from, name)]),
  );
}

function processorOf(id: string, value: JsonObject): StreamProcessor {
  const path = member(value, "path");
  return {
    id,
    accepts: stringsIn(value, "accepts"),
    path: typeof path === "string" ? path : "",
    args: stringsIn(value, "args"),
    env: stringsIn(value, "env"),
  };
}

/** The files that a file imports: with `*`, those that are there. */
function imports(root: string, from: string, patterns: readonly string[]): string[] {
  return patterns.flatMap((pattern) => {
    const path = pattern.startsWith("/") ? normalize(pattern) : join(dirname(from), pattern);
    if (!path.includes("*")) return [path];
    return globSync(root + path)
      .toSorted()
      .map((found) => found.slice(root.length));
  });
}
