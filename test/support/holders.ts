// What the tests of holders share: keys on disk that openssl's commands hold, as a token's tool holds a token's key.

import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { secretFile, temporaryFolder } from "./folders.ts";
import { tool } from "./parts.ts";
import { commands } from "./stores.ts";

export const openssl = tool("openssl");

/** A key that stays outside the store: its public half as PEM, and the files of both. */
export interface Outside {
  readonly publicPem: string;
  readonly publicFile: string;
  readonly privateFile: string;
}

/** A key that stays outside. */
export function outside({ publicKey, privateKey }: { publicKey: KeyObject; privateKey: KeyObject }): Outside {
  const publicPem = String(publicKey.export({ type: "spki", format: "pem" }));
  return {
    publicPem,
    publicFile: secretFile(publicPem),
    privateFile: secretFile(privateKey.export({ type: "pkcs8", format: "pem" })),
  };
}

export const newRsa = (): Outside => outside(generateKeyPairSync("rsa", { modulusLength: 2048 }));
export const newEc = (namedCurve = "P-256"): Outside => outside(generateKeyPairSync("ec", { namedCurve }));

/** The command that does an operation with a key: real ones. */
export function holds(op: "rsa-oaep-256" | "rsa-oaep" | "ecdh", { privateFile }: Outside): string[] {
  // Node's pipes are sockets, which nobody can open by name as /dev/stdin: cat makes one of them.
  if (op === "ecdh")
    return [
      script(
        `${tool("cat") ?? ""} | ${openssl ?? ""} pkeyutl -derive -inkey ${privateFile} -peerform DER -peerkey /dev/stdin`,
      ),
    ];
  const sha256 = op === "rsa-oaep-256" ? ["-pkeyopt", "rsa_oaep_md:sha256"] : [];
  return [openssl ?? "", "pkeyutl", "-decrypt", "-inkey", privateFile, "-pkeyopt", "rsa_padding_mode:oaep", ...sha256];
}

/** A program of these lines of shell; `exec "$@"` runs the command that it is given. */
export function script(lines: string, mode = 0o755, interpreter = "/bin/sh"): string {
  const path = join(temporaryFolder(), "holder");
  writeFileSync(path, `#!${interpreter}\n${lines}\n`, { mode });
  return path;
}

/** Writes a key's holder file by hand. */
export function writeHolder(
  dir: string,
  kid: string,
  ops: Readonly<Record<string, readonly string[]>>,
  more: object = {},
): void {
  writeFileSync(join(dir, "private", `${kid}.holder`), JSON.stringify({ kid, ops, ...more }), { mode: 0o600 });
}

/** The lines of a file that a script writes to; none if it never did. */
export function linesOf(path: string): string[] {
  return existsSync(path) ? readFileSync(path, "utf8").split("\n").slice(0, -1) : [];
}

/** Whether a process is there and no zombie: nobody may be there to reap it. */
export function isRunning(pid: string): boolean {
  try {
    return !/^\d+ \(.*\) [ZX]/.test(readFileSync(`/proc/${pid}/stat`, "latin1"));
  } catch {
    return false;
  }
}

type Operation = "rsa-oaep-256" | "rsa-oaep" | "ecdh";

/** The arguments that import a key with openssl as its holder, under the name hsm. */
export function held(op: Operation, key: Outside): string[] {
  return ["import", "hsm", key.publicFile, "--holder", op, "--", ...holds(op, key)];
}

/** A store whose only key, hsm, is held by a command. */
export function heldStore(op: Operation, key: Outside): string {
  const dir = join(temporaryFolder(), "store");
  commands(dir)(...held(op, key));
  return dir;
}
