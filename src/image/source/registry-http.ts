// Requests to a registry: its answers are bounded in size and time, and credentials go only where they may.

import { imageError, KeystoreError, printable } from "../../errors.ts";
import { isObject, member, parseJson } from "../../json.ts";
import { damagedImage, IMAGE_LIMITS } from "../documents.ts";
import { credentialsFor, type Credentials } from "./credentials.ts";

const TIMEOUT = 30_000; // ms for one request and its answer
const THIS_MACHINE = /^(localhost|127\.\d+\.\d+\.\d+)(:|$)/;

/** Whether a host, with or without a port, is this machine. */
export function isThisMachine(host: string): boolean {
  return THIS_MACHINE.test(host);
}

/** A request; without a method it is a GET. */
interface Outgoing {
  readonly method?: "PUT";
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array<ArrayBuffer>;
}

/** Sends a request to an address of the registry. */
export type Send = (url: string, outgoing: Outgoing) => Promise<Response>;

/** @throws KeystoreError `image` unless the answer has this status */
export function expectStatus(response: Response, status: number, host: string): void {
  if (response.status === status) return;
  if (response.status === 401 || response.status === 403) {
    const message = `${host} refuses these credentials (HTTP ${response.status})`;
    throw imageError(message, `log in with skopeo login ${host}, or podman or docker login`);
  }
  throw imageError(`${host} answered HTTP ${response.status}`, "see the registry's log");
}

/** The body of a successful answer, at most 4 MiB. */
export async function body(response: Response, host: string): Promise<Buffer> {
  if (response.status !== 200) await response.body?.cancel();
  expectStatus(response, 200, host);
  const chunks: Uint8Array[] = [];
  let length = 0;
  try {
    for await (const chunk of response.body ?? []) {
      length += chunk.length;
      if (length > IMAGE_LIMITS.documentBytes) throw damagedImage(`a document of ${host}`, "is larger than 4 MiB");
      chunks.push(chunk);
    }
  } catch (error) {
    throw error instanceof KeystoreError ? error : unreachable(error, host);
  }
  return Buffer.concat(chunks);
}

/** Sends with the credentials that the registry asks for (distribution-spec, RFC 7617, docker's token protocol). */
export function authorized(host: string, path: string): Send {
  let authorization: string | undefined;
  return async (url, outgoing) => {
    const attempt = async (): Promise<Response> => {
      const headers = { ...outgoing.headers, ...(authorization === undefined ? {} : { authorization }) };
      return await request(url, { ...outgoing, headers }, host);
    };
    const first = await attempt();
    const challenge = first.headers.get("www-authenticate");
    if (first.status !== 401 || challenge === null) return first;
    await first.body?.cancel();
    const scope = `repository:${path}:${outgoing.method === "PUT" ? "pull,push" : "pull"}`;
    authorization = await answerChallenge(challenge, credentialsFor(host, path), scope, host, url.startsWith("http:"));
    return authorization === undefined ? first : await attempt();
  };
}

async function request(url: string, outgoing: Outgoing, host: string): Promise<Response> {
  try {
    // Blobs are often on another host; fetch sends it no Authorization. A PUT follows no redirect.
    const redirect = outgoing.method === "PUT" ? "manual" : "follow";
    const response = await fetch(url, { ...outgoing, redirect, signal: AbortSignal.timeout(TIMEOUT) });
    if (!url.startsWith("https:") || response.url.startsWith("https:")) return response;
    await response.body?.cancel();
  } catch (error) {
    throw unreachable(error, host);
  }
  throw imageError(`${host} leads to an address without TLS`, "see the registry's configuration");
}

function unreachable(error: unknown, host: string): KeystoreError {
  const { name, cause } = error instanceof Error ? error : {};
  const unfinished = name === "TimeoutError" ? `no whole answer within ${TIMEOUT / 1000} s` : "no whole answer";
  const why = cause instanceof Error && "code" in cause ? String(cause.code) : unfinished;
  const hint = "check the name, the network and its certificate; a registry on localhost may need --tls-verify=false";
  return imageError(`cannot reach ${host}: ${printable(why, 64)}`, hint);
}

async function answerChallenge(
  challenge: string,
  credentials: Credentials | undefined,
  scope: string,
  host: string,
  plain: boolean,
): Promise<string | undefined> {
  const pair = credentials && Buffer.from(`${credentials.username}:${credentials.password}`).toString("base64");
  const basic = pair && `Basic ${pair}`;
  if (/^basic\b/i.test(challenge)) return basic;
  const parameter = (name: string): string | undefined => new RegExp(`${name}="([^"]*)"`, "i").exec(challenge)?.[1];
  const realm = parameter("realm");
  if (!/^bearer\b/i.test(challenge) || realm === undefined || !URL.canParse(realm)) return undefined;
  const url = new URL(realm);
  if (url.protocol !== "https:" && !(plain && url.protocol === "http:" && isThisMachine(url.host))) {
    const message = `${host} sends credentials to ${printable(url.origin, 128)}, which has no TLS`;
    throw imageError(message, "nothing was sent there; see the registry's token realm");
  }
  const service = parameter("service");
  if (service !== undefined) url.searchParams.set("service", service);
  url.searchParams.set("scope", scope);
  const response = await request(url.href, { headers: basic === undefined ? {} : { authorization: basic } }, host);
  const answer = parseJson(await body(response, host), 8, (reason) => damagedImage(`the token of ${host}`, reason));
  const token = isObject(answer) ? (member(answer, "token") ?? member(answer, "access_token")) : undefined;
  return typeof token === "string" ? `Bearer ${token}` : undefined;
}
