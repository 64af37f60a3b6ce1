// Calls a Tang server over HTTP: bounded in size and time, no redirects, no connection kept. node:http is loaded only
// for a call.

import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { errorCode, KeystoreError, printable, unusableError } from "../errors.ts";

const TIME_LIMIT = 10_000; // ms for one answer, from the look-up of its name to the last byte
const SLOW = 1_000; // ms after which a failure is remembered
const MAX_ANSWER = 64 * 1024; // bytes

/** The hint if a server does what a Tang server does not do. */
export const NOT_TANG = "check that URL: it does not seem to be a Tang server";

// A store may have many keys for one server: if the server did not answer, the next keys do not wait for it again.
const silent = new Map<string, { readonly error: KeystoreError; readonly until: number }>();

/**
 * Whether text can be a Tang server's URL: http or https, visible ASCII without ? # @ \, since a path is added to it.
 */
export function isServerUrl(text: string): boolean {
  return /^https?:\/\/(?!\/)[!"$->A-[\]-~]{1,1024}$/i.test(text) && URL.canParse(text);
}

/** A Tang server's URL as curl reads it for clevis: http, if it names no scheme. */
export function withScheme(text: string): string {
  return /^[a-z][a-z0-9+.-]*:[/\\]/i.test(text) ? text : `http://${text}`;
}

/** The error for a Tang server's failure: a key that is locked for it stays locked (exit code 3). */
export function serverError(server: string, what: string, hint: string): KeystoreError {
  return unusableError(`the Tang server ${printable(server, 256)} ${what}`, hint);
}

/**
 * Gets `path` from a Tang server, or posts a JWK to it.
 *
 * @param server its URL, checked by {@link isServerUrl}
 * @param signal ends the call if its answer is no longer needed
 * @returns the answer's bytes
 * @throws KeystoreError `unusable` if it does not answer with HTTP 200 and at most 64 KiB within 10 s
 */
export async function askTang(server: string, path: string, jwk?: object, signal?: AbortSignal): Promise<Buffer> {
  const known = silent.get(server);
  if (known !== undefined && Date.now() < known.until) throw known.error;
  const url = new URL(server.replace(/\/+$/, "") + path);
  const { request } =
    url.protocol === "https:" ? process.getBuiltinModule("node:https") : process.getBuiltinModule("node:http");
  const posted = { method: "POST", headers: { "content-type": "application/jwk+json" } };
  const options = { ...(url.protocol === "https:" && { ca: authorities() }), ...(jwk && posted), agent: false };
  // Any answer must settle this promise. So all events are handled: without a listener, Node drops an upgrade silently.
  return await new Promise((resolve, reject) => {
    const started = Date.now();
    const stop = (): void => end(() => reject(noAnswer(server, "it was no longer needed")));
    let ended = false;
    const end = (settle: () => void): void => {
      ended = true;
      clearTimeout(limit);
      signal?.removeEventListener("abort", stop);
      settle();
      outgoing.destroy();
    };
    const give = (error: KeystoreError): void => {
      if (ended) return; // the connection closes after every answer
      if (Date.now() - started > SLOW) silent.set(server, { error, until: Date.now() + TIME_LIMIT });
      end(() => reject(error));
    };
    const failed = (error?: Error): void => give(noAnswer(server, errorCode(error) ?? "no whole answer"));
    const refuse = (what: string, hint: string): void => give(serverError(server, what, hint));
    const refuseStatus = ({ statusCode }: IncomingMessage): void =>
      refuse(`answers HTTP ${statusCode}`, "check that URL, and the server's log");
    const switched = (answer: IncomingMessage, socket: Duplex): void => {
      socket.destroy(); // the request no longer owns the socket
      refuseStatus(answer);
    };
    const outgoing = request(url, options, (answer) => {
      const chunks: Buffer[] = [];
      let length = 0;
      answer.on("data", (chunk: Buffer) => {
        chunks.push(chunk);
        length += chunk.length;
        if (length > MAX_ANSWER) refuse("answers with more than 64 KiB", NOT_TANG);
      });
      answer.on("end", () => end(() => resolve(Buffer.concat(chunks))));
      answer.on("error", failed);
      if (answer.statusCode === 404 && jwk !== undefined) {
        const hint = "put the server's old key files back into its database";
        refuse("no longer has the key that this file was locked with", hint);
      } else if (answer.statusCode !== 200) refuseStatus(answer);
    });
    // Not AbortSignal.timeout, which does not keep the process alive: it would end before this is settled.
    const limit = setTimeout(() => give(noAnswer(server, `nothing whole within ${TIME_LIMIT / 1000} s`)), TIME_LIMIT);
    outgoing.on("error", failed);
    outgoing.on("upgrade", switched);
    outgoing.on("connect", switched);
    outgoing.on("close", () => setImmediate(failed)); // an error of the answer follows at once and comes first
    signal?.addEventListener("abort", stop);
    if (signal?.aborted === true) return stop();
    outgoing.end(jwk && JSON.stringify(jwk));
  });
}

/** Node's certificate authorities and the system's: a company adds its own to the latter. */
function authorities(): string[] {
  const { getCACertificates } = process.getBuiltinModule("node:tls");
  return [...getCACertificates("default"), ...getCACertificates("system")];
}

function noAnswer(server: string, why: string): KeystoreError {
  const hint = "start it, or check that URL and the network: only that server can open what is locked for it";
  return serverError(server, `does not answer: ${printable(why, 64)}`, hint);
}
