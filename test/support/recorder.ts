// A registry that records what it is sent, and a proxy that leads every host to it: skopeo and this program ask for
// images of any host there, docker.io included, and nothing leaves this machine.

import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer as createPlain, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createTls } from "node:https";
import { connect, type AddressInfo, type Server } from "node:net";
import type { Duplex } from "node:stream";
import type { Authority } from "./certificates.ts";

/** Answers a request to the registry; `body` is what came with it. */
export type Answering = (request: IncomingMessage, response: ServerResponse, body: string) => void;

/** A running registry. */
export interface Registry {
  /** The proxy's address, for HTTPS_PROXY and HTTP_PROXY. */
  readonly proxy: string;
  /** 127.0.0.1:PORT of the registry itself, with and without TLS. */
  readonly tls: string;
  readonly plain: string;
  /** Each request: method, scheme, host, path, Authorization, body. */
  readonly asked: string[];
  /** What the proxy was asked for, with which Proxy-Authorization. */
  readonly proxied: string[];
  readonly close: () => void;
}

/** Starts one. @param mutual whether clients need a certificate of the authority */
export async function startRecorder(authority: Authority, answer: Answering, mutual = false): Promise<Registry> {
  const [asked, proxied]: [string[], string[]] = [[], []];
  const record =
    (scheme: string) =>
    (request: IncomingMessage, response: ServerResponse): void => {
      let body = "";
      request.setEncoding("utf8").on("data", (text: string) => (body += text));
      request.on("end", () => {
        const { method = "", url = "", headers } = request;
        const path = decodeURIComponent(url.replace(/^https?:\/\/[^/]+/, "").replaceAll("+", " "));
        asked.push([method, `${scheme}://${headers.host}${path}`, headers.authorization ?? "-", body].join(" ").trim());
        answer(request, response, body);
      });
    };
  const tls = createTls({ ...pairOf(authority), requestCert: mutual, rejectUnauthorized: mutual }, record("https"));
  const plain = createPlain(record("http"));
  const proxy = createPlain((request, response) => {
    proxied.push(`${request.method} ${request.url} ${request.headers["proxy-authorization"] ?? "-"}`);
    record("http")(request, response);
  });
  proxy.on("connect", ({ url = "", headers }: IncomingMessage, socket: Duplex, head: Buffer) => {
    proxied.push(`CONNECT ${url} ${headers["proxy-authorization"] ?? "-"}`);
    const onward = connect(portOf(tls), "127.0.0.1", () => {
      socket.write("HTTP/1.1 200 OK\r\n\r\n");
      onward.write(head);
      onward.pipe(socket).pipe(onward);
    });
    for (const end of [socket, onward])
      end.on("error", () => void socket.destroy(onward.destroy().errored ?? undefined));
  });
  const servers = [tls, plain, proxy];
  await Promise.all(servers.map(async (server) => await once(server.listen(0, "127.0.0.1").unref(), "listening")));
  return {
    proxy: `http://127.0.0.1:${portOf(proxy)}`,
    tls: `127.0.0.1:${portOf(tls)}`,
    plain: `127.0.0.1:${portOf(plain)}`,
    asked,
    proxied,
    close: () => {
      for (const server of servers) {
        server.close();
        server.closeAllConnections();
      }
    },
  };
}

const pairs = new Map<Authority, { readonly cert: Buffer; readonly key: Buffer; readonly ca: Buffer }>();

/** One certificate an authority: openssl takes a while. */
function pairOf(authority: Authority): { readonly cert: Buffer; readonly key: Buffer; readonly ca: Buffer } {
  const known = pairs.get(authority);
  if (known !== undefined) return known;
  const { cert, key } = authority.issue("registry");
  const pair = { cert: readFileSync(cert), key: readFileSync(key), ca: readFileSync(authority.ca) };
  pairs.set(authority, pair);
  return pair;
}

function portOf(server: Server): number {
  return (server.address() as AddressInfo).port;
}
