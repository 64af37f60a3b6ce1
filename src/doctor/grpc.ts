// The servers that the configuration names, called as a client calls them.

import { readFileSync } from "node:fs";
import { randomBytes } from "node:crypto";
import { Client, credentials, setLogVerbosity, logVerbosity, status, type ChannelCredentials, type ServiceError } from "@grpc/grpc-js";
import { errorCode, KeystoreError, printable } from "../errors.ts";
import { member, type JsonObject } from "../json.ts";
import { decodeMessage, encodeMessage, SERVICE } from "../serve/service.ts";
import { attempt, check, type Check } from "./check.ts";
import { resultIn, unwrapRequest, wrapRequest } from "./exchange.ts";

/** An entry of `key-providers` with a `grpc`. */
export interface GrpcProvider {
  readonly name: string;
  readonly address: string;
  /** The entry's `grpc-tls`. */
  readonly tls: JsonObject | undefined;
}

const TIME_LIMIT = 10_000; // ms for one call

/** Wraps for each server's default key and unwraps it again; what `--allow` forbids is left out. */
export async function grpcChecks(providers: readonly GrpcProvider[]): Promise<Check[]> {
  setLogVerbosity(logVerbosity.NONE); // the library's own lines
  return await check("config.grpc", async (warn, fail) => {
    for (const provider of providers) {
      if (provider.tls !== undefined && member(provider.tls, "insecure-skip-verify") === true) warn(`provider ${provider.name} takes any server's certificate`, 'take "insecure-skip-verify" out of its grpc-tls');
      await attempt(fail, async () => await roundTrip(provider));
    }
    return providers.map(({ name, address }) => `${name} answers at ${address}`).join(", ");
  });
}

async function roundTrip(provider: GrpcProvider): Promise<void> {
  const optsdata = randomBytes(32).toString("base64");
  const annotation = await call(provider, "WrapKey", wrapRequest(provider.name, "", optsdata), "keywrapresults", "annotation");
  const unwrap = unwrapRequest(annotation ?? "AAAA"); // a server that only unwraps is asked for what it must refuse
  const opened = await call(provider, "UnWrapKey", unwrap, "keyunwrapresults", "optsdata", annotation === undefined);
  if (opened !== undefined && opened !== optsdata) throw failure(provider, "what it unwraps is not what it wrapped");
}

/** A member of the answer, in base64; undefined if the server does not do this, or refused as it should. */
async function call(provider: GrpcProvider, method: keyof typeof SERVICE, request: string, result: string, name: string, mayRefuse = false): Promise<string | undefined> {
  let message: Buffer;
  try {
    message = await unary(provider, method, encodeMessage(request));
  } catch (error) {
    if (!isServiceError(error)) throw error;
    const { code, details } = error;
    if (code === status.PERMISSION_DENIED || (mayRefuse && code === status.INVALID_ARGUMENT)) return undefined;
    const hint = code === status.UNAVAILABLE ? "nobody answers there, or not with this TLS" : "it says";
    throw failure(provider, `${hint}: ${printable(details.replace(/^ocicrypt-keystore: /, ""), 600)}`);
  }
  const value = resultIn(decodeMessage(message), result, name, (reason) => failure(provider, `its answer ${reason}`));
  if (Array.isArray(value)) return Buffer.from(value.map(Number)).toString("base64");
  if (typeof value === "string") return value;
  throw failure(provider, `its answer has no ${result}.${name}`);
}

async function unary(provider: GrpcProvider, method: keyof typeof SERVICE, message: Buffer): Promise<Buffer> {
  const serverName = provider.tls && text(provider.tls, "server-name");
  const client = new Client(provider.address, channelOf(provider), { "grpc.enable_http_proxy": 0, ...(serverName && { "grpc.ssl_target_name_override": serverName }) });
  const { path, requestSerialize, responseDeserialize } = SERVICE[method];
  try {
    return await new Promise((resolve, reject) => {
      client.makeUnaryRequest(path, requestSerialize, responseDeserialize, message, { deadline: Date.now() + TIME_LIMIT }, (error, answer) => (error === null ? resolve(answer ?? Buffer.alloc(0)) : reject(error)));
    });
  } finally {
    client.close();
  }
}

/** As the Go client does it: the system's CAs where no file is named, a client certificate where both files are. */
function channelOf({ name, tls }: GrpcProvider): ChannelCredentials {
  if (tls === undefined) return credentials.createInsecure();
  const file = (setting: string): Buffer | undefined => {
    const path = text(tls, setting);
    try {
      return path === undefined ? undefined : readFileSync(path);
    } catch (error) {
      throw new KeystoreError("io", `provider ${name}: cannot read ${setting} ${path}: ${errorCode(error) ?? "unknown error"}`, "put it there, or name another in its grpc-tls");
    }
  };
  const [ca, cert, key] = [file("root-ca-file"), file("cert-file"), file("key-file")];
  const both = cert !== undefined && key !== undefined;
  return credentials.createSsl(ca ?? null, both ? key : null, both ? cert : null, { rejectUnauthorized: member(tls, "insecure-skip-verify") !== true });
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "code" in error && "details" in error && typeof error.details === "string";
}

function text(tls: JsonObject, name: string): string | undefined {
  const value = member(tls, name);
  return typeof value === "string" && value !== "" ? value : undefined;
}

function failure({ name, address }: GrpcProvider, reason: string): KeystoreError {
  return new KeystoreError("io", `provider ${name} at ${address}: ${reason}`, "mend what it says; clients get the same answer");
}
