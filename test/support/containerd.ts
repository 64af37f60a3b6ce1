// Real containerds that pull: Debian 12's, the newest of the Go module proxy, imgcrypt's ctd-decoder for both, and crictl.
// Run this file to download and build them into the cache folder.

import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import type { Socket } from "node:net";
import { join } from "node:path";
import { unpack } from "./debian.ts";
import { temporaryFolder } from "./folders.ts";
import { buildGoProgram, findGoProgram, type GoProgram } from "./go-programs.ts";
import { mountNamespace } from "./parts.ts";
import { ROOT, succeed, type Result } from "./program.ts";

/** The versions that pull here. */
export const VERSIONS = ["1.6", "2.4"] as const;
/** One of them. */
export type Version = (typeof VERSIONS)[number];

const CACHE = join(ROOT, "node_modules/.cache/ocicrypt-keystore/containerd-1.6");
const CRICTL = { name: "crictl", package: "sigs.k8s.io/cri-tools/cmd/crictl", version: "v1.37.0" };
// The last version whose module holds the program's own package: later ones have it in a module that the proxy lacks.
const DECODER = { name: "ctd-decoder", package: "github.com/containerd/imgcrypt/cmd/ctd-decoder", version: "v1.1.8" };
const CONTAINERD: GoProgram = {
  name: "containerd",
  package: "github.com/containerd/containerd/v2/cmd/containerd",
  version: "v2.4.2",
  tags: "no_btrfs,no_devmapper,no_zfs",
};

/** The programs, by their paths. */
export interface ContainerdParts {
  readonly crictl: string;
  readonly decoder: string;
  readonly containerd: Readonly<Record<Version, string>>;
}

/** What has to be there for {@link findContainerd}. */
export const CONTAINERD_NEEDS =
  "root, mount namespaces, and containerd, ctd-decoder and crictl: run test/support/containerd.ts";

/** All of them; undefined if one is missing, or for anybody but root. */
export function findContainerd(): ContainerdParts | undefined {
  if (process.getuid?.() !== 0 || mountNamespace() === undefined) return undefined;
  const [crictl, decoder, newest] = [CRICTL, DECODER, CONTAINERD].map(findGoProgram);
  const debian = join(CACHE, "usr/bin/containerd");
  if (crictl === undefined || decoder === undefined || newest === undefined || !existsSync(debian)) return undefined;
  return { crictl, decoder, containerd: { "1.6": debian, "2.4": newest } };
}

/** Two folders: one to be /etc, whose containerd/ has what is configured, and one of programs for containerd's PATH. */
export interface Machine {
  readonly etc: string;
  readonly bin: string;
}

/** The file that says which providers there are, below {@link Machine.etc}. */
export const PROVIDERS = "containerd/ocicrypt/ocicrypt_keyprovider.conf";
/** The folder of keys below it. */
export const KEYS = "containerd/ocicrypt/keys";
/** containerd's own file below it. */
export const TOML = "containerd/config.toml";

// What `config` prints: once for the same words, because each start takes its time and there are many machines.
const printed = new Map<string, string>();
function config(...args: readonly string[]): string {
  const key = args.join(" ");
  const text = printed.get(key) ?? succeed(["config", ...args]);
  printed.set(key, text);
  return text;
}

/** What `config --client containerd` says to write into config.toml. */
export function printedToml(): string {
  return /^version = [^]*?(?=\n# 4)/m.exec(config("--client", "containerd"))?.[0] ?? "";
}

/** A machine that is set up as `config --client containerd` says. @param args more for `config` */
export function makeMachine(args: readonly string[], decoder: string): Machine {
  const machine = { etc: join(temporaryFolder(), "etc"), bin: temporaryFolder() };
  mkdirSync(join(machine.etc, KEYS), { recursive: true });
  writeFileSync(join(machine.etc, PROVIDERS), config(...args));
  writeFileSync(join(machine.etc, TOML), printedToml());
  symlinkSync(decoder, join(machine.bin, "ctd-decoder"));
  return machine;
}

const running = new Set<ChildProcess>();
process.on("exit", () => running.forEach((child) => child.kill("SIGKILL")));

/** A containerd that runs, or that has said why it does not. */
export interface RunningContainerd {
  /** Pulls an image as Kubernetes does: through CRI, and unpacked. */
  pull(image: string): Result;
  log(): string;
  stop(): Promise<void>;
}

// The mounts hide everything of this machine that containerd would read or write. A file system in memory takes the
// snapshots: those of overlayfs cannot be on another overlayfs.
const SCRIPT = `set -e
mount --bind "$1" /etc
mount -t tmpfs tmpfs "$2/root"
for folder in /run /opt /var/lib; do [ ! -d $folder ] || mount -t tmpfs tmpfs $folder; done
exec env -i PATH="$3:/usr/sbin:/usr/bin:/sbin:/bin" "$4" --root "$2/root" --state "$2/state" --address "$2/socket"`;

/** Starts one on a machine; its mounts are in a namespace of their own. @throws Error with its log if it does not start */
export async function startContainerd(
  { crictl, containerd }: ContainerdParts,
  version: Version,
  { etc, bin }: Machine,
): Promise<RunningContainerd> {
  const folder = temporaryFolder();
  mkdirSync(join(folder, "root"));
  for (const name of ["hosts", "passwd", "group", "nsswitch.conf"])
    if (existsSync(join("/etc", name))) copyFileSync(join("/etc", name), join(etc, name));
  const args = [
    "--pdeathsig",
    "KILL",
    "unshare",
    "-m",
    "sh",
    "-c",
    SCRIPT,
    "sh",
    etc,
    folder,
    bin,
    containerd[version],
  ];
  const child = spawn("setpriv", args, { cwd: "/", stdio: ["ignore", "ignore", "pipe"] });
  running.add(child);
  let log = "";
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve())).finally(() =>
    running.delete(child),
  );
  await new Promise<void>((resolve, reject) => {
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      log += text;
      if (log.includes("containerd successfully booted")) resolve();
    });
    void ended.then(() => reject(new Error(log)));
  });
  child.unref();
  (child.stderr as Socket).unref();
  const socket = `unix://${join(folder, "socket")}`;
  return {
    pull: (image) => {
      const words = ["--config", "/dev/null", "--image-endpoint", socket, "--runtime-endpoint", socket, "pull", image];
      const { status, stdout, stderr } = spawnSync(crictl, words, { encoding: "utf8", timeout: 60_000 });
      return { code: status, stdout, stderr };
    },
    log: () => log,
    stop: async () => {
      child.ref();
      (child.stderr as Socket).ref();
      child.kill("SIGKILL");
      await ended;
    },
  };
}

if (import.meta.main) {
  const instead = "put Debian 12's containerd there";
  if (!existsSync(CACHE)) unpack({ release: "bookworm", packages: ["containerd"], folder: CACHE, instead });
  for (const program of [CRICTL, DECODER, CONTAINERD]) buildGoProgram(program);
}
