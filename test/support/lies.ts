// Lies of a Tang server that each request to it must withstand.

import type { Members } from "./stores.ts";
import type { Lie } from "./tang.ts";

/** Answers with a value as JSON, or with text as it is. */
export const send =
  (value: unknown): Lie =>
  (_request, response) =>
    void response.end(typeof value === "string" ? value : JSON.stringify(value));
/** Answers with the right object, changed. */
export const changed =
  (change: (jws: Members) => Members): Lie =>
  (_request, response, right) =>
    void response.end(JSON.stringify(change(JSON.parse(right.toString()) as Members)));
/** Base64url of other bytes. */
export const flipped = (text: unknown): string =>
  Buffer.from(Buffer.from(String(text), "base64url").map((byte, at) => (at === 9 ? byte ^ 1 : byte))).toString(
    "base64url",
  );

/** Lies that both ways of asking must withstand, with what the line says. */
export const TRANSPORT: readonly (readonly [name: string, lie: Lie, line: RegExp])[] = [
  [
    "is huge",
    (_request, response) => void response.end(Buffer.alloc(65 * 1024, 0x20)),
    /answers with more than 64 KiB/,
  ],
  [
    "never ends",
    (_request, response) => void setInterval(() => response.write(Buffer.alloc(60_000)), 1).unref(),
    /answers with more than 64 KiB/,
  ],
  [
    "is a redirect",
    (_request, response) => void response.writeHead(302, { location: "http://127.0.0.1:1/" }).end(),
    /answers HTTP 302/,
  ],
  ["is an error", (_request, response) => void response.writeHead(500).end("{}"), /answers HTTP 500/],
  [
    "is cut off",
    (_request, response) =>
      void response.writeHead(200, { "content-length": "1000" }).write("{", () => response.destroy()),
    /does not answer: ECONNRESET/,
  ],
  ["is none", (_request, response) => void response.destroy(), /does not answer: ECONNRESET/],
  ["is not HTTP", (_request, response) => void response.socket?.end("hello\r\n\r\n"), /does not answer: HPE_/],
  [
    "has an endless head",
    (_request, response) => void response.socket?.write(`HTTP/1.1 200 OK\r\nx: ${"x".repeat(100_000)}`),
    /does not answer: HPE_/,
  ],
  ["is empty", send(""), /that is not JSON/],
  ["is not JSON", send("hello"), /that is not JSON/],
  ["is a list", send([]), /that is not (a JSON object|an? object|a JWS)/],
  ["is deep", send("[".repeat(5000) + "]".repeat(5000)), /nested too deep/],
];
