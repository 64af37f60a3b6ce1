// A skopeo whose ocicrypt knows `provider:`: the system's, or Debian 13's, unpacked into a cache folder without root.

import { existsSync } from "node:fs";
import { delimiter, join, resolve } from "node:path";
import { run, unpack, unpacked } from "./debian.ts";

/** A skopeo that was seen to accept `--encryption-key provider:…`. */
export interface Skopeo {
  /** The argv prefix, `--insecure-policy` included: a subcommand follows. */
  readonly command: readonly string[];
  readonly version: string;
}

/** How to look for one. */
export interface SkopeoOptions {
  /** Download and unpack Debian 13's where there is none. */
  readonly download: boolean;
  /** Takes single lines for a person: the download's announcement, or why there is no skopeo. */
  readonly say: (line: string) => void;
}

/** The folder that it is unpacked into. */
export const CACHE = resolve(
  process.env["OCICRYPT_KEYSTORE_SKOPEO"] ||
    join(import.meta.dirname, "../../node_modules/.cache/ocicrypt-keystore/skopeo"),
);
// What skopeo and its libraries name as NEEDED. Its package also depends on gnupg, iptables and CNI plugins, by way
// of podman's settings.
const LIBRARIES = ["libc6", "libgpgme11t64", "libassuan9", "libgpg-error0", "libsqlite3-0"];
// Debian 12 has no pkcs11-provider for openssl, and runs this one: the tests ask an HSM by it.
const PACKAGES = ["skopeo", ...LIBRARIES, "pkcs11-provider"];
const INSTALL = "put one on PATH that is built with ocicrypt 1.1 or later";

/**
 * The first that works: on PATH, unpacked earlier, downloaded now. Never throws: a download that fails is told
 * through `say`.
 */
export function findSkopeo({ download, say }: SkopeoOptions): Skopeo | undefined {
  const found = onPath() ?? probe(unpacked(CACHE, "usr/bin/skopeo"));
  if (found !== undefined || !download) return found;
  let failure = `the one unpacked into ${CACHE} does not run here`;
  try {
    const announce = (): void =>
      say(`downloading Debian 13's skopeo and its libraries into ${CACHE} (about 22 MB, 42 MB unpacked)`);
    unpack({ release: "trixie", packages: PACKAGES, folder: CACHE, instead: INSTALL, announce });
  } catch (error) {
    failure = error instanceof Error ? error.message : String(error);
  }
  // Also after a failure: another run may have put one there meanwhile.
  const fresh = probe(unpacked(CACHE, "usr/bin/skopeo"));
  if (fresh === undefined) say(`no skopeo: ${failure}`);
  return fresh;
}

function onPath(): Skopeo | undefined {
  for (const folder of (process.env["PATH"] ?? "").split(delimiter)) {
    const file = resolve(folder, "skopeo");
    const found = existsSync(file) ? probe([file]) : undefined;
    if (found !== undefined) return found;
  }
  return undefined;
}

// An ocicrypt before 1.1 refuses the flag ("Provided protocol not recognized") before it looks at the image. A later
// one fails at the image and names it: nothing exists in /proc by that name and nobody, not even root, can make it.
function probe(skopeo: readonly string[] | undefined): Skopeo | undefined {
  if (skopeo === undefined) return undefined;
  const command = [...skopeo, "--insecure-policy"];
  const version = /version (\S+)/.exec(run([...command, "--version"]).stdout)?.[1];
  const { stderr } = run([
    ...command,
    "copy",
    "--encryption-key",
    "provider:probe:x",
    "oci:/proc/none",
    "oci:/proc/none",
  ]);
  return version !== undefined && stderr.includes("/proc/none") ? { command, version } : undefined;
}

if (import.meta.main) {
  const skopeo = findSkopeo({ download: true, say: (line) => process.stdout.write(`${line}\n`) });
  process.stdout.write(
    skopeo === undefined ? "no skopeo\n" : `skopeo ${skopeo.version}: ${skopeo.command.join(" ")}\n`,
  );
  process.exitCode = skopeo === undefined ? 1 : 0;
}
