// Real holders of private keys: SoftHSM2, openCryptoki's software token (also by OpenSSL's provider), a TPM. Each makes a key as the README's recipe says.

import { spawn, spawnSync } from "node:child_process";
import { existsSync, globSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { temporaryFolder } from "./folders.ts";
import { follow, type Recipe } from "./recipes.ts";
import { CACHE } from "./skopeo.ts";

/** A part that runs, with one key in it. What was started ends with this process. */
export interface Part extends Recipe {
  /** All that the command needs from its environment. */
  readonly env: NodeJS.ProcessEnv;
  readonly pin: string;
  /** Gives it another PIN, where it looks for one: in `env`, or in a file. */
  readonly setPin: (pin: string) => void;
}

/** A part that this machine may have. */
export interface Kind {
  readonly name: string;
  /** What has to be installed, or started. */
  readonly needs: string;
  readonly isThere: () => boolean;
  readonly start: () => Promise<Part>;
}

const PATH = "/usr/sbin:/usr/bin:/sbin:/bin";
const PIN = "31415926"; // openCryptoki takes 4 to 8 characters
const SO_PIN = "27182818";

const SOFTHSM: Kind = {
  name: "SoftHSM2",
  needs: "softhsm2 and opensc",
  isThere: () => programs("softhsm2-util", "pkcs11-tool"),
  start: async () => {
    const folder = temporaryFolder();
    mkdirSync(join(folder, "tokens"));
    writeFileSync(
      join(folder, "softhsm2.conf"),
      `directories.tokendir = ${join(folder, "tokens")}\nobjectstore.backend = file\n`,
    );
    const env = { SOFTHSM2_CONF: join(folder, "softhsm2.conf"), TOKEN_PIN: PIN };
    must(["softhsm2-util", "--init-token", "--free", "--label", "ocicrypt", "--pin", PIN, "--so-pin", SO_PIN], env);
    return { ...follow("SoftHSM2", folder, env, ["pkcs11-ecdh"]), env, ...pinIn(env) };
  },
};

// Its configuration and its tokens lie where they lie: .ci/run adds a slot of our own, and starts its daemon.
const SLOT = "40";
const TOKEN = "/var/lib/opencryptoki/ocicrypt-keystore";
const SHARED_MEMORY = "/dev/shm/var.lib.opencryptoki.ocicrypt-keystore";
const FIRST = { so: "87654321", user: "12345678" }; // PINs that have to be changed
let openCryptoki: { folder: string; part: Part } | undefined;

// An old token cannot be initialized anew (its master key stays the old one), but one without files is a new one.
function startOpenCryptoki(): { folder: string; part: Part } {
  for (const entry of readdirSync(TOKEN, { recursive: true, withFileTypes: true }))
    if (entry.isFile()) rmSync(join(entry.parentPath, entry.name));
  rmSync(SHARED_MEMORY, { force: true });
  must(
    [
      "pkcs11-tool",
      "--module",
      "libopencryptoki.so.0",
      "--slot",
      SLOT,
      "--init-token",
      "--label",
      "ocicrypt",
      "--so-pin",
      FIRST.so,
    ],
    {},
  );
  must(["pkcsconf", "-P", "-c", SLOT, "-S", FIRST.so, "-n", SO_PIN], {});
  must(["pkcsconf", "-u", "-c", SLOT, "-S", SO_PIN, "-n", FIRST.user], {});
  must(["pkcsconf", "-p", "-c", SLOT, "-U", FIRST.user, "-n", PIN], {});
  const [folder, env] = [temporaryFolder(), { TOKEN_PIN: PIN }];
  return { folder, part: { ...follow("openCryptoki", folder, env), env, ...pinIn(env) } };
}

const OPENCRYPTOKI: Kind = {
  name: "openCryptoki",
  needs: `opensc, and opencryptoki's pkcsslotd with slot ${SLOT} in ${TOKEN}: see .ci/run`,
  isThere: () => programs("pkcs11-tool") && existsSync(TOKEN) && run(["pkcsconf", "-t", "-c", SLOT], {}).status === 0,
  start: async () => (openCryptoki ??= startOpenCryptoki()).part,
};

const [PROVIDER] = [
  ...globSync("/usr/lib/*/ossl-modules/pkcs11.so"),
  ...globSync(join(CACHE, "usr/lib/*/ossl-modules/pkcs11.so")),
];

const OPENSSL: Kind = {
  name: "openssl",
  needs: `pkcs11-provider or the one that test/support/skopeo.ts unpacks; ${OPENCRYPTOKI.needs}`,
  isThere: () => PROVIDER !== undefined && OPENCRYPTOKI.isThere(),
  start: async () => {
    const { folder } = (openCryptoki ??= startOpenCryptoki());
    const env = { PKCS11_PROVIDER_MODULE: "libopencryptoki.so.0", OPENSSL_MODULES: dirname(PROVIDER ?? "") };
    const pin = pinInFile(join(folder, "token.pin"), PIN);
    return { ...follow("openssl", folder, env), env, ...pin };
  },
};

const TPM: Kind = {
  name: "TPM",
  needs: "swtpm, tpm2-tools, tpm2-abrmd, libtss2-tcti-tabrmd0, libtss2-tcti-swtpm0 and dbus-daemon",
  isThere: () => programs("swtpm", "tpm2_rsadecrypt", "tpm2-abrmd", "dbus-daemon", "setpriv"),
  start: async () => {
    const folder = temporaryFolder();
    const [chip, bus, state] = [join(folder, "swtpm"), join(folder, "bus"), join(folder, "state")];
    mkdirSync(state);
    const env = { TPM2TOOLS_TCTI: "tabrmd:bus_type=session", DBUS_SESSION_BUS_ADDRESS: `unix:path=${bus}` };
    keep(
      [
        "swtpm",
        "socket",
        "--tpm2",
        "--tpmstate",
        `dir=${state}`,
        "--flags",
        "not-need-init,startup-clear",
        "--server",
        `type=unixio,path=${chip}`,
        "--ctrl",
        `type=unixio,path=${chip}.ctrl`,
      ],
      env,
      folder,
    );
    keep(["dbus-daemon", "--session", "--nofork", "--nopidfile", "--address", `unix:path=${bus}`], env, folder);
    await until(() => existsSync(chip) && existsSync(bus), "swtpm and dbus-daemon", folder);
    keep(["tpm2-abrmd", "--allow-root", "--session", "--tcti", `swtpm:path=${chip}`], env, folder);
    await until(() => run(["tpm2_getcap", "properties-fixed"], env).status === 0, "tpm2-abrmd", folder);
    const recipe = follow("TPM", folder, env);
    const file = join(folder, "tpm.pin");
    return { ...recipe, env, ...pinInFile(file, readFileSync(file, "utf8")) };
  },
};

/** All of them. */
export const KINDS: readonly Kind[] = [SOFTHSM, OPENCRYPTOKI, OPENSSL, TPM];

function pinIn(env: { TOKEN_PIN: string }): Pick<Part, "pin" | "setPin"> {
  return { pin: env.TOKEN_PIN, setPin: (pin) => (env.TOKEN_PIN = pin) };
}

function pinInFile(file: string, pin: string): Pick<Part, "pin" | "setPin"> {
  const setPin = (text: string): void => writeFileSync(file, text, { mode: 0o600 });
  setPin(pin);
  return { pin, setPin };
}

function programs(...names: readonly string[]): boolean {
  return names.every((name) => PATH.split(":").some((folder) => existsSync(join(folder, name))));
}

function run(
  [file = "", ...args]: readonly string[],
  env: NodeJS.ProcessEnv,
): { status: number | null; stderr: string } {
  const { status, stderr, error } = spawnSync(file, args, { env: { ...env, PATH }, encoding: "utf8", timeout: 20_000 });
  return { status, stderr: error?.message ?? stderr };
}

function must(command: readonly string[], env: NodeJS.ProcessEnv): void {
  const { status, stderr } = run(command, env);
  if (status !== 0) throw new Error(`${command.slice(0, 2).join(" ")} fails: ${stderr}`);
}

// Starts what runs until this process ends, however it ends.
function keep(command: readonly string[], env: NodeJS.ProcessEnv, folder: string): void {
  const log = openSync(join(folder, "log"), "a");
  spawn("setpriv", ["--pdeathsig", "KILL", ...command], {
    env: { ...env, PATH },
    cwd: folder,
    stdio: ["ignore", log, log],
  }).unref();
}

async function until(isReady: () => boolean, what: string, folder: string): Promise<void> {
  for (const end = Date.now() + 20_000; !isReady(); await sleep(50))
    if (Date.now() > end) throw new Error(`${what}: not ready: ${readFileSync(join(folder, "log"), "utf8")}`);
}
