// Private keys at rest that a TPM opens, as clevis's tpm2 pin locks them. tpm2-tools talk to the TPM.

import { decodeBase64url } from "../base64.ts";
import { errorCode, printable, unusableError, usageError, type KeystoreError } from "../errors.ts";
import { isObject, member, parseJson, type JsonObject } from "../json.ts";
import { ENCRYPTIONS } from "../jwe/alg/algorithms.ts";
import { decryptContent } from "../jwe/engine.ts";
import { clevisPin, damagedLockedKey, parseLocked, type AtRestType } from "./locked-file.ts";

const TIME_LIMIT = 20_000; // ms for each tool
const FOLDERS = ["/usr/bin", "/usr/local/bin", "/run/current-system/sw/bin"]; // not PATH: the tools get secrets
const DEVICE = "/dev/tpmrm0"; // the kernel's resource manager
const JWK_DEPTH = 3;

/** Keys that are locked for a TPM. This program opens them and does not make new ones. */
export const byTpm: AtRestType = {
  alg: "dir",
  pin: "tpm2",
  atRestOf: (file) => {
    sealed(file);
    return {
      kind: "TPM",
      seal: async () => {
        const hint = "run ocicrypt-keystore unlock, then make the key, then lock them again";
        return await Promise.reject(
          usageError("this program locks no keys for a TPM, as others of the store are", hint),
        );
      },
      open: openWithTpm,
      sameAs: () => true,
    };
  },
};

/** What clevis writes into the header: a key sealed below a primary key that is made of these parameters. */
interface Sealed {
  readonly hash: string;
  readonly key: string;
  readonly publicPart: Buffer;
  readonly privatePart: Buffer;
  /** The registers that must have the values of then, such as `sha256:0,7`. */
  readonly registers: string | undefined;
}

function sealed(file: Buffer): Sealed {
  const { config = {} } = clevisPin(parseLocked(file).header) ?? {};
  const [bank, ids] = [word(config, "pcr_bank"), word(config, "pcr_ids")];
  const [hash, key] = [word(config, "hash"), word(config, "key")];
  const [publicPart, privatePart] = ["jwk_pub", "jwk_priv"].map((name) => bytes(config, name));
  if (hash === undefined || key === undefined) throw damagedLockedKey("has no hash or no key");
  if (publicPart === undefined || privatePart === undefined) throw damagedLockedKey("has no jwk_pub or no jwk_priv");
  const registers = ids === undefined || ids === "" ? undefined : `${bank ?? "sha1"}:${ids}`;
  return { hash, key, publicPart, privatePart, registers };
}

/** A word that becomes an argument of a tool. */
function word(config: JsonObject, name: string): string | undefined {
  const value = member(config, name);
  if (value === undefined) return undefined;
  if (typeof value !== "string" || !/^[a-z0-9_,]{0,64}$/i.test(value)) throw damagedLockedKey(`has an odd ${name}`);
  return value;
}

function bytes(config: JsonObject, name: string): Buffer | undefined {
  const text = member(config, name);
  return typeof text === "string" ? decodeBase64url(text) : undefined;
}

async function openWithTpm(file: Buffer, signal?: AbortSignal): Promise<Buffer> {
  const { jwe } = parseLocked(file);
  const cek = keyOf(await unseal(sealed(file), signal));
  if (cek.length !== ENCRYPTIONS[jwe.enc].cek) throw damagedLockedKey("has a key that is not for its enc");
  try {
    return await decryptContent(jwe, cek);
  } catch {
    throw damagedLockedKey("does not open with the key that the TPM gives");
  }
}

function keyOf(jwk: Buffer): Buffer {
  const value = parseJson(jwk, JWK_DEPTH, () => damagedLockedKey("seals something else than a JWK"));
  const k = isObject(value) ? member(value, "k") : undefined;
  const cek = typeof k === "string" ? decodeBase64url(k) : undefined;
  if (cek === undefined) throw damagedLockedKey("seals something else than a symmetric JWK");
  return cek;
}

/** Loads the sealed key below the owner's primary key and unseals it. The tools exchange their contexts as files. */
async function unseal(
  { hash, key, publicPart, privatePart, registers }: Sealed,
  signal?: AbortSignal,
): Promise<Buffer> {
  const { mkdtempSync, rmSync, writeFileSync } = process.getBuiltinModule("node:fs");
  const folder = inTemporary((parent) => mkdtempSync(`${parent}/ocicrypt-keystore-`));
  const at = (name: string): string => `${folder}/${name}`;
  try {
    inTemporary(() => {
      writeFileSync(at("public"), publicPart);
      writeFileSync(at("private"), privatePart);
    });
    await tool("createprimary", ["-Q", "-C", "o", "-g", hash, "-G", key, "-c", at("primary")], signal);
    await tool("flushcontext", ["-t"], signal);
    const parts = ["-u", at("public"), "-r", at("private")];
    await tool("load", ["-Q", "-C", at("primary"), ...parts, "-c", at("loaded")], signal);
    await tool("flushcontext", ["-t"], signal);
    const policy = registers === undefined ? [] : ["-p", `pcr:${registers}`];
    const jwk = await tool("unseal", ["-c", at("loaded"), ...policy], signal);
    await tool("flushcontext", ["-t"], signal);
    return jwk;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Writes for the tools. A failure is this key's own: other keys may still open the annotation. */
function inTemporary<T>(write: (parent: string) => T): T {
  const parent = process.getBuiltinModule("node:os").tmpdir();
  try {
    return write(parent);
  } catch (error) {
    const message = `its tools exchange files, and ${parent} cannot be written: ${errorCode(error) ?? "unknown error"}`;
    throw failed(message, "make that folder writable, or mount a tmpfs there");
  }
}

async function tool(name: string, args: readonly string[], signal?: AbortSignal): Promise<Buffer> {
  const { existsSync } = process.getBuiltinModule("node:fs");
  const { execFile } = process.getBuiltinModule("node:child_process");
  const program = FOLDERS.map((folder) => `${folder}/tpm2_${name}`).find((path) => existsSync(path));
  if (program === undefined) throw failed("tpm2-tools are not installed", "install tpm2-tools");
  const TPM2TOOLS_TCTI = process.env["TPM2TOOLS_TCTI"] ?? `device:${DEVICE}`;
  const given = process.env["TPM2TOOLS_TCTI"] !== undefined;
  if (!given && !existsSync(DEVICE))
    throw failed(`there is no ${DEVICE}`, "open it on the machine that it was locked on");
  const bus = process.env["DBUS_SESSION_BUS_ADDRESS"]; // of a resource manager that TPM2TOOLS_TCTI names
  const env = { PATH: FOLDERS.join(":"), TPM2TOOLS_TCTI, ...(bus !== undefined && { DBUS_SESSION_BUS_ADDRESS: bus }) };
  return await new Promise((resolve, reject) => {
    const options = { env, encoding: "buffer", timeout: TIME_LIMIT, signal } as const;
    execFile(program, [...args], options, (error, stdout, stderr) => {
      if (error === null) return resolve(stdout);
      const line = stderr.toString().trim().split("\n").at(-1) ?? "";
      const hint = "it opens only on the machine, and in the state of its boot, that it was locked for";
      return reject(failed(`tpm2_${name} fails${line === "" ? "" : `: ${printable(line, 200)}`}`, hint));
    });
  });
}

function failed(reason: string, hint: string): KeystoreError {
  return unusableError(`it is locked for a TPM: ${reason}`, hint);
}
