// A client of one registry: finds out how it is reached and what it asks for, and sends requests with that.

import { setTimeout as sleep } from "node:timers/promises";
import { imageError, printable } from "../../errors.ts";
import { credentialsFor, type Found } from "./credentials.ts";
import { findRegistry, type RegistriesConf } from "./registries-conf.ts";
import {
  basic,
  chosenChallenge,
  fetchToken,
  missingScope,
  parseChallenges,
  refusal,
  type Challenge,
  type Token,
} from "./registry-auth.ts";
import { requester, type Answer, type Outgoing, type Request } from "./registry-http.ts";
import { DOCKER_HUB, type Reference } from "./registry-reference.ts";
import { secureContextFor } from "./registry-tls.ts";

/** How the command line says that a registry is reached. */
export interface Access {
  /** Whether its certificate is checked; undefined leaves that to registries.conf. */
  readonly tlsVerify: boolean | undefined;
  /** A folder with certificates, instead of the host's in certs.d. */
  readonly certDir: string | undefined;
}

/** A registry, for one repository. */
export interface Client {
  readonly host: string;
  /** The address of the repository. */
  readonly base: string;
  /** Sends to an address below the repository's. */
  readonly send: (path: string, outgoing: Outgoing) => Promise<Answer>;
  /** @throws KeystoreError `image` unless the answer has this status */
  readonly expect: (answer: Answer, status: number) => void;
}

// skopeo's patience with HTTP 429.
const ATTEMPTS = 5;
const FIRST_DELAY = 2; // seconds, doubled each time, where the registry names none
const LONGEST_DELAY = 60;
const HANDSHAKE_TIMEOUT = 10_000; // ms until a host that does not answer over TLS is asked without TLS

/** @param insecure what registries.conf says of the place that the reference names */
export async function connect(
  reference: Reference,
  conf: RegistriesConf,
  { tlsVerify, certDir }: Access,
  insecure: boolean,
): Promise<Client> {
  const { host, path } = reference;
  findRegistry(conf, reference); // the place of a mirror may be blocked, too
  const found = credentialsFor(host, path, conf.credentialHelpers);
  const verify = tlsVerify ?? !insecure;
  const request = patient(requester({ host, certificates: secureContextFor(host, certDir), verify }), host);
  const reached = await reach(request, reference, verify);
  const { url } = reached;
  const asking = { host, url, insecure: !verify, found };
  let { challenges } = reached;
  let authorize = authorizer(challenges, asking, path, request);
  const base = `${url.origin}/v2/${path}`;
  return {
    host,
    base,
    send: async (below, outgoing) => {
      const attempt = async (...more: readonly string[]): Promise<Answer> => {
        const authorization = await authorize(outgoing.method === "PUT" ? "pull,push" : "pull", more);
        const headers = { ...outgoing.headers, ...(authorization === undefined ? {} : { authorization }) };
        return await request(new URL(`${base}/${below}`), { ...outgoing, headers });
      };
      const answer = await attempt();
      // Some registries let everybody ping. skopeo does not answer what they ask for afterwards; docker does.
      if (challenges.length === 0 && answer.status === 401) {
        challenges = parseChallenges(answer.headers("www-authenticate"));
        authorize = authorizer(challenges, asking, path, request);
        return chosenChallenge(challenges) === undefined ? answer : await attempt();
      }
      const scope = missingScope(answer);
      return scope === undefined ? answer : await attempt(scope);
    },
    expect: (answer, status) => {
      if (answer.status === status) return;
      if (answer.status === 401 && challenges.length > 0 && chosenChallenge(challenges) === undefined) {
        const schemes = challenges.map(({ scheme }) => printable(scheme, 32)).join(", ");
        throw imageError(`${host} asks for ${schemes}, which is not supported`, "it must offer Basic or Bearer");
      }
      if (answer.status !== 401 && answer.status !== 403) throw unexpected(answer, host);
      if (challenges.length > 0) throw refusal(host, answer.status, found);
      const message = `${host} refuses this without asking for credentials (HTTP ${answer.status})`;
      throw imageError(message, "check the name, who may see it, and the registry's configuration");
    },
  };
}

function unexpected({ status }: Answer, host: string): Error {
  const hint = status === 429 ? "wait a while, or log in" : "see the registry's log";
  return imageError(`${host} answered HTTP ${status}${status === 429 ? " (too many requests)" : ""}`, hint);
}

interface Reached {
  readonly url: URL;
  /** None if the registry does not say yet what it asks for. */
  readonly challenges: readonly Challenge[];
}

/** Asks whether there is a registry: over TLS, and without TLS where that need not be verified. */
async function reach(request: Request, { host }: Reference, verify: boolean): Promise<Reached> {
  const address = host === DOCKER_HUB ? "registry-1.docker.io" : host;
  const ping = async (scheme: string): Promise<Reached> => {
    const url = new URL(`${scheme}://${address}/v2/`);
    const answer = await request(url, scheme === "https" && !verify ? { timeout: HANDSHAKE_TIMEOUT } : {});
    if (answer.status === 200 || answer.status === 401) {
      return { url, challenges: parseChallenges(answer.headers("www-authenticate")) };
    }
    // skopeo gives up. But a server that has only images, without the rest of a registry, can be read.
    const unknown = answer.status >= 400 && answer.status < 500 && answer.status !== 429;
    if (unknown) return { url, challenges: [] };
    throw unexpected(answer, host);
  };
  if (verify) return await ping("https");
  let overTls: unknown;
  try {
    return await ping("https");
  } catch (error) {
    overTls = error;
  }
  return await ping("http").catch((error: unknown) => {
    throw isRefusedConnection(error) ? overTls : error;
  });
}

/** Whether nobody listens there: then the failure over TLS tells more. */
function isRefusedConnection(error: unknown): boolean {
  return error instanceof Error && /: (ECONNREFUSED|ENOTFOUND|EAI_AGAIN)$/.test(error.message);
}

type Authorize = (actions: string, more: readonly string[]) => Promise<string | undefined>;

/** Gives the Authorization for what is to be done. Tokens are kept as long as they count. */
function authorizer(
  challenges: readonly Challenge[],
  asking: Parameters<typeof fetchToken>[2] & { readonly found: Found },
  path: string,
  request: Request,
): Authorize {
  const challenge = chosenChallenge(challenges);
  const tokens = new Map<string, Token>();
  return async (actions, more) => {
    if (challenge === undefined) return undefined;
    if (challenge.scheme === "basic") return basic(asking.found);
    const scopes = [`repository:${path}:${actions}`, ...more];
    const name = scopes.join(" ");
    const kept = tokens.get(name);
    if (kept !== undefined && kept.expires > Date.now()) return kept.authorization;
    const token = await fetchToken(challenge, scopes, asking, request);
    tokens.set(name, token);
    return token.authorization;
  };
}

/** Waits and asks again where a registry has too much to do, as long as it says, but not for minutes. */
function patient(request: Request, host: string): Request {
  return async (url, outgoing) => {
    let delay = FIRST_DELAY;
    for (let attempt = 1; ; attempt++) {
      const answer = await request(url, outgoing);
      if (answer.status !== 429 || attempt === ATTEMPTS) return answer;
      delay = retryAfter(answer.header("retry-after")) ?? delay;
      if (delay > LONGEST_DELAY) {
        const message = `${host} has too many requests, and wants the next one in ${Math.ceil(delay)} s (HTTP 429)`;
        throw imageError(message, "wait that long, or log in");
      }
      await sleep(delay * 1000);
      delay *= 2;
    }
  };
}

/** Seconds to wait: a number or a date. */
function retryAfter(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (/^\d{1,9}$/.test(text)) return Number(text);
  const seconds = (Date.parse(text) - Date.now()) / 1000;
  return seconds > 0 ? seconds : undefined;
}
