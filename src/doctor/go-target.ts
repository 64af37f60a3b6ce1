// The address of a server as Go's grpc.Dial takes it: a URL of a scheme that it knows, else HOST:PORT. The library that
// we call servers with takes other addresses for HOST:PORT than Go does, and gets the result of this.

import { isIPv6 } from "node:net";
import { resolve } from "node:path";

/** Where clients connect to. */
export type Target =
  | { readonly kind: "unix"; readonly path: string }
  | { readonly kind: "tcp"; readonly host: string; readonly port: number };

/** Why clients cannot connect: words that follow the address. */
export interface Refused {
  readonly refused: string;
}

interface Url {
  readonly scheme: string;
  readonly authority: string;
  /** The path, or what follows the colon if that does not begin with a slash. */
  readonly rest: string;
}

const HINT = "write HOST:PORT, unix:///PATH or dns:///HOST:PORT";
const DNS_PORT = 443; // grpc's own default

const SCHEMES: ReadonlyMap<string, (url: Url) => Target | Refused> = new Map([
  ["unix", ({ authority, rest }) => (authority === "" ? unix(rest) : noPath(authority))],
  ["unix-abstract", ({ authority, rest }) => (authority === "" ? unix(`\0${rest}`) : noPath(authority))],
  ["dns", ({ rest }) => resolved(rest.replace(/^\//, ""))],
  ["passthrough", ({ rest }) => dialed(rest.replace(/^\//, ""))],
]);

/** Where clients connect to for an address. */
export function goTarget(address: string): Target | Refused {
  const url = parseUrl(address);
  const known = url && SCHEMES.get(url.scheme);
  if (url !== undefined && known !== undefined) return known(url);
  const whole = parseUrl(`passthrough:///${address}`);
  return whole === undefined ? refuse("is not a URL") : dialed(whole.rest.replace(/^\//, ""));
}

/** What Go's url.Parse makes of a text with a scheme; undefined if it has none, or is refused. */
function parseUrl(text: string): Url | undefined {
  // oxlint-disable-next-line no-control-regex -- Go refuses control characters
  if (/[\u0000-\u001f\u007f]/.test(text)) return undefined;
  const [, scheme = "", after = ""] = /^([A-Za-z][A-Za-z0-9+.-]*):([^?#]*)/.exec(text) ?? [];
  if (scheme === "") return undefined;
  const [, authority = "", path] = /^\/\/([^/]*)(.*)$/.exec(after) ?? [];
  if (path === undefined && !after.startsWith("/")) return { scheme: scheme.toLowerCase(), authority, rest: after };
  try {
    return { scheme: scheme.toLowerCase(), authority, rest: decodeURIComponent(path ?? after) };
  } catch {
    return undefined;
  }
}

/** What the dialer makes of an endpoint that nothing resolves. */
function dialed(endpoint: string): Target | Refused {
  if (endpoint === "") return refuse("names no host");
  if (/^unix:(?!.*:\/)/.test(endpoint)) return unix(endpoint.slice("unix:".length));
  const url = endpoint.startsWith("unix:") ? parseUrl(endpoint) : undefined;
  return url === undefined ? hostPort(endpoint) : unix(url.rest || url.authority);
}

/** What the resolver of `dns` makes of an endpoint: the port may be left out. */
function resolved(endpoint: string): Target | Refused {
  if (endpoint === "") return refuse("names no host");
  if (isIPv6(endpoint)) return { kind: "tcp", host: endpoint, port: DNS_PORT };
  return /^[^:]+$|^\[[^\]]*\]$/.test(endpoint) ? hostPort(`${endpoint}:${DNS_PORT}`) : hostPort(endpoint);
}

function hostPort(text: string): Target | Refused {
  const [, bracketed, plain, port = ""] = /^(?:\[([^\]]*)\]|([^:[\]]*)):([^:]*)$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  if (host === undefined) return refuse(/^[^:]*$|\]$/.test(text) ? "has no port" : "is not HOST:PORT");
  if (!/^\d{1,5}$/.test(port) || Number(port) > 65_535) return refuse("has no port");
  return { kind: "tcp", host: host === "" ? "localhost" : host, port: Number(port) };
}

function unix(path: string): Target | Refused {
  if (path === "" || path === "\0") return refuse("names no socket");
  return { kind: "unix", path: path.startsWith("\0") ? path : resolve(path) };
}

function noPath(authority: string): Refused {
  return { refused: `has "${authority}" after its two slashes, where a third one belongs; write unix:///PATH` };
}

function refuse(what: string): Refused {
  return { refused: `${what}; ${HINT}` };
}
