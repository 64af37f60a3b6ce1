// Checks of the clients on PATH: whether the ocicrypt in each knows `provider:`. No client is started: podman and
// buildah set up their storage at each start, and a client's version does not tell its ocicrypt. Instead the check
// looks for the names of Go packages, which every Go program holds, even if it is stripped.

import { readFileSync } from "node:fs";
import { skip, type Check, type Outcome, type Report } from "./check.ts";
import type { Context } from "./context.ts";
import { findProgram } from "./programs.ts";

/** The clients, by the names of their programs. */
export const CLIENTS = [
  "skopeo",
  "podman",
  "buildah",
  "nerdctl",
  "ctr-enc",
  "ctd-decoder",
  "containerd",
  "crio",
] as const;

const ANY_WRAPPER = "ocicrypt/keywrap/"; // every ocicrypt has it
const KEY_PROVIDER = "ocicrypt/keywrap/keyprovider"; // since ocicrypt 1.1.0, which knows `provider:`

/** A client is on PATH. */
export function anyClient(_context: Context, { warn }: Report): Outcome {
  const names = CLIENTS.filter((name) => findProgram(name) !== undefined);
  const hint = "nothing to do if images are encrypted and decrypted elsewhere";
  if (names.length === 0) warn(`none of ${CLIENTS.join(", ")} is on PATH`, hint);
  return names.join(", ");
}

/** A check that one client knows `provider:`. */
export function knowsProvider(name: (typeof CLIENTS)[number]): Check["run"] {
  return (_context, { warn }) => {
    const path = findProgram(name);
    if (path === undefined) return skip("not on PATH");
    if (name === "containerd") return skip(`${path} starts ctd-decoder to decrypt`);
    const program = contents(path);
    if (program.includes(KEY_PROVIDER)) return `${path} knows provider:`;
    if (!program.includes(ANY_WRAPPER))
      return skip(`${path} does not contain ocicrypt, or cannot be read: it may be a script`);
    const message = `${path} does not know provider: ("Provided protocol not recognized")`;
    const hint = `install a newer ${name}, built with ocicrypt 1.1 or later`;
    warn(`${message}: it is built with ocicrypt before 1.1`, `${hint}, as Debian 13's skopeo, podman and buildah are`);
    return "";
  };
}

function contents(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch {
    return Buffer.alloc(0); // a program may be executable and not readable
  }
}
