// serve: one warm process that answers over gRPC what exec mode answers on standard output.

import { createSecureContext } from "node:tls";
import { logVerbosity, Server, ServerCredentials, ServerInterceptingCall, setLogVerbosity, status, type sendUnaryData, type ServerInterceptingCallInterface, type ServerInterceptor, type ServerUnaryCall } from "@grpc/grpc-js";
import { asKeystoreError, errorLine, KeystoreError, type ErrorCode } from "../errors.ts";
import type { SecretSource } from "../jwe/at-rest.ts";
import { LIMITS } from "../jwe/gate.ts";
import { mustExist } from "../keystore/directory.ts";
import type { KeyStore } from "../keystore/keystore.ts";
import { answerRequest, wireForm, type Answer } from "../protocol/answer.ts";
import { providerName, type ProviderHints } from "../protocol/recipients.ts";
import { parseRequest, type Request } from "../protocol/request.ts";
import { decodeMessage, encodeMessage, MAX_MESSAGE, SERVICE } from "../transport/grpc.ts";
import { bindSocket, loopbackHosts, shownAddress, type Address } from "./address.ts";
import { AuditFile, logLine } from "./log.ts";
import { unlockedStore, watched } from "./store.ts";

/** An operation of the protocol. */
export type Operation = Request["op"];

/** What the command line says. */
export interface ServeOptions {
  readonly dir: string;
  readonly secrets: SecretSource;
  readonly address: Address;
  /** Permissions of a unix socket. */
  readonly socketMode: number;
  /** PEM; without it the address is a unix socket or loopback. */
  readonly tls: { readonly cert: Buffer; readonly key: Buffer; readonly clientCa: Buffer } | undefined;
  readonly allow: readonly Operation[];
  readonly provider: string | undefined;
  /** The audit file's path. */
  readonly audit: string | undefined;
}

const MAX_AT_ONCE = 256; // requests under way
const MAX_INCOMPLETE = 128; // requests whose message is still to come, each with up to MAX_MESSAGE in memory
const TIME_LIMIT = 60_000; // ms for a request, from its first byte: two holders may take their 30 s
const DRAIN_LIMIT = 30_000; // ms for what is under way when the server is told to end
const GRPC_OPTIONS = {
  "grpc.max_receive_message_length": MAX_MESSAGE,
  "grpc.max_send_message_length": MAX_MESSAGE,
  "grpc.max_concurrent_streams": 128, // of one connection
  "grpc.max_connection_idle_ms": 5 * 60_000,
  "grpc.max_connection_age_ms": 10 * 60_000, // then a client dials anew, as it does for every call anyway
  "grpc.max_connection_age_grace_ms": TIME_LIMIT,
  "grpc.keepalive_time_ms": 60_000,
  "grpc.keepalive_timeout_ms": 20_000,
  "grpc.enable_channelz": 0,
};

const STATUS: Readonly<Record<ErrorCode, status>> = {
  usage: status.INVALID_ARGUMENT,
  request: status.INVALID_ARGUMENT,
  annotation: status.INVALID_ARGUMENT,
  image: status.INVALID_ARGUMENT,
  foreign: status.NOT_FOUND,
  recipient: status.NOT_FOUND,
  key: status.FAILED_PRECONDITION,
  store: status.FAILED_PRECONDITION,
  denied: status.PERMISSION_DENIED,
  busy: status.RESOURCE_EXHAUSTED,
  io: status.INTERNAL,
};

/**
 * Serves until it gets SIGTERM or SIGINT and what was under way then is answered, or 30 s have passed.
 *
 * @param tell gets lines for a person: where it listens, what is wrong with a key
 * @throws KeystoreError if it cannot start
 */
export async function serve(options: ServeOptions, tell: (line: string) => void): Promise<void> {
  const { dir, address, socketMode, tls } = options;
  const hosts = address.kind === "unix" ? [] : tls === undefined ? await loopbackHosts(address.host) : [address.host];
  const credentials = tls === undefined ? ServerCredentials.createInsecure() : mutualTls(tls);
  mustExist(dir);
  const audit = options.audit === undefined ? undefined : new AuditFile(options.audit);
  await audit?.write();
  const store = await unlockedStore(dir, options.secrets, tell);
  process.stderr.on("error", () => undefined); // nobody reads the log: no reason to stop

  setLogVerbosity(logVerbosity.NONE); // the library's own log: what concerns a person is in ours
  const server = new Server({ ...GRPC_OPTIONS, interceptors: [limited()] });
  const handler = new Handler(store, options, audit);
  server.addService(SERVICE, {
    WrapKey: (call: Call, done: Done) => void handler.handle("keywrap", call, done),
    UnWrapKey: (call: Call, done: Done) => void handler.handle("keyunwrap", call, done),
  });
  const actual = await listen(server, address, hosts, socketMode, credentials);
  const stopped = new Promise<void>((stop) => {
    process.once("SIGTERM", stop);
    process.once("SIGINT", stop);
  });
  tell(`listening on ${shownAddress(actual)}`); // who reads this may send a signal
  await stopped;
  await drain(server);
}

function mutualTls({ cert, key, clientCa }: NonNullable<ServeOptions["tls"]>): ServerCredentials {
  try {
    createSecureContext({ cert, key, ca: clientCa });
  } catch (error) {
    const reason = error instanceof Error ? error.message.split("\n", 1)[0] : "unknown error";
    throw new KeystoreError("usage", `the TLS certificate, key and client CA cannot be used: ${reason}`, "give PEM files with --tls-cert, --tls-key (of that certificate) and --tls-client-ca");
  }
  return ServerCredentials.createSsl(clientCa, [{ cert_chain: cert, private_key: key }], true);
}

/** @returns the address with the port that was taken */
async function listen(server: Server, address: Address, hosts: readonly string[], socketMode: number, credentials: ServerCredentials): Promise<Address> {
  if (address.kind === "unix") {
    await bindSocket(address.path, socketMode, async () => await bound(server, address, credentials));
    return address;
  }
  let { port } = address; // 0 is any: the further hosts get the one that the first got
  for (const host of hosts) port = await bound(server, { ...address, host, port }, credentials);
  return { ...address, port };
}

async function bound(server: Server, address: Address, credentials: ServerCredentials): Promise<number> {
  const target = address.kind === "unix" ? `unix:${address.path}` : shownAddress(address);
  return await new Promise((resolve, reject) => {
    server.bindAsync(target, credentials, (error, port) => {
      if (error === null) return resolve(port);
      const code = /\bE[A-Z]{3,}\b/.exec(error.message)?.[0] ?? "unknown error";
      return reject(new KeystoreError("io", `cannot listen on ${shownAddress(address)}: ${code}`, "check that no other program listens there, and that this user may"));
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
 * Ends a request whose message does not come to its end, or whose answer does not: after its time, or the oldest when too many wait. What is
 * compressed is not taken at all, since a few bytes would become megabytes before a handler sees them; ocicrypt's clients compress nothing.
 */
function limited(): ServerInterceptor {
  const incomplete = new Set<ServerInterceptingCallInterface>(); // the oldest first
  const end = (call: ServerInterceptingCallInterface, code: status, message: string, hint = "try again; see the server's log"): void => {
    incomplete.delete(call);
    call.sendStatus({ code, details: errorLine(new KeystoreError("busy", message, hint)), metadata: null });
  };
  return (_method, call) =>
    new ServerInterceptingCall(call, {
      start: (next) => {
        const timer = setTimeout(() => end(call, status.DEADLINE_EXCEEDED, `the request took longer than ${TIME_LIMIT / 1000} s`), TIME_LIMIT);
        next({
          onReceiveMetadata: (metadata, on) => on(metadata),
          onReceiveMessage: (message, on) => on(message),
          onReceiveHalfClose: (on) => {
            incomplete.delete(call);
            on();
          },
          onCancel: () => {
            incomplete.delete(call);
            clearTimeout(timer);
          },
        });
        // The library keeps the header to itself, in a field that the tests watch over.
        if ("incomingEncoding" in call && call.incomingEncoding !== "identity") return end(call, status.UNIMPLEMENTED, "the request is compressed", "send it as it is");
        const [oldest] = incomplete;
        if (oldest !== undefined && incomplete.size >= MAX_INCOMPLETE) end(oldest, status.RESOURCE_EXHAUSTED, `${MAX_INCOMPLETE} newer requests wait for the rest of their message`);
        incomplete.add(call);
      },
    });
}

type Call = ServerUnaryCall<Buffer, Buffer>;
type Done = sendUnaryData<Buffer>;

class Handler {
  readonly #store: KeyStore;
  readonly #allow: readonly Operation[];
  readonly #hints: ProviderHints;
  readonly #audit: AuditFile | undefined;
  #underWay = 0;

  constructor(store: KeyStore, { allow, provider }: ServeOptions, audit: AuditFile | undefined) {
    this.#store = store;
    this.#allow = allow;
    this.#hints = { provider, startedAs: "" };
    this.#audit = audit;
  }

  /** Answers one request: logged, and on the audit file's disk, before the client gets it. */
  async handle(op: Operation, call: Call, done: Done): Promise<void> {
    const started = performance.now();
    const client = clientName(call); // now: later the connection may be gone
    const seen: { kids: string[]; provider: string | undefined } = { kids: [], provider: this.#hints.provider };
    let answer: Answer | undefined;
    let failure: KeystoreError | undefined;
    this.#underWay++;
    try {
      answer = await this.#answer(op, call.request, seen);
    } catch (error) {
      failure = asKeystoreError(error);
    }
    const entry = {
      op,
      provider: seen.provider,
      kids: op === "keyunwrap" && answer !== undefined ? seen.kids.slice(-1) : [...new Set(seen.kids)].slice(0, LIMITS.recipients),
      result: failure?.code ?? "ok",
      ms: performance.now() - started,
      client,
    } as const;
    try {
      await this.#audit?.append(entry);
    } catch (error) {
      failure = asKeystoreError(error);
    }
    this.#underWay--;
    logLine({ ...entry, result: failure?.code ?? "ok" });
    if (failure !== undefined || answer === undefined) done({ code: STATUS[failure?.code ?? "io"], details: errorLine(failure) });
    else done(null, encodeMessage(wireForm(answer, (bytes) => [...bytes]))); // the Rust client reads bytes as a list of integers only, the Go client both
  }

  async #answer(op: Operation, message: Buffer, seen: { kids: string[]; provider: string | undefined }): Promise<Answer> {
    if (this.#underWay > MAX_AT_ONCE) throw new KeystoreError("busy", `${MAX_AT_ONCE} requests are under way`, "try again");
    if (!this.#allow.includes(op)) throw new KeystoreError("denied", `this server does not ${op === "keywrap" ? "wrap" : "unwrap"}`, `it was started with --allow ${op === "keywrap" ? "unwrap" : "wrap"}`);
    const request = parseRequest(decodeMessage(message));
    if (request.op !== op) throw new KeystoreError("request", `the request's op is ${request.op}, and not what was called`, "ocicrypt's clients write it: WrapKey is for keywrap, UnWrapKey for keyunwrap");
    if (request.op === "keywrap") seen.provider = providerName([...request.parameters.keys()], this.#hints);
    return await answerRequest(request, watched(this.#store, seen.kids), this.#hints);
  }
}

/** What the client's certificate calls it; undefined where there is none, or the connection is gone already. */
function clientName(call: Call): string | undefined {
  try {
    const certificate = call.getAuthContext().sslPeerCertificate;
    return certificate && ([certificate.subject.CN ?? []].flat()[0] ?? certificate.fingerprint256);
  } catch {
    return undefined; // the library does not expect a socket that is closed
  }
}
