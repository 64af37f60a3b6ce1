// Calls the servers that the configuration names, as a client calls them.

import { readFileSync } from "node:fs";
import { randomBytes } from "node:crypto";
import { isIPv6 } from "node:net";
import {
  Client,
  credentials,
  logVerbosity,
  setLogVerbosity,
  status,
  type ChannelCredentials,
  type ServiceError,
} from "@grpc/grpc-js";
import { errorCode, ioError, KeystoreError, printable } from "../errors.ts";
import { orFail } from "../go-json.ts";
import { NO_RECIPIENT } from "../keystore/paths.ts";
import { decodeMessage, encodeMessage, SERVICE } from "../serve/service.ts";
import type { Server, Tls } from "./config-file.ts";
import { resultIn, unwrapRequest, wrapRequest } from "./exchange.ts";
import { goTarget } from "./go-target.ts";

const TIME_LIMIT = 10_000; // ms for one call
const METHODS = {
  WrapKey: { results: "keywrapresults", name: "annotation" },
  UnWrapKey: { results: "keyunwrapresults", name: "optsdata" },
} as const;
const FORBIDDEN = Buffer.alloc(3); // no annotation: every server must refuse it

/**
 * Wraps for a server's default key, or else for `recipient`, and unwraps the result. A method that the server does not
 * allow is left out.
 *
 * @throws KeystoreError `io` that says what clients get
 */
export async function tryServer(server: Server, recipient: string | undefined): Promise<void> {
  const optsdata = randomBytes(32);
  const annotation = await wrapped(server, optsdata, recipient);
  // A server that only unwraps gets an annotation that it must refuse: that it refuses it shows that it answers.
  const unwrapping = unwrapRequest(annotation ?? FORBIDDEN);
  const opened = await call(server, "UnWrapKey", unwrapping, annotation === undefined);
  if (opened?.equals(optsdata) === false) throw failure(server, "what it unwraps is not what it wrapped");
}

async function wrapped(server: Server, optsdata: Buffer, recipient: string | undefined): Promise<Buffer | undefined> {
  const wrapFor = async (name: string): Promise<Buffer | undefined> =>
    await call(server, "WrapKey", wrapRequest(server.name, name, optsdata));
  try {
    return await wrapFor(NO_RECIPIENT);
  } catch (error) {
    if (recipient === undefined) throw error;
    return await wrapFor(recipient).catch(() => {
      throw error;
    });
  }
}

/** Has a server unwrap an annotation. @throws KeystoreError `io` that says what clients get */
export async function unwrapByServer(server: Server, annotation: Buffer): Promise<Buffer> {
  const opened = await call(server, "UnWrapKey", unwrapRequest(annotation));
  if (opened === undefined) throw failure(server, "it does not unwrap");
  return opened;
}

/**
 * Calls one method: the result in its answer.
 *
 * @param mayRefuse whether the request is one that the server must refuse
 * @returns undefined if the server does not allow this method, or refused what it must refuse
 */
async function call(
  server: Server,
  method: keyof typeof SERVICE,
  request: string,
  mayRefuse = false,
): Promise<Buffer | undefined> {
  let message: Buffer;
  try {
    message = await unary(server, method, encodeMessage(request));
  } catch (error) {
    if (!isServiceError(error)) throw error;
    const { code, details } = error;
    if (code === status.PERMISSION_DENIED || (mayRefuse && code === status.INVALID_ARGUMENT)) return undefined;
    const cause = code === status.UNAVAILABLE ? UNREACHABLE : "it says";
    throw failure(server, `${cause}: ${printable(details.replace(/^ocicrypt-keystore: /, ""), 600)}`);
  }
  const { results, name } = METHODS[method];
  const fail = (reason: string): Error => failure(server, `its answer ${reason}`);
  const value = orFail(fail, () => resultIn(decodeMessage(message), results, name));
  if (value !== undefined && value.length > 0) return value;
  throw failure(server, `its answer has no ${results}.${name}`);
}

const UNREACHABLE = "no server answers there, or it does not accept this TLS";

async function unary(server: Server, method: keyof typeof SERVICE, message: Buffer): Promise<Buffer> {
  setLogVerbosity(logVerbosity.NONE); // turn the library's own log off
  const { tls } = server;
  const client = new Client(libraryAddress(server), channelOf(server), {
    "grpc.enable_http_proxy": 0,
    ...(tls !== undefined && tls.serverName !== "" && { "grpc.ssl_target_name_override": tls.serverName }),
  });
  const { path, requestSerialize, responseDeserialize } = SERVICE[method];
  const options = { deadline: Date.now() + TIME_LIMIT };
  try {
    return await new Promise((answered, reject) => {
      client.makeUnaryRequest(path, requestSerialize, responseDeserialize, message, options, (error, answer) => {
        return error === null ? answered(answer ?? Buffer.alloc(0)) : reject(error);
      });
    });
  } finally {
    client.close();
  }
}

/** The address as the library that we call it with takes it. @throws KeystoreError `io` if clients refuse it */
function libraryAddress({ name, address }: Server): string {
  const target = goTarget(address);
  if ("refused" in target) {
    const [message = "", hint = ""] = target.refused.split("; ");
    throw ioError(`provider ${name}: clients do not accept the address ${address}: it ${message}`, hint);
  }
  if (target.kind === "unix") return `unix:${target.path}`;
  return `dns:${isIPv6(target.host) ? `[${target.host}]` : target.host}:${target.port}`;
}

/** As the Go client does it: the system's CAs if no file is named, a client certificate if both files are. */
function channelOf({ name, tls }: Server): ChannelCredentials {
  if (tls === undefined) return credentials.createInsecure();
  const file = (member: string, path: string): Buffer | undefined => {
    try {
      return path === "" ? undefined : readFileSync(path);
    } catch (error) {
      const message = `provider ${name}: cannot read ${member} ${path}: ${errorCode(error) ?? "unknown error"}`;
      throw ioError(message, "put it there, or name another in its grpc-tls");
    }
  };
  const ca = file("root-ca-file", tls.ca);
  const pair = tls.cert !== "" && tls.key !== "";
  const [cert, key] = pair ? [file("cert-file", tls.cert), file("key-file", tls.key)] : [];
  return securely(name, tls, ca, cert, key);
}

function securely(name: string, tls: Tls, ca?: Buffer, cert?: Buffer, key?: Buffer): ChannelCredentials {
  try {
    const options = { rejectUnauthorized: !tls.insecure };
    return credentials.createSsl(ca ?? null, key ?? null, cert ?? null, options);
  } catch {
    const message = `provider ${name}: a file of its grpc-tls is damaged, or its key does not belong to its certificate`;
    throw ioError(message, "write root-ca-file, cert-file and key-file again");
  }
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "code" in error && "details" in error && typeof error.details === "string";
}

function failure({ name, address }: Server, reason: string): KeystoreError {
  return ioError(`provider ${name} at ${address}: ${reason}`, "fix what it says; clients get the same answer");
}
