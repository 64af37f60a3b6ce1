// Programs of a Debian release, unpacked into a folder without root: what this system has may be too old, or not there.

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

/** What to unpack, and where. */
export interface Unpacking {
  /** The release's code name. */
  readonly release: "bookworm" | "trixie";
  readonly packages: readonly string[];
  /** The folder that it becomes, with usr/ and so on below. An old one is replaced. */
  readonly folder: string;
  /** What to do about it if nothing can be downloaded here. */
  readonly instead: string;
  /** Called before the download. */
  readonly announce?: () => void;
}

const KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";
const MACHINES: Partial<Record<string, { debian: string; folder: string; loader: string }>> = {
  x64: { debian: "amd64", folder: "x86_64-linux-gnu", loader: "ld-linux-x86-64.so.2" },
  arm64: { debian: "arm64", folder: "aarch64-linux-gnu", loader: "ld-linux-aarch64.so.1" },
};
const MACHINE = MACHINES[process.arch];
/** Where a Debian for this machine has its libraries, below its root; undefined if it is not known. */
export const LIBRARIES = MACHINE && `usr/lib/${MACHINE.folder}`;

/**
 * The argv that starts an unpacked program through its own loader, on any older libc; undefined if it is not there.
 * An LD_LIBRARY_PATH would also reach the key provider that the program starts.
 */
export function unpacked(folder: string, program: string): string[] | undefined {
  if (MACHINE === undefined) return undefined;
  const libraries = join(folder, "usr/lib", MACHINE.folder);
  const loader = join(libraries, MACHINE.loader);
  return existsSync(loader) ? [loader, "--library-path", libraries, join(folder, program)] : undefined;
}

/** Downloads packages and unpacks them. @throws Error that says why it cannot */
export function unpack({ release, packages, folder, instead, announce }: Unpacking): void {
  if (MACHINE === undefined) throw new Error(`none to download for ${process.arch}; ${instead}`);
  if (run(["apt-get", "--version"]).failure !== undefined || run(["dpkg-deb", "--version"]).failure !== undefined) {
    throw new Error(`none to unpack without apt-get and dpkg-deb; ${instead}`);
  }
  if (!existsSync(KEYRING))
    throw new Error(`no ${KEYRING} to check a download by; install debian-archive-keyring, or ${instead}`);
  announce?.();
  mkdirSync(dirname(folder), { recursive: true });
  const temporary = mkdtempSync(`${folder}.tmp-`);
  try {
    const source = `deb [arch=${MACHINE.debian} target=Packages signed-by=${KEYRING}] ${mirror(instead)} ${release} main`;
    const settings = writeSettings(temporary, source);
    const root = join(temporary, "root");
    must(["apt-get", "-q", "-c", settings, "update"], temporary);
    must(["apt-get", "-q", "-c", settings, "download", ...packages], temporary);
    for (const name of readdirSync(temporary).filter((file) => file.endsWith(".deb")))
      must(["dpkg-deb", "-x", name, root], temporary);
    rmSync(folder, { recursive: true, force: true });
    renameSync(root, folder);
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

// The Debian mirror that this system installs from: it has every release.
function mirror(instead: string): string {
  const { stdout } = run(["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]);
  const found = stdout.split("\n").find((uri) => /\/debian\/?$/.test(uri));
  if (found === undefined) throw new Error(`this system installs from no Debian mirror; ${instead}`);
  return found;
}

// Read after the system's own settings: its proxy holds, while its sources, lists, pins and hooks do not.
function writeSettings(folder: string, source: string): string {
  for (const name of ["etc", "state/lists/partial", "cache/archives/partial"])
    mkdirSync(join(folder, name), { recursive: true });
  writeFileSync(join(folder, "state/status"), "");
  writeFileSync(join(folder, "etc/sources.list"), `${source}\n`);
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

/** Runs a program to its end, with messages in English. `failure` says in a line why it failed. */
export function run(
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
