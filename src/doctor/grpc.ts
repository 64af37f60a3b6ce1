// Calls the servers that the configuration names, as a client calls them.

import { readFileSync } from "node:fs";
import { randomBytes } from "node:crypto";
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
import { member, type JsonObject } from "../json.ts";
import { decodeMessage, encodeMessage, SERVICE } from "../serve/service.ts";
import { attempt, type Report } from "./check.ts";
import type { Server } from "./config-file.ts";
import { resultIn, unwrapRequest, wrapRequest } from "./exchange.ts";

const TIME_LIMIT = 10_000; // ms for one call

/**
 * Wraps for each server's default key and unwraps the result. A method that the server does not allow is left out.
 *
 * @returns what to say if all went well
 */
export async function callServers(servers: readonly Server[], { warn, fail }: Report): Promise<string> {
  setLogVerbosity(logVerbosity.NONE); // turn the library's own log off
  for (const server of servers) {
    const { name, tls } = server;
    if (tls !== undefined && member(tls, "insecure-skip-verify") === true) {
      warn(`provider ${name} takes any server's certificate`, 'take "insecure-skip-verify" out of its grpc-tls');
    }
    await attempt(fail, async () => await tryServer(server));
  }
  return servers.map(({ name, address }) => `${name} answers at ${address}`).join(", ");
}

async function tryServer(server: Server): Promise<void> {
  const optsdata = randomBytes(32).toString("base64");
  const wrapping = wrapRequest(server.name, "", optsdata);
  const annotation = await call(server, "WrapKey", wrapping, "keywrapresults", "annotation");
  // A server that only unwraps gets an annotation that it must refuse: that it refuses it shows that it answers.
  const unwrapping = unwrapRequest(annotation ?? "AAAA");
  const opened = await call(server, "UnWrapKey", unwrapping, "keyunwrapresults", "optsdata", annotation === undefined);
  if (opened !== undefined && opened !== optsdata) throw failure(server, "what it unwraps is not what it wrapped");
}

/**
 * Calls one method: a member of the result in its answer.
 *
 * @param mayRefuse whether the request is one that the server must refuse
 * @returns base64; undefined if the server does not allow this method, or refused what it must refuse
 */
async function call(
  server: Server,
  method: keyof typeof SERVICE,
  request: string,
  result: string,
  name: string,
  mayRefuse = false,
): Promise<string | undefined> {
  let message: Buffer;
  try {
    message = await unary(server, method, encodeMessage(request));
  } catch (error) {
    if (!isServiceError(error)) throw error;
    const { code, details } = error;
    if (code === status.PERMISSION_DENIED || (mayRefuse && code === status.INVALID_ARGUMENT)) return undefined;
    const cause = code === status.UNAVAILABLE ? "no server answers there, or it does not accept this TLS" : "it says";
    throw failure(server, `${cause}: ${printable(details.replace(/^ocicrypt-keystore: /, ""), 600)}`);
  }
  const value = resultIn(decodeMessage(message), result, name, (reason) => failure(server, `its answer ${reason}`));
  if (Array.isArray(value)) return Buffer.from(value.map(Number)).toString("base64");
  if (typeof value === "string") return value;
  throw failure(server, `its answer has no ${result}.${name}`);
}

async function unary(server: Server, method: keyof typeof SERVICE, message: Buffer): Promise<Buffer> {
  const serverName = server.tls && text(server.tls, "server-name");
  const client = new Client(server.address, channelOf(server), {
    "grpc.enable_http_proxy": 0,
    ...(serverName && { "grpc.ssl_target_name_override": serverName }),
  });
  const { path, requestSerialize, responseDeserialize } = SERVICE[method];
  const options = { deadline: Date.now() + TIME_LIMIT };
  try {
    return await new Promise((resolve, reject) => {
      client.makeUnaryRequest(path, requestSerialize, responseDeserialize, message, options, (error, answer) => {
        return error === null ? resolve(answer ?? Buffer.alloc(0)) : reject(error);
      });
    });
  } finally {
    client.close();
  }
}

/** As the Go client does it: the system's CAs if no file is named, a client certificate if both files are. */
function channelOf({ name, tls }: Server): ChannelCredentials {
  if (tls === undefined) return credentials.createInsecure();
  const file = (setting: string): Buffer | undefined => {
    const path = text(tls, setting);
    try {
      return path === undefined ? undefined : readFileSync(path);
    } catch (error) {
      const message = `provider ${name}: cannot read ${setting} ${path}: ${errorCode(error) ?? "unknown error"}`;
      throw ioError(message, "put it there, or name another in its grpc-tls");
    }
  };
  const [ca, cert, key] = [file("root-ca-file"), file("cert-file"), file("key-file")];
  const pair = cert !== undefined && key !== undefined ? { cert, key } : undefined;
  const rejectUnauthorized = member(tls, "insecure-skip-verify") !== true;
  return credentials.createSsl(ca ?? null, pair?.key ?? null, pair?.cert ?? null, { rejectUnauthorized });
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "code" in error && "details" in error && typeof error.details === "string";
}

function text(tls: JsonObject, name: string): string | undefined {
  const value = member(tls, name);
  return typeof value === "string" && value !== "" ? value : undefined;
}

function failure({ name, address }: Server, reason: string): KeystoreError {
  return ioError(`provider ${name} at ${address}: ${reason}`, "fix what it says; clients get the same answer");
}
