// Which proxy a request goes through: HTTPS_PROXY, HTTP_PROXY and NO_PROXY as Go reads them (net/http/httpproxy). Node's
// own reading knows neither networks nor subdomains in NO_PROXY, and would send localhost to a proxy.

import { BlockList, isIP } from "node:net";
import { domainToASCII } from "node:url";
import { imageError, printable } from "../../errors.ts";

/** The proxy for an address; undefined if there is none for it. @throws KeystoreError `image` if it is of no use */
export function proxyFor(url: URL): URL | undefined {
  const name = url.protocol === "https:" ? "HTTPS_PROXY" : "HTTP_PROXY";
  const text = fromEnvironment(name);
  if (text === "" || !usesProxy(url)) return undefined;
  const proxy = parseProxy(text);
  const hint = `give ${name} as http://HOST:PORT, or add ${url.hostname} to NO_PROXY`;
  if (proxy === undefined) throw imageError(`${name} is no address of a proxy`, hint);
  if (proxy.protocol !== "http:" && proxy.protocol !== "https:") {
    throw imageError(`${name} has a proxy of the kind ${printable(proxy.protocol, 32)}, which is not supported`, hint);
  }
  return proxy;
}

/** A variable under its upper-case or its lower-case name. */
function fromEnvironment(name: string): string {
  return process.env[name] || process.env[name.toLowerCase()] || "";
}

const KINDS = /^(?:https?|socks5h?):$/;

/** Without a kind, it is an HTTP proxy. */
function parseProxy(text: string): URL | undefined {
  const given = URL.canParse(text) ? new URL(text) : undefined;
  if (given !== undefined && KINDS.test(given.protocol) && given.hostname !== "") return given;
  return URL.canParse(`http://${text}`) ? new URL(`http://${text}`) : undefined;
}

function usesProxy(url: URL): boolean {
  const host = url.hostname.replace(/^\[(.*)\]$/, "$1").toLowerCase();
  const port = url.port || (url.protocol === "https:" ? "443" : "80");
  if (host === "localhost" || (isIP(host) !== 0 && isLoopback(host))) return false;
  const entries = fromEnvironment("NO_PROXY").split(",");
  return !entries.some((entry) => isExempt(entry.trim().toLowerCase(), host, port));
}

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet("127.0.0.0", 8, "ipv4");
LOOPBACK.addAddress("::1", "ipv6");

function isLoopback(address: string): boolean {
  return LOOPBACK.check(address, family(address));
}

function family(address: string): "ipv4" | "ipv6" {
  return isIP(address) === 6 ? "ipv6" : "ipv4";
}

/** An entry of NO_PROXY: `*`, a network, an address or a domain, the last two with or without a port. */
function isExempt(entry: string, host: string, port: string): boolean {
  if (entry === "") return false;
  if (entry === "*") return true;
  const [, network = "", bits = ""] = /^([0-9a-f:.]+)\/(\d{1,3})$/.exec(entry) ?? [];
  if (isIP(network) !== 0 && Number(bits) <= (isIP(network) === 6 ? 128 : 32)) {
    if (isIP(host) === 0) return false;
    const list = new BlockList();
    list.addSubnet(network, Number(bits), family(network));
    return list.check(host, family(host));
  }
  const [, bracketed, plain = "", entryPort] = /^(?:\[(.*)\]|([^:]*)):(\d*)$/.exec(entry) ?? [
    undefined,
    undefined,
    entry,
  ];
  if (entryPort !== undefined && entryPort !== "" && entryPort !== port) return false;
  const name = bracketed ?? plain;
  if (isIP(name) !== 0) {
    const list = new BlockList();
    list.addAddress(name, family(name));
    return isIP(host) !== 0 && list.check(host, family(host));
  }
  const domain = name.replace(/^\*\./, ".");
  if (domain === "") return false;
  const ascii = domain.startsWith(".") ? `.${domainToASCII(domain.slice(1))}` : domainToASCII(domain);
  return domain.startsWith(".") ? host.endsWith(ascii) : host === ascii || host.endsWith(`.${ascii}`);
}
