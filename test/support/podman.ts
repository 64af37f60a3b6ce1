// podman and buildah of Debian 13, unpacked into the cache folder without root. Run this file to download them.
// Both start themselves anew by /proc/self/exe, so they cannot run through a loader as skopeo does: a mount namespace
// puts Debian 13's libraries in place of this system's.

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { LIBRARIES, unpack } from "./debian.ts";
import { temporaryFolder } from "./folders.ts";
import { mountNamespace } from "./parts.ts";
import { ROOT, type Result } from "./program.ts";

const CACHE = join(ROOT, "node_modules/.cache/ocicrypt-keystore/podman-5.4");
const BIN = join(CACHE, "usr/bin");
const PACKAGES = [
  ["podman", "buildah"],
  // what podman wants to find, even to pull
  ["conmon", "crun", "netavark"],
  // what the two name as NEEDED, and what these libraries need in turn
  ["libc6", "libgpgme11t64", "libassuan9", "libgpg-error0", "libsqlite3-0", "libseccomp2", "libsubid5"],
  ["libaudit1", "libcap-ng0", "libselinux1", "libpcre2-8-0", "libsemanage2", "libsepol2", "libbz2-1.0", "libcrypt1"],
  ["libacl1", "libattr1", "libpam0g", "libbsd0", "libmd0"],
  // what the key provider needs
  ["libstdc++6", "libgcc-s1"],
].flat();

// unshare's arguments for a namespace in which the programs run; undefined if they are not there.
function namespace(): readonly string[] | undefined {
  const unshare = LIBRARIES !== undefined && existsSync(join(BIN, "podman")) ? mountNamespace() : undefined;
  return unshare && [...unshare, "sh", "-c", SCRIPT, "sh", join(CACHE, LIBRARIES ?? ""), `/${LIBRARIES}`, BIN];
}

// This system's programs do not run with those libraries (podman would start zstd), so PATH has Debian 13's alone.
const SCRIPT = `set -e
for folder in /run /var/lib; do mount -t tmpfs tmpfs $folder; done
mount --bind "$1" "$2"
export PATH="$3"
eval "$4"`;

const homes: string[] = [];
// Layers have folders that their owner may not write to, and the homes are temporary folders: those are removed after this.
process.prependListener("exit", () => homes.forEach((home) => spawnSync("chmod", ["-R", "u+w", home])));

/** What has to be there for {@link findPodman}. */
export const PODMAN_NEEDS = "root, or mount namespaces, and podman and buildah: run test/support/podman.ts";

/** A machine with podman and buildah: its images, and its settings in a home of its own. */
export interface PodmanMachine {
  /** Runs a line of sh. */
  shell(line: string): Result;
}

/** Gives machines that pull over plain HTTP from a host, with a provider file; undefined if the programs are not there. */
export function findPodman(): ((host: string, conf: string) => PodmanMachine) | undefined {
  const args = namespace();
  if (args === undefined) return undefined;
  return (host, conf) => {
    const home = temporaryFolder();
    homes.push(home);
    const file = (name: string, text: string): string => {
      mkdirSync(join(home, name, ".."), { recursive: true });
      writeFileSync(join(home, name), text);
      return join(home, name);
    };
    file(".config/containers/policy.json", '{"default":[{"type":"insecureAcceptAnything"}]}');
    const env = {
      HOME: home,
      PATH: "/usr/sbin:/usr/bin:/sbin:/bin",
      OCICRYPT_KEYPROVIDER_CONFIG: conf,
      CONTAINERS_REGISTRIES_CONF: file("registries.conf", `[[registry]]\nlocation = "${host}"\ninsecure = true\n`),
      CONTAINERS_STORAGE_CONF: file(
        "storage.conf",
        `[storage]\ndriver = "vfs"\ngraphroot = "${home}/images"\nrunroot = "${home}/run"\n`,
      ),
      CONTAINERS_CONF: file(
        "containers.conf",
        `[engine]\nlock_type = "file"\nruntime = "crun"\nconmon_path = ["${BIN}/conmon"]\n` +
          `helper_binaries_dir = ["${CACHE}/usr/lib/podman"]\n[engine.runtimes]\ncrun = ["${BIN}/crun"]\n`,
      ),
      BUILDAH_ISOLATION: "chroot",
      PODMAN_IGNORE_CGROUPSV1_WARNING: "1",
      TMPDIR: home,
    };
    return {
      shell: (line) => {
        const { status, stdout, stderr } = spawnSync("unshare", [...args, line], { cwd: home, env, encoding: "utf8" });
        return { code: status, stdout, stderr };
      },
    };
  };
}

if (import.meta.main && !existsSync(CACHE))
  unpack({ release: "trixie", packages: PACKAGES, folder: CACHE, instead: "unpack podman and buildah there" });
