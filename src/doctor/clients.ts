// Checks of the clients on PATH: whether the ocicrypt in each knows `provider:`. No client is started: podman and
// buildah set up their storage at each start, and a client's version does not tell its ocicrypt. Instead the check
// looks for the names of Go packages, which every Go program holds, even if it is stripped.

import { KeystoreError } from "../errors.ts";
import { skip, type Check, type Outcome, type Report } from "./check.ts";
import type { Context } from "./context.ts";
import { contents, findProgram } from "./programs.ts";

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
const GRPC_TLS = "grpc-tls"; // since ocicrypt 1.3.0

/** What a program says of its ocicrypt. */
type Knowledge = "no ocicrypt" | "too old" | "provider" | "grpc-tls";

const learned = new Map<string, Knowledge>();

function knowledgeOf(path: string): Knowledge {
  const before = learned.get(path);
  if (before !== undefined) return before;
  const program = contents(path);
  const knowledge = program.includes(KEY_PROVIDER)
    ? program.includes(GRPC_TLS)
      ? "grpc-tls"
      : "provider"
    : program.includes(ANY_WRAPPER)
      ? "too old"
      : "no ocicrypt";
  learned.set(path, knowledge);
  return knowledge;
}

/** The clients here that know `provider:`: those that know `grpc-tls`, and those that call without TLS. */
export function tlsKnowledge(): { readonly aware: readonly string[]; readonly unaware: readonly string[] } {
  const found = CLIENTS.filter((name) => name !== "containerd").flatMap((name) => findProgram(name) ?? []);
  const having = (knowledge: Knowledge): string[] => found.filter((path) => knowledgeOf(path) === knowledge);
  return { aware: having("grpc-tls"), unaware: having("provider") };
}

/** A client is on PATH. */
export function anyClient(_context: Context, { warn }: Report): Outcome {
  const names = CLIENTS.filter((name) => findProgram(name) !== undefined);
  const hint = "nothing to do if images are encrypted and decrypted elsewhere";
  if (names.length === 0) warn(`none of ${CLIENTS.join(", ")} is on PATH`, hint);
  return names.join(", ");
}

/** A check that one client knows `provider:`, and `grpc-tls` if the configuration has it. */
export function knowsProvider(name: (typeof CLIENTS)[number]): Check["run"] {
  return async (context, report) => {
    const path = findProgram(name);
    if (path === undefined) return skip("not on PATH");
    if (name === "containerd") return skip(`${path} starts ctd-decoder to decrypt`);
    const knowledge = knowledgeOf(path);
    if (knowledge === "no ocicrypt") {
      return skip(`${path} does not contain ocicrypt, or cannot be read: it may be a script`);
    }
    if (knowledge === "too old") {
      const message = `${path} does not know provider: ("Provided protocol not recognized")`;
      const hint = `install a newer ${name}, built with ocicrypt 1.1 or later`;
      const debian = "as Debian 13's skopeo, podman and buildah are";
      report.warn(`${message}: it is built with ocicrypt before 1.1`, `${hint}, ${debian}`);
    }
    if (knowledge === "provider") await callInClear(name, path, context, report);
    return `${path} knows provider:`;
  };
}

/** Calls the servers with `grpc-tls` as a client that does not know it does. */
async function callInClear(name: string, path: string, { config, store }: Context, report: Report): Promise<void> {
  const servers = config?.servers.filter(({ tls }) => tls !== undefined) ?? [];
  if (servers.length === 0) return;
  const { tryServer } = await import("./grpc.ts");
  for (const server of servers) {
    const message = `${path} does not know grpc-tls, and calls provider ${server.name} without TLS`;
    const hint = `use a server on a unix socket or localhost, or a ${name} built with ocicrypt 1.3 or later`;
    try {
      await tryServer({ ...server, tls: undefined }, store.names()[0]);
      report.warn(message, hint);
    } catch (error) {
      if (!(error instanceof KeystoreError)) throw error;
      report.fail(`${message}, which the server refuses ("error reading server preface: EOF")`, hint);
    }
  }
}
