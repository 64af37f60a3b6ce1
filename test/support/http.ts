// What an HTTP server, or whoever sits in its place, can do with an answer, down to the bytes: for the clients that must withstand it.

import type { Socket } from "node:net";
import { gzipSync } from "node:zlib";

/** Answers on a connection whose request was read; `body` is what an honest server would send. */
export type Behaviour = (socket: Socket, body: Buffer) => void;

const head = (status: string, ...lines: readonly string[]): string =>
  `HTTP/1.1 ${[status, ...lines].join("\r\n")}\r\n\r\n`;
const honestHead = (body: Buffer, ...lines: readonly string[]): string =>
  head(
    "200 OK",
    "Content-Type: application/vnd.oci.image.manifest.v1+json",
    `Content-Length: ${body.length}`,
    ...lines,
  );
const chunk = (bytes: Buffer): string => `${bytes.length.toString(16)}\r\n${bytes.toString("latin1")}\r\n`;
const CHUNKED = head("200 OK", "Transfer-Encoding: chunked");

/** An honest answer's bytes. */
export function honest(body: Buffer): Buffer {
  return Buffer.concat([Buffer.from(honestHead(body)), body]);
}

const sends =
  (text: (body: Buffer) => string): Behaviour =>
  (socket, body) =>
    void socket.end(text(body), "latin1");
const says = (...parts: Parameters<typeof head>): Behaviour => sends(() => head(...parts));
/** Sends and keeps the connection open. */
const holds =
  (text: (body: Buffer) => string): Behaviour =>
  (socket, body) =>
    void socket.write(text(body), "latin1");
const latin1 = (body: Buffer): string => body.toString("latin1");
const repeats =
  (text: string): Behaviour =>
  (socket) => {
    const timer = setInterval(() => socket.write(text), 50).unref();
    socket.on("close", () => clearInterval(timer));
  };

/** Compresses what nobody asked it to. */
export const UNASKED_GZIP = sends((body) => {
  const packed = gzipSync(body);
  return honestHead(packed, "Content-Encoding: gzip") + latin1(packed);
});

/** Those whose answer is whole: a client gets its body, or may refuse. */
export const WHOLE: Readonly<Record<string, Behaviour>> = {
  "100 before it": sends((body) => head("100 Continue") + honestHead(body) + latin1(body)),
  "103 before it, many times": sends(
    (body) => head("103 Early Hints", "Link: </x>").repeat(50) + honestHead(body) + latin1(body),
  ),
  "an offer to upgrade with it": sends(
    (body) => honestHead(body, "Connection: Upgrade", "Upgrade: h2c") + latin1(body),
  ),
  trailers: sends((body) => `${CHUNKED}${chunk(body)}0\r\nX-Trailer: a\r\n\r\n`),
  "a chunk a byte, the connection kept": holds(
    (body) => `${CHUNKED}${[...body].map((byte) => chunk(Buffer.of(byte))).join("")}0\r\n\r\n`,
  ),
  "no length": sends((body) => head("200 OK") + latin1(body)),
  "a second answer behind it": sends((body) => (honestHead(body) + latin1(body)).repeat(2)),
  "a byte at a time": (socket, body) => {
    const bytes = honest(body);
    let at = 0;
    const timer = setInterval(
      () =>
        at < bytes.length && !socket.destroyed ? socket.write(bytes.subarray(at, (at += 40))) : clearInterval(timer),
      1,
    );
  },
};

/** Those whose answer is none, at once: a client fails. */
export const BROKEN: Readonly<Record<string, Behaviour>> = {
  "101 with an upgrade": (socket) =>
    void socket.write(head("101 Switching Protocols", "Connection: Upgrade", "Upgrade: websocket")),
  "101 with an upgrade, and the end": says("101 Switching Protocols", "Connection: Upgrade", "Upgrade: websocket"),
  "101 with an upgrade, and an answer": sends(
    (body) => head("101 Switching Protocols", "Connection: Upgrade", "Upgrade: h2c") + honestHead(body) + latin1(body),
  ),
  "101 without an upgrade": says("101 Switching Protocols"),
  "101 after 100": sends(
    () => head("100 Continue") + head("101 Switching Protocols", "Connection: Upgrade", "Upgrade: x"),
  ),
  "100 and the end": says("100 Continue"),
  "102, 103 and a reset": (socket) =>
    void socket.write(head("102 Processing") + head("103 Early Hints"), () => socket.resetAndDestroy()),
  "204": says("204 No Content"),
  "205 with a length": says("205 Reset Content", "Content-Length: 10"),
  "206": sends((body) => head("206 Partial Content", `Content-Length: ${body.length}`) + latin1(body)),
  "304 as if it were cached": says("304 Not Modified", "Content-Length: 100", "ETag: x"),
  "a head alone, as for HEAD": sends((body) => honestHead(body)),
  "407": says("407 Proxy Authentication Required", "Proxy-Authenticate: Basic", "Content-Length: 0"),
  "426": says("426 Upgrade Required", "Connection: Upgrade", "Upgrade: TLS/1.0", "Content-Length: 0"),
  "500 without an end": (socket) => void socket.write(head("500 Oops", "Transfer-Encoding: chunked")),
  "status 999": says("999 Huh", "Content-Length: 0"),
  "status 000": says("000 Huh", "Content-Length: 0"),
  "a redirect to itself": says("302 Found", "Location: /", "Content-Length: 0"),
  "a redirect to nowhere": says("307 Temporary Redirect", "Location: http://[", "Content-Length: 0"),
  "a length that is too long": sends((body) => head("200 OK", `Content-Length: ${body.length + 1}`) + latin1(body)),
  "a length that is too short": sends((body) => head("200 OK", `Content-Length: ${body.length - 1}`) + latin1(body)),
  "two lengths": sends((body) => honestHead(body, "Content-Length: 1") + latin1(body)),
  "a length that is none": sends((body) => head("200 OK", "Content-Length: -1") + latin1(body)),
  "a length beside chunks": sends((body) => honestHead(body, "Transfer-Encoding: chunked") + chunk(body)),
  "chunks that are none": sends((body) => CHUNKED + latin1(body)),
  "a chunk of a huge size": sends(() => `${CHUNKED}FFFFFFFFFFFFFFFFFF\r\n`),
  "chunks without an end": sends((body) => CHUNKED + chunk(body)),
  "a chunk extension without an end": sends(() => `${CHUNKED}5;${"x".repeat(200_000)}`),
  "trailers without an end": sends((body) => `${CHUNKED}${chunk(body)}0\r\n${"x: y\r\n".repeat(50_000)}`),
  "a header of 1 MB": sends(() => head("200 OK", `X: ${"x".repeat(1_000_000)}`)),
  "100,000 headers": sends(() => head("200 OK", ...Array.from({ length: 100_000 }, (_, index) => `X${index}: y`))),
  "a header with a NUL": sends((body) => honestHead(body, "X: \0") + latin1(body)),
  "compression that is none": sends((body) => honestHead(body, "Content-Encoding: gzip") + latin1(body)),
  "another version": sends((body) => honestHead(body).replace("1.1", "9.9") + latin1(body)),
  "bytes that are no HTTP": sends(() => "SSH-2.0-OpenSSH_9.2\r\n"),
  "a TLS alert": sends(() => "\x15\x03\x03\x00\x02\x02\x46"),
  "nothing, and the end": (socket) => void socket.end(),
  "nothing, and a reset": (socket) => void socket.resetAndDestroy(),
};

/** Those that never come to an end: a client gives up when its time is over. */
export const SLOW: Readonly<Record<string, Behaviour>> = {
  silence: () => undefined,
  "a head, and silence": holds((body) => honestHead(body)),
  "half of it, and silence": holds((body) => honestHead(body) + latin1(body.subarray(0, 9))),
  "100 again and again": repeats(head("100 Continue")),
  "a header again and again": (socket, body) => {
    socket.write("HTTP/1.1 200 OK\r\n");
    repeats("x: y\r\n")(socket, body);
  },
  "a space again and again": (socket, body) => {
    socket.write(head("200 OK"));
    repeats(" ")(socket, body);
  },
};
