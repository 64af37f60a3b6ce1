// HTTP to a registry and to its token server: one request and its answer, bounded in size and time. Redirects are
// followed for GET, and never from TLS to none; credentials stay with the address that they are for.

import { Agent as PlainAgent, request as requestPlain, type ClientRequest, type IncomingMessage } from "node:http";
import { Agent as TlsAgent, request as requestTls } from "node:https";
import { checkServerIdentity, type SecureContext } from "node:tls";
import { gunzipSync } from "node:zlib";
import { errorCode, imageError, KeystoreError, printable } from "../../errors.ts";
import { damagedImage, IMAGE_LIMITS } from "../documents.ts";
import { proxyFor } from "./registry-proxy.ts";

const TIMEOUT = 30_000; // ms for one request and its answer, with redirects
const MAX_REDIRECTS = 10;
const PROXY_LOGIN = 407;
const REDIRECTS = new Set([301, 302, 303, 307, 308]);

/** A request; without a method it is a GET. */
export interface Outgoing {
  readonly method?: "PUT" | "POST" | undefined;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array;
  /** ms for the request and its answer, with redirects. */
  readonly timeout?: number;
}

/** An answer. Only that with the status 200 has a body here. */
export interface Answer {
  readonly status: number;
  readonly header: (name: string) => string | undefined;
  /** The values of a header that is there several times. */
  readonly headers: (name: string) => readonly string[];
  readonly body: Buffer;
}

/** How to connect. */
export interface Connection {
  /** The registry, for messages. */
  readonly host: string;
  readonly certificates: SecureContext;
  /** Whether a server's certificate must be valid. */
  readonly verify: boolean;
}

type Agent = PlainAgent | TlsAgent;

/** Sends a request and reads its answer. */
export type Request = (url: URL, outgoing: Outgoing) => Promise<Answer>;

/** Makes requests that share connections. @returns a function that throws KeystoreError `image` if there is no answer */
export function requester(connection: Connection): Request {
  const agents = new Map<string, Agent>();
  const agentFor = (url: URL, proxy: URL | undefined, change: boolean): Agent => {
    if (change) return newAgent(connection, url.protocol, proxy, false);
    const name = `${url.protocol} ${proxy?.href ?? ""}`;
    const agent = agents.get(name) ?? newAgent(connection, url.protocol, proxy, true);
    agents.set(name, agent);
    return agent;
  };
  return async (url, outgoing) => {
    const { timeout = TIMEOUT } = outgoing;
    const signal = AbortSignal.timeout(timeout);
    let at = url;
    let sent = outgoing;
    for (let redirects = 0; ; redirects++) {
      const proxy = proxyFor(at);
      // A change is not sent on a kept connection: the server may have closed it, and nobody knows what it took.
      const agent = agentFor(at, proxy, outgoing.method !== undefined);
      const answer = await exchange(at, sent, agent, signal).catch((error: unknown) => {
        throw unreachable(error, { url: at, host: connection.host, proxy, timeout, late: signal.aborted });
      });
      if (proxy !== undefined && answer.status === PROXY_LOGIN) throw proxyError(proxy, answer.status);
      const target = answer.header("location");
      if (outgoing.method !== undefined || !REDIRECTS.has(answer.status) || target === undefined) return answer;
      if (!URL.canParse(target, at.href) || redirects === MAX_REDIRECTS) return answer;
      const next = new URL(target, at);
      if (next.protocol !== "https:" && (at.protocol === "https:" || next.protocol !== "http:")) {
        throw imageError(`${connection.host} leads to an address without TLS`, "see the registry's configuration");
      }
      if (next.origin !== at.origin) sent = withoutCredentials(sent);
      at = next;
    }
  };
}

function newAgent(
  { certificates, verify }: Connection,
  protocol: string,
  proxy: URL | undefined,
  keepAlive: boolean,
): Agent {
  const proxyEnv = proxy === undefined ? {} : { proxyEnv: { HTTPS_PROXY: proxy.href, HTTP_PROXY: proxy.href } };
  if (protocol !== "https:") return new PlainAgent({ keepAlive, ...proxyEnv });
  return new TlsAgent({
    keepAlive,
    secureContext: certificates,
    rejectUnauthorized: verify,
    checkServerIdentity: (host, certificate) => {
      // Go does not take the common name for a host's.
      const named = certificate.subjectaltname === undefined ? { ...certificate, subject: {} } : certificate;
      return checkServerIdentity(host, named);
    },
    ...proxyEnv,
  });
}

function withoutCredentials({ headers = {}, ...rest }: Outgoing): Outgoing {
  return { ...rest, headers: Object.fromEntries(Object.entries(headers).filter(([name]) => name !== "authorization")) };
}

/** One request without redirects. A connection that was kept may be closed just now: then a GET is sent once more. */
async function exchange(url: URL, outgoing: Outgoing, agent: Agent, signal: AbortSignal): Promise<Answer> {
  for (;;) {
    const request = start(url, outgoing, agent, signal);
    try {
      const answer = await readAnswer(await response(request));
      signal.throwIfAborted(); // a body without a length ends with its connection
      return answer;
    } catch (error) {
      request.destroy();
      if (!request.reusedSocket || error instanceof KeystoreError || signal.aborted) throw error;
    }
  }
}

function start(url: URL, outgoing: Outgoing, agent: Agent, signal: AbortSignal): ClientRequest {
  const headers = { "user-agent": "ocicrypt-keystore", ...outgoing.headers };
  const options = { method: outgoing.method ?? "GET", headers, signal, agent };
  const request = url.protocol === "https:" ? requestTls(url, options) : requestPlain(url, options);
  request.end(outgoing.body);
  return request;
}

/** The head of the answer. */
async function response(request: ClientRequest): Promise<IncomingMessage> {
  return await new Promise((resolve, reject) => {
    request.once("response", resolve);
    request.on("error", reject);
    // A server that switches protocols gives no answer.
    request.once("upgrade", () => reject(new Error("upgrade")));
    request.once("close", () => reject(new Error("closed")));
  });
}

async function readAnswer(message: IncomingMessage): Promise<Answer> {
  const status = message.statusCode ?? 0;
  const headers = (name: string): readonly string[] => message.headersDistinct[name] ?? [];
  const answer = { status, headers, header: (name: string): string | undefined => headers(name)[0] };
  if (status !== 200) {
    message.destroy();
    return { ...answer, body: Buffer.alloc(0) };
  }
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of message as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > IMAGE_LIMITS.documentBytes) throw damagedImage("a document of the registry", "is larger than 4 MiB");
    chunks.push(chunk);
  }
  if (!message.complete) throw new Error("cut off");
  return { ...answer, body: decoded(Buffer.concat(chunks), answer.header("content-encoding")) };
}

/** Some servers compress what nobody asked them to. Go reads gzip, and nothing else. */
function decoded(body: Buffer, encoding: string | undefined): Buffer {
  if (encoding?.toLowerCase() !== "gzip") return body;
  try {
    return gunzipSync(body, { maxOutputLength: IMAGE_LIMITS.documentBytes });
  } catch {
    throw damagedImage("a document of the registry", "is not the gzip that its header says, or is larger than 4 MiB");
  }
}

// What to do about a failure to connect, by its code.
const NO_TLS = new Set(["EPROTO", "ERR_SSL_WRONG_VERSION_NUMBER", "ERR_SSL_PACKET_LENGTH_TOO_LONG"]);
const UNTRUSTED = /CERT|SELF_SIGNED|ERR_TLS_|UNABLE_TO_|ERR_SSL_/;

/** A request that failed. */
interface Failed {
  readonly url: URL;
  readonly host: string;
  readonly proxy: URL | undefined;
  readonly timeout: number;
  /** Whether its time was over. */
  readonly late: boolean;
}

function unreachable(error: unknown, { url, host, proxy, timeout, late }: Failed): KeystoreError {
  if (error instanceof KeystoreError) return error;
  const code = errorCode(error) ?? (error instanceof Error && "cause" in error ? errorCode(error.cause) : undefined);
  if (proxy !== undefined && code === "ERR_PROXY_TUNNEL") {
    const status = error instanceof Error && "statusCode" in error ? Number(error.statusCode) : 0;
    if (status > 0) return proxyError(proxy, status);
  }
  const why = late ? `no whole answer within ${timeout / 1000} s` : (code ?? "no whole answer");
  const through = proxy === undefined ? "" : ` through the proxy ${proxy.host}`;
  const where = url.host === host ? host : `${host} (at ${printable(url.host, 128)})`;
  return imageError(`cannot reach ${where}${through}: ${printable(why, 64)}`, hintFor(code, host, proxy));
}

/** A proxy that answers by itself. Its address may have a password, which is not shown. */
function proxyError(proxy: URL, status: number): KeystoreError {
  const login = `give it a user and a password that it takes: ${proxy.protocol}//USER:PASSWORD@${proxy.host}`;
  const hint = status === PROXY_LOGIN ? login : "ask whoever runs it, or add the host to NO_PROXY";
  return imageError(`the proxy ${proxy.host} refuses the connection (HTTP ${status})`, hint);
}

function hintFor(code: string | undefined, host: string, proxy: URL | undefined): string {
  if (code !== undefined && NO_TLS.has(code)) return "it may have no TLS: if so, add --tls-verify=false";
  if (code !== undefined && UNTRUSTED.test(code)) {
    return `check its certificate: put its authority into /etc/containers/certs.d/${host}/ca.crt, or use --cert-dir`;
  }
  if (proxy !== undefined) return "check the proxy, or add the host to NO_PROXY";
  return "check the name, the network and its certificate; a registry without TLS needs --tls-verify=false";
}
