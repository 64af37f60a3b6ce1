// The clients on PATH, and whether the ocicrypt in each knows `provider:`. None is started for it: podman and buildah set
// up their storage at every start, and a version does not tell. Go's programs carry the names of their packages, stripped or not.

import { readFileSync } from "node:fs";
import { check, findProgram, type Check } from "./check.ts";

const CLIENTS = ["skopeo", "podman", "buildah", "nerdctl", "ctr-enc", "ctd-decoder", "containerd", "crio"] as const;
const ANY_WRAPPER = "ocicrypt/keywrap/"; // of every ocicrypt
const KEY_PROVIDER = "ocicrypt/keywrap/keyprovider"; // since 1.1.0, with `provider:`

/** Whether there is any, and a check for each. */
export async function clientChecks(): Promise<Check[]> {
  const found = CLIENTS.map((name) => ({ name, path: findProgram(name) }));
  const checks = found.map(({ name, path }) => check(`client.${name}`, (warn) => (path === undefined ? "not on PATH" : probe(name, path, warn))));
  const any = check("clients", (warn) => {
    const names = found.filter(({ path }) => path !== undefined).map(({ name }) => name);
    if (names.length === 0) warn(`none of ${CLIENTS.join(", ")} is on PATH`, "nothing to do if images are encrypted and decrypted elsewhere");
    return names.join(", ");
  });
  return (await Promise.all([any, ...checks])).flat();
}

function probe(name: (typeof CLIENTS)[number], path: string, warn: (message: string, hint: string) => void): string {
  if (name === "containerd") return `${path} (it starts ctd-decoder)`;
  const program = contents(path);
  if (program.includes(KEY_PROVIDER)) return `${path} knows provider:`;
  if (!program.includes(ANY_WRAPPER)) return `${path}, not probed: there is no ocicrypt to be read in it, perhaps it is a script`;
  warn(`${path} does not know provider: ("Provided protocol not recognized"): it is built with ocicrypt before 1.1`, `install a newer ${name}, built with ocicrypt 1.1 or later, as Debian 13's skopeo, podman and buildah are`);
  return "";
}

function contents(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch {
    return Buffer.alloc(0); // to be executed, not read
  }
}
