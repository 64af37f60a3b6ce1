// A skopeo whose ocicrypt knows `provider:`: the system's, or Debian 13's, unpacked into a cache folder without root.

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join, resolve } from "node:path";

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
const KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";
// What skopeo and its libraries name as NEEDED. Its package also depends on gnupg, iptables and CNI plugins, by way
// of podman's settings.
const LIBRARIES = ["libc6", "libgpgme11t64", "libassuan9", "libgpg-error0", "libsqlite3-0"];
// Debian 12 has no pkcs11-provider for openssl, and runs this one: the tests ask an HSM by it.
const PACKAGES = ["skopeo", ...LIBRARIES, "pkcs11-provider"];
const MACHINES: Partial<Record<string, { debian: string; folder: string; loader: string }>> = {
  x64: { debian: "amd64", folder: "x86_64-linux-gnu", loader: "ld-linux-x86-64.so.2" },
  arm64: { debian: "arm64", folder: "aarch64-linux-gnu", loader: "ld-linux-aarch64.so.1" },
};
const MACHINE = MACHINES[process.arch];
const INSTALL = "put one on PATH that is built with ocicrypt 1.1 or later";

/**
 * The first that works: on PATH, unpacked earlier, downloaded now. Never throws: a download that fails is told
 * through `say`.
 */
export function findSkopeo({ download, say }: SkopeoOptions): Skopeo | undefined {
  const found = onPath() ?? probe(unpacked());
  if (found !== undefined || !download) return found;
  let failure = `the one unpacked into ${CACHE} does not run here`;
  try {
    downloadInto(CACHE, say);
  } catch (error) {
    failure = error instanceof Error ? error.message : String(error);
  }
  const fresh = probe(unpacked()); // also after a failure: another run may have put one there meanwhile
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

// Through its own loader it runs on any older libc; an LD_LIBRARY_PATH would also reach the key provider it starts.
function unpacked(): string[] | undefined {
  if (MACHINE === undefined) return undefined;
  const libraries = join(CACHE, "usr/lib", MACHINE.folder);
  const loader = join(libraries, MACHINE.loader);
  return existsSync(loader) ? [loader, "--library-path", libraries, join(CACHE, "usr/bin/skopeo")] : undefined;
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

function downloadInto(cache: string, say: (line: string) => void): void {
  if (MACHINE === undefined) throw new Error(`none to download for ${process.arch}; ${INSTALL}`);
  if (run(["apt-get", "--version"]).failure !== undefined || run(["dpkg-deb", "--version"]).failure !== undefined) {
    throw new Error(`none to unpack without apt-get and dpkg-deb; ${INSTALL}`);
  }
  if (!existsSync(KEYRING))
    throw new Error(`no ${KEYRING} to check a download by; install debian-archive-keyring, or ${INSTALL}`);
  say(`downloading Debian 13's skopeo and its libraries into ${cache} (about 22 MB, 42 MB unpacked)`);
  mkdirSync(dirname(cache), { recursive: true });
  const temporary = mkdtempSync(`${cache}.tmp-`);
  try {
    const settings = writeSettings(temporary, MACHINE.debian, mirror());
    const root = join(temporary, "root");
    must(["apt-get", "-q", "-c", settings, "update"], temporary);
    must(["apt-get", "-q", "-c", settings, "download", ...PACKAGES], temporary);
    for (const name of readdirSync(temporary).filter((file) => file.endsWith(".deb")))
      must(["dpkg-deb", "-x", name, root], temporary);
    rmSync(cache, { recursive: true, force: true });
    renameSync(root, cache);
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

// The Debian mirror that this system installs from: it has every release.
function mirror(): string {
  const { stdout } = run(["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]);
  const found = stdout.split("\n").find((uri) => /\/debian\/?$/.test(uri));
  if (found === undefined) throw new Error(`this system installs from no Debian mirror; ${INSTALL}`);
  return found;
}

// Read after the system's own settings: its proxy holds, while its sources, lists, pins and hooks do not.
function writeSettings(folder: string, architecture: string, repository: string): string {
  for (const name of ["etc", "state/lists/partial", "cache/archives/partial"])
    mkdirSync(join(folder, name), { recursive: true });
  writeFileSync(join(folder, "state/status"), "");
  writeFileSync(
    join(folder, "etc/sources.list"),
    `deb [arch=${architecture} target=Packages signed-by=${KEYRING}] ${repository} trixie main\n`,
  );
  const settings = join(folder, "apt.conf");
  const lines = [
    ...["Pre-Invoke", "Post-Invoke", "Post-Invoke-Success"].map((hook) => `#clear APT::Update::${hook};`),
    `Dir::Etc "${folder}/etc"; Dir::State "${folder}/state"; Dir::State::status "${folder}/state/status"; Dir::Cache "${folder}/cache";`,
    `APT::Sandbox::User "root"; APT::Update::Error-Mode "any"; Acquire::Languages "none";`,
    `Acquire::Retries "1"; Acquire::http::Timeout "15";`, // seconds
  ];
  writeFileSync(settings, `${lines.join("\n")}\n`);
  return settings;
}

function must(command: readonly string[], cwd: string): void {
  const { failure } = run(command, cwd);
  if (failure !== undefined) throw new Error(failure);
}

function run(
  [file = "", ...args]: readonly string[],
  cwd = "/",
): { stdout: string; stderr: string; failure: string | undefined } {
  const env = { ...process.env, LC_ALL: "C" };
  const { error, status, stdout, stderr } = spawnSync(file, args, {
    cwd,
    env,
    encoding: "utf8",
    timeout: 300_000,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const why = error?.message ?? (/^E: .*/m.exec(stderr) ?? /.+/.exec(stderr))?.[0] ?? `status ${status}`;
  return { stdout: stdout ?? "", stderr: stderr ?? "", failure: status === 0 ? undefined : `${file} failed: ${why}` };
}

if (import.meta.main) {
  const skopeo = findSkopeo({ download: true, say: (line) => process.stdout.write(`${line}\n`) });
  process.stdout.write(
    skopeo === undefined ? "no skopeo\n" : `skopeo ${skopeo.version}: ${skopeo.command.join(" ")}\n`,
  );
  process.exitCode = skopeo === undefined ? 1 : 0;
}
