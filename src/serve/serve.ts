// serve: one running process that answers over gRPC, with the same answers as exec mode.

import { X509Certificate } from "node:crypto";
import { createSecureContext } from "node:tls";
import {
  logVerbosity,
  Server,
  ServerCredentials,
  ServerInterceptingCall,
  setLogVerbosity,
  status,
  type ServerInterceptingCallInterface,
  type ServerInterceptor,
} from "@grpc/grpc-js";
import { busyError, ioError, usageError } from "../errors.ts";
import type { Store } from "../keystore/store.ts";
import { MAX_MESSAGE, SERVICE } from "./service.ts";
import { endCommands } from "../keys/command.ts";
import { bindSocket, loopbackHosts, shownAddress, type Address } from "./address.ts";
import { callError, Handler, type Call, type Done, type HandlerOptions } from "./handler.ts";
import { shownTime, TIME_LIMITS } from "./limits.ts";
import { AuditFile } from "./log.ts";
import { unlockedStore } from "./store.ts";

/** The options of the command line. */
export interface ServeOptions extends HandlerOptions {
  readonly store: Store;
  readonly address: Address;
  /** Permissions of a unix socket. */
  readonly socketMode: number;
  /** PEM; without it the address must be a unix socket or loopback. */
  readonly tls: { readonly cert: Buffer; readonly key: Buffer; readonly clientCa: Buffer } | undefined;
  /** The audit file's path. */
  readonly audit: string | undefined;
}

const MAX_INCOMPLETE = 128; // requests whose message is not complete yet, each with up to MAX_MESSAGE in memory
const DRAIN_LIMIT = 30_000; // ms for the requests under way when the server is told to end
const GRPC_OPTIONS = {
  "grpc.max_receive_message_length": MAX_MESSAGE,
  "grpc.max_send_message_length": MAX_MESSAGE,
  "grpc.max_concurrent_streams": 128, // of one connection
  "grpc.max_connection_idle_ms": 5 * 60_000,
  "grpc.max_connection_age_ms": 10 * 60_000, // then a client must connect again, as most do for each call
  // The longest time that a request may take.
  "grpc.max_connection_age_grace_ms": Object.values(TIME_LIMITS).reduce((sum, limit) => sum + limit),
  "grpc.keepalive_time_ms": 60_000,
  "grpc.keepalive_timeout_ms": 20_000,
  "grpc.enable_channelz": 0,
};

/**
 * Serves until SIGTERM or SIGINT. Then it finishes the requests under way, for at most 30 s. SIGHUP does not end it:
 * `kill -HUP` and systemd's ExecReload send it to reload, and under nohup Node would no longer ignore it.
 *
 * @param tell gets lines for the user: where the server listens, which key does not open
 * @throws KeystoreError if it cannot start
 */
export async function serve(options: ServeOptions, tell: (line: string) => void): Promise<void> {
  const { address, socketMode, tls } = options;
  const reload = "SIGHUP: nothing to reload, the store is read for each request; restart the server for new TLS files";
  process.on("SIGHUP", () => tell(reload));
  const hosts = address.kind === "unix" ? [] : tls === undefined ? await loopbackHosts(address.host) : [address.host];
  const credentials = tls === undefined ? ServerCredentials.createInsecure() : mutualTls(tls);
  const audit = options.audit === undefined ? undefined : new AuditFile(options.audit);
  await audit?.write();
  const store = await unlockedStore(options.store, tell);
  process.stderr.on("error", () => undefined); // the server goes on if nobody reads the log

  setLogVerbosity(logVerbosity.NONE); // turn the library's own log off: ours has what users need
  const server = new Server({ ...GRPC_OPTIONS, interceptors: [limited()] });
  const handler = new Handler(store, options, audit);
  server.addService(SERVICE, {
    WrapKey: (call: Call, done: Done) => void handler.handle("keywrap", call, done),
    UnWrapKey: (call: Call, done: Done) => void handler.handle("keyunwrap", call, done),
  });
  const { actual, withdraw } = await listen(server, address, hosts, socketMode, credentials);
  const stopped = new Promise<void>((stop) => {
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, stop);
  });
  tell(`listening on ${shownAddress(actual)}`); // this comes last: whoever reads it may send a signal
  await stopped;
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.once(signal, () => {
      endCommands();
      process.kill(process.pid, signal); // a second signal does not wait
    });
  }
  await withdraw();
  await drain(server);
  endCommands(); // of requests that are no longer waited for
}

function mutualTls({ cert, key, clientCa }: NonNullable<ServeOptions["tls"]>): ServerCredentials {
  try {
    createSecureContext({ cert, key, ca: clientCa });
  } catch (error) {
    const reason = error instanceof Error ? error.message.split("\n", 1)[0] : "unknown error";
    const hint = "give PEM files with --tls-cert, --tls-key (of that certificate) and --tls-client-ca";
    throw usageError(`the TLS certificate, key and client CA cannot be used: ${reason}`, hint);
  }
  requireCertificates(clientCa);
  return ServerCredentials.createSsl(clientCa, [{ cert_chain: cert, private_key: key }], true);
}

/**
 * Refuses a file without a certificate, or with a damaged one: TLS would skip it, and then refuse some or all clients.
 *
 * @throws KeystoreError `usage`
 */
function requireCertificates(clientCa: Buffer): void {
  const certificates = clientCa
    .toString("latin1")
    .split(/^(?=-----BEGIN )/m)
    .filter((block) => /^-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----/.test(block));
  if (certificates.length === 0)
    throw usageError(
      "the file of --tls-client-ca has no certificate in PEM",
      "name the certificate of the CA that signs the clients' certificates",
    );
  const damaged = certificates.findIndex((certificate) => !isCertificate(certificate));
  if (damaged !== -1)
    throw usageError(
      `certificate ${damaged + 1} in the file of --tls-client-ca is damaged`,
      "replace it, or take it out",
    );
}

function isCertificate(pem: string): boolean {
  try {
    return new X509Certificate(pem).raw.length > 0;
  } catch {
    return false;
  }
}

/** @returns the address with the port that was bound, and a function that removes a unix socket */
async function listen(
  server: Server,
  address: Address,
  hosts: readonly string[],
  socketMode: number,
  credentials: ServerCredentials,
): Promise<{ actual: Address; withdraw: () => Promise<void> }> {
  if (address.kind === "unix") {
    const bind = async (path: string): Promise<number> => await bound(server, { ...address, path }, credentials);
    return { actual: address, withdraw: await bindSocket(address.path, socketMode, bind) };
  }
  let { port } = address; // 0 means any port: all hosts get the port that the first one got
  for (const host of hosts) port = await bound(server, { ...address, host, port }, credentials);
  return { actual: { ...address, port }, withdraw: async () => undefined };
}

async function bound(server: Server, address: Address, credentials: ServerCredentials): Promise<number> {
  const target = address.kind === "unix" ? `unix:${address.path}` : shownAddress(address);
  return await new Promise((resolve, reject) => {
    server.bindAsync(target, credentials, (error, port) => {
      if (error === null) return resolve(port);
      const code = /\bE[A-Z]{3,}\b/.exec(error.message)?.[0] ?? "unknown error";
      const hint = "check that no other program listens there, and that this user may listen there";
      return reject(ioError(`cannot listen on ${shownAddress(address)}: ${code}`, hint));
    });
  });
}

async function drain(server: Server): Promise<void> {
  await new Promise<void>((drained) => {
    const limit = setTimeout(() => {
      server.forceShutdown();
      drained();
    }, DRAIN_LIMIT);
    server.tryShutdown(() => {
      clearTimeout(limit);
      drained();
    });
  });
}

/**
 * Ends requests whose message does not become complete: after their time, or the oldest if there are too many.
 * Compressed requests are refused, because a few bytes would become megabytes before a handler sees them. ocicrypt's
 * clients do not compress.
 */
function limited(): ServerInterceptor {
  const incomplete = new Set<ServerInterceptingCallInterface>(); // the oldest first
  const end = (call: ServerInterceptingCallInterface, code: status, message: string, hint = "try again"): void => {
    incomplete.delete(call);
    call.sendStatus({ ...callError(busyError(message, hint)), code, metadata: null });
  };
  return (_method, call) =>
    new ServerInterceptingCall(call, {
      start: (next) => {
        const limit = TIME_LIMITS.message;
        const late = `the request was not complete within ${shownTime(limit)}`;
        const timer = setTimeout(() => end(call, status.DEADLINE_EXCEEDED, late), limit);
        const complete = (): void => {
          incomplete.delete(call);
          clearTimeout(timer);
        };
        next({
          onReceiveMetadata: (metadata, on) => on(metadata),
          onReceiveMessage: (message, on) => on(message),
          onReceiveHalfClose: (on) => {
            complete();
            on();
          },
          onCancel: complete,
        });
        // The library has the header in a private field. A test checks that the field exists.
        if ("incomingEncoding" in call && call.incomingEncoding !== "identity") {
          return end(call, status.UNIMPLEMENTED, "the request is compressed", "send it without compression");
        }
        const [oldest] = incomplete;
        if (oldest !== undefined && incomplete.size >= MAX_INCOMPLETE) {
          end(oldest, status.RESOURCE_EXHAUSTED, `${MAX_INCOMPLETE} newer requests wait for the rest of their message`);
        }
        incomplete.add(call);
      },
    });
}
