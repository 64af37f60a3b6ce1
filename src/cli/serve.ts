// serve: runs the key provider as a gRPC server.

import { availableParallelism } from "node:os";
import { KeystoreError, usageError } from "../errors.ts";
import { refuseOpenMode } from "../fs/read.ts";
import type { ServeOptions } from "../serve/serve.ts";
import { cliStore } from "./secrets.ts";
import { mustReadFile, tell, type Cli } from "./shared.ts";

const PEM = "name a PEM file";
const MAX_JOBS = 256; // as many as requests may be under way
const DEFAULT_JOBS = Math.min(Math.max(availableParallelism(), 2), 4); // each may need 110 MiB of the unit's 1 GiB

/** Adds the command. It ends with exit code 0 after SIGTERM or SIGINT; SIGHUP does not end it. */
export function serve(cli: Cli): void {
  cli.command(
    "serve",
    "Answer key provider requests over gRPC",
    (yargs) =>
      yargs
        .option("listen", { type: "string", requiresArg: true, demandOption: true, describe: "unix:PATH or HOST:PORT" })
        .option("socket-mode", {
          type: "string",
          requiresArg: true,
          describe: "The mode of the unix socket (default: 0600)",
        })
        .option("tls-cert", { type: "string", requiresArg: true, describe: "The server's certificate, with its chain" })
        .option("tls-key", { type: "string", requiresArg: true, describe: "The private key of that certificate" })
        .option("tls-client-ca", {
          type: "string",
          requiresArg: true,
          describe: "The CA that signs the certificates of clients that may call",
        })
        .option("allow", {
          choices: ["wrap", "unwrap"] as const,
          requiresArg: true,
          describe: "Allow only this operation",
        })
        .option("provider", {
          type: "string",
          requiresArg: true,
          describe: "The provider's name, if requests name several providers",
        })
        .option("audit", {
          type: "string",
          requiresArg: true,
          describe: "Append a JSON line to this file for each request, before it is answered",
        })
        .option("holder-jobs", {
          type: "string",
          requiresArg: true,
          describe: `How many holders' commands run at the same time (default: ${DEFAULT_JOBS})`,
        })
        .epilogue("SIGTERM and SIGINT end it once the requests under way are answered. SIGHUP does not end it.")
        .example(
          "$0 serve --listen unix:/run/ocicrypt-keystore/socket",
          "For this machine's clients: see config --grpc",
        )
        .example(
          "$0 serve --listen 0.0.0.0:50051 --tls-cert C --tls-key K --tls-client-ca CA",
          "For clients with a certificate",
        ),
    async ({
      keystore,
      listen,
      socketMode,
      tlsCert,
      tlsKey,
      tlsClientCa,
      allow,
      provider,
      audit,
      holderJobs,
      ...secrets
    }) => {
      const [{ serve: start }, { parseAddress }] = await Promise.all([
        import("../serve/serve.ts"),
        import("../serve/address.ts"),
      ]);
      const address = parseAddress(listen);
      if (address.kind === "tcp" && socketMode !== undefined)
        throw usage("--socket-mode is for a unix socket", "leave it out, or listen on unix:PATH");
      const tls = tlsFiles({ tlsCert, tlsKey, tlsClientCa });
      if (address.kind === "unix" && tls !== undefined)
        throw usage(
          "TLS is not for a unix socket",
          "leave the --tls options out: the socket's mode decides who may call",
        );
      await start(
        {
          store: cliStore({ keystore, ...secrets }),
          address,
          socketMode: parseMode(socketMode ?? "0600"),
          tls,
          allow: allow === undefined ? ["keywrap", "keyunwrap"] : allow === "wrap" ? ["keywrap"] : ["keyunwrap"],
          provider,
          audit,
          holderJobs: parseJobs(holderJobs ?? String(DEFAULT_JOBS)),
        },
        tell,
      );
      process.reallyExit(0); // even if a client left a connection open
    },
  );
}

function parseMode(text: string): number {
  if (/^0?[0-7]{3}$/.test(text)) return Number.parseInt(text, 8);
  throw usage(`--socket-mode ${text} is not a mode`, "write it in octal, such as 0660");
}

function parseJobs(text: string): number {
  if (/^[1-9]\d{0,2}$/.test(text) && Number(text) <= MAX_JOBS) return Number(text);
  throw usage(`--holder-jobs ${text} is not a number of commands`, `give 1 to ${MAX_JOBS}`);
}

function tlsFiles({
  tlsCert,
  tlsKey,
  tlsClientCa,
}: Readonly<Record<"tlsCert" | "tlsKey" | "tlsClientCa", string | undefined>>): ServeOptions["tls"] {
  if (tlsCert === undefined && tlsKey === undefined && tlsClientCa === undefined) return undefined;
  if (tlsCert === undefined || tlsKey === undefined || tlsClientCa === undefined) {
    const message = "--tls-cert, --tls-key and --tls-client-ca must be given together";
    throw usage(message, "give all three: without a client CA anybody could call the server");
  }
  const [cert, key, clientCa] = [mustReadFile(tlsCert, PEM), mustReadFile(tlsKey, PEM), mustReadFile(tlsClientCa, PEM)];
  refuseOpenMode(tlsKey, "TLS key", key);
  return { cert: cert.bytes, key: key.bytes, clientCa: clientCa.bytes };
}

function usage(message: string, hint: string): KeystoreError {
  return usageError(message, hint);
}
