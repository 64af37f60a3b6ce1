// What a registry asks for, and the Authorization that answers it: Basic (RFC 7617), and docker's tokens with a
// password or a refresh token. Challenges are read and chosen as skopeo does it.

import { imageError, printable, type KeystoreError } from "../../errors.ts";
import { orFail, parseGoJson, readStruct, stringOr } from "../../go-json.ts";
import type { Fail } from "../../json.ts";
import type { Credentials } from "./credential-helper.ts";
import type { Found } from "./credentials.ts";
import type { Answer, Request } from "./registry-http.ts";

/** A challenge of WWW-Authenticate, its names in lower case. */
export interface Challenge {
  readonly scheme: string;
  readonly parameters: ReadonlyMap<string, string>;
}

const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+/;
const QUOTED = /^"((?:[^"\\]|\\[^])*)"/;

/** One challenge a header: a second one in the same header is not seen. */
export function parseChallenges(headers: readonly string[]): Challenge[] {
  return headers.flatMap((header) => {
    const scheme = TOKEN.exec(header)?.[0] ?? "";
    const parameters = new Map<string, string>();
    let rest = `,${skipSpace(header.slice(scheme.length))}`;
    while (rest.startsWith(",")) {
      rest = skipSpace(rest.slice(1));
      const name = TOKEN.exec(rest)?.[0] ?? "";
      rest = rest.slice(name.length);
      if (name === "" || !rest.startsWith("=")) break;
      rest = rest.slice(1);
      const [whole = "", quoted] = (rest.startsWith('"') ? QUOTED : TOKEN).exec(rest) ?? [];
      const value = quoted === undefined ? whole : quoted.replaceAll(/\\([^])/g, "$1");
      if (value === "") break;
      parameters.set(name.toLowerCase(), value);
      rest = skipSpace(rest.slice(whole.length));
    }
    return scheme === "" ? [] : [{ scheme: scheme.toLowerCase(), parameters }];
  });
}

function skipSpace(text: string): string {
  return text.replace(/^[ \t\r\n]+/, "");
}

/** The challenge that is answered: the first one of a kind that is known. */
export function chosenChallenge(challenges: readonly Challenge[]): Challenge | undefined {
  return challenges.find(({ scheme }) => scheme === "basic" || scheme === "bearer");
}

/** The scope that a Bearer challenge says is missing; undefined if it says none. */
export function missingScope(answer: Answer): string | undefined {
  if (answer.status !== 401) return undefined;
  for (const { scheme, parameters } of parseChallenges(answer.headers("www-authenticate"))) {
    const scope = parameters.get("scope") ?? "";
    const insufficient = scheme === "bearer" && parameters.get("error") === "insufficient_scope";
    if (insufficient && scope.split(":").length === 3) return scope;
  }
  return undefined;
}

/** The registry whose challenge is answered. */
export interface Asking {
  readonly host: string;
  /** Where it was reached. */
  readonly url: URL;
  /** Whether it may be reached without TLS, or without checking its certificate. */
  readonly insecure: boolean;
  readonly found: Found;
}

const ANONYMOUS: Credentials = { username: "", password: "", identityToken: "" };

/** RFC 7617. Without credentials it is skopeo's empty name and password. */
export function basic({ credentials = ANONYMOUS }: Found): string {
  const { username, password } = credentials;
  return `Basic ${Buffer.from(`${username}:${password}`, "latin1").toString("base64")}`;
}

/** A token, and when it is to be replaced. */
export interface Token {
  readonly authorization: string;
  readonly expires: number;
}

const SHORTEST_LIFE = 60; // seconds, whatever the token server says

/** Gets a token for scopes. @throws KeystoreError `image` */
export async function fetchToken(
  { parameters }: Challenge,
  scopes: readonly string[],
  asking: Asking,
  request: Request,
): Promise<Token> {
  const { host, found } = asking;
  const realm = parameters.get("realm") ?? "";
  if (!URL.canParse(realm)) {
    throw imageError(`${host} names no address to get a token at`, "see the registry's token realm");
  }
  const url = new URL(realm);
  refuseOpenRealm(url, asking);
  const { username, password, identityToken } = found.credentials ?? ANONYMOUS;
  const query = new URLSearchParams(url.search);
  if (identityToken === "" && username !== "") query.append("account", Buffer.from(username, "latin1").toString());
  const service = parameters.get("service") ?? "";
  if (service !== "") query.append("service", service);
  for (const scope of scopes) query.append("scope", scope);
  const answer = await (identityToken === "" ? get() : post());
  if (answer.status === 401 || answer.status === 403) throw refusal(host, answer.status, found);
  if (answer.status !== 200) {
    const where = printable(url.host, 128);
    throw imageError(`the token server of ${host}, ${where}, answered HTTP ${answer.status}`, "see its log");
  }
  return readToken(answer, host);

  async function get(): Promise<Answer> {
    query.sort();
    url.search = query.toString();
    return await request(url, { headers: username === "" || password === "" ? {} : { authorization: basic(found) } });
  }

  /** docker's OAuth2: the refresh token is in the body. */
  async function post(): Promise<Answer> {
    query.append("grant_type", "refresh_token");
    query.append("refresh_token", identityToken);
    query.append("client_id", "ocicrypt-keystore");
    query.sort();
    const headers = { "content-type": "application/x-www-form-urlencoded" };
    return await request(url, { method: "POST", headers, body: Buffer.from(query.toString()) });
  }
}

/** Credentials go to an address without TLS only on the registry's own host, if that needs no TLS either, or here. */
function refuseOpenRealm(url: URL, { host, url: registry, insecure, found }: Asking): void {
  if (url.protocol === "https:") return;
  if (url.protocol === "http:") {
    if (found.credentials === undefined) return;
    const plain = insecure || registry.protocol === "http:";
    if (plain && (url.hostname === registry.hostname || isThisMachine(url.hostname))) return;
  }
  const message = `${host} sends credentials to ${printable(url.origin === "null" ? url.protocol : url.origin, 128)}, which has no TLS`;
  throw imageError(message, "nothing was sent there; see the registry's token realm");
}

function isThisMachine(hostname: string): boolean {
  return /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(hostname);
}

function readToken(answer: Answer, host: string): Token {
  const fail: Fail = (reason) => imageError(`the token of ${host} ${reason}`, "see the token server's log");
  let [named, access, stated] = ["", "", 0];
  orFail(fail, () =>
    readStruct(parseGoJson(answer.body), "is JSON", {
      token: (value) => (named = stringOr(named, value, "has a token")),
      access_token: (value) => (access = stringOr(access, value, "has an access_token")),
      expires_in: (value) => {
        if (value.kind === "scalar" && typeof value.scalar === "number") stated = value.scalar;
      },
    }),
  );
  const token = named || access;
  if (!/^[\x21-\x7e]+$/.test(token)) throw fail("is missing, or no token");
  const seconds = Math.max(stated, SHORTEST_LIFE);
  return { authorization: `Bearer ${token}`, expires: Date.now() + seconds * 1000 };
}

/** What a 401 or 403 means: which credentials were refused, or where none were found. */
export function refusal(host: string, status: number, { credentials, source, searched, notes }: Found): KeystoreError {
  const also = notes.length === 0 ? "" : `; ${notes.join("; ")}`;
  const login = `log in with skopeo login ${host}, or podman or docker login`;
  if (credentials === undefined) {
    return imageError(`no credentials for ${host} in ${searched.join(", ")} (HTTP ${status})${also}`, login);
  }
  if (status === 403) {
    const hint = `ask for the right to do this, or ${login}`;
    return imageError(`${host} does not allow this with the credentials of ${source} (HTTP 403)`, hint);
  }
  return imageError(`${host} refused the credentials of ${source} (HTTP ${status})`, login);
}
