// Handles one request of a client: answers it within its time limit, logs it, and writes it to the audit file before
// the client gets the answer.

import { status, type sendUnaryData, type ServerUnaryCall } from "@grpc/grpc-js";
import {
  asKeystoreError,
  busyError,
  deniedError,
  errorLine,
  ioError,
  KeystoreError,
  lateError,
  printable,
  requestError,
  type ErrorCode,
} from "../errors.ts";
import { ANNOTATION_LIMITS } from "../jwe/gate.ts";
import type { KeyStore } from "../keystore/keystore.ts";
import { answerRequest, wireForm, type Answer } from "../protocol/answer.ts";
import { providerName, type ProviderHints } from "../protocol/recipients.ts";
import { parseRequest, type Request } from "../protocol/request.ts";
import { decodeMessage, encodeMessage } from "./service.ts";
import { Allowance, shownTime, TIME_LIMITS, Turns, within, type TimeLimits } from "./limits.ts";
import { logLine, MAX_NAME, type AuditFile, type Entry } from "./log.ts";
import { watched } from "./store.ts";

/** An operation of the protocol. */
export type RequestOp = Request["op"];

/** The options of the command line for requests. */
export interface HandlerOptions {
  readonly allow: readonly RequestOp[];
  readonly provider: string | undefined;
  /** How many commands of holders may run at the same time. */
  readonly holderJobs: number;
}

export type Call = ServerUnaryCall<Buffer, Buffer>;
export type Done = sendUnaryData<Buffer>;

const MAX_DETAILS = 6_300; // bytes that an error's line may have in its header
const MAX_AT_ONCE = 256; // requests under way, including those that wait for a turn

const STATUS: Readonly<Record<ErrorCode, status>> = {
  usage: status.INVALID_ARGUMENT,
  request: status.INVALID_ARGUMENT,
  annotation: status.INVALID_ARGUMENT,
  image: status.INVALID_ARGUMENT,
  foreign: status.NOT_FOUND,
  recipient: status.NOT_FOUND,
  key: status.FAILED_PRECONDITION,
  unusable: status.FAILED_PRECONDITION,
  store: status.FAILED_PRECONDITION,
  denied: status.PERMISSION_DENIED,
  busy: status.RESOURCE_EXHAUSTED,
  late: status.DEADLINE_EXCEEDED,
  io: status.INTERNAL,
};

/** Answers requests. */
export class Handler {
  readonly #store: KeyStore;
  readonly #allow: readonly RequestOp[];
  readonly #hints: ProviderHints;
  readonly #audit: AuditFile | undefined;
  readonly #turns: Turns;
  readonly #limits: TimeLimits;
  #underWay = 0;

  constructor(
    store: KeyStore,
    { allow, provider, holderJobs }: HandlerOptions,
    audit?: AuditFile,
    limits = TIME_LIMITS,
  ) {
    this.#store = store;
    this.#allow = allow;
    this.#hints = { provider, startedAs: "" };
    this.#audit = audit;
    this.#turns = new Turns(holderJobs);
    this.#limits = limits;
  }

  /** Answers one request. At its time limit it no longer counts as under way, even if its work still waits. */
  async handle(op: RequestOp, call: Call, done: Done): Promise<void> {
    const started = performance.now();
    const client = clientName(call); // read it now: later the connection may be gone
    const seen: { kids: string[]; provider: string | undefined } = { kids: [], provider: this.#hints.provider };
    const allowance = new Allowance(this.#limits);
    call.on("cancelled", () =>
      allowance.abandon(lateError("the client is gone", "it closed the call before it got its answer")),
    );
    let answer: Answer | undefined;
    let failure: KeystoreError | undefined;
    this.#underWay++;
    try {
      answer = await allowance.until(this.#answer(op, call.request, seen, allowance));
    } catch (error) {
      failure = asKeystoreError(error);
    }
    allowance.end();
    const entry = {
      op,
      provider: seen.provider,
      kids:
        op === "keyunwrap" && answer !== undefined
          ? seen.kids.slice(-1)
          : [...new Set(seen.kids)].slice(0, ANNOTATION_LIMITS.recipients),
      result: resultOf(failure),
      ms: performance.now() - started,
      client,
    } as const;
    try {
      const { record } = this.#limits;
      const late = (): KeystoreError => {
        const message = `the audit file could not be written within ${shownTime(record)}`;
        return ioError(message, "no request is answered without its record: check the disk of the audit file");
      };
      if (this.#audit !== undefined) await within(record, this.#audit.append(entry), late);
    } catch (error) {
      failure = asKeystoreError(error);
    }
    this.#underWay--;
    logLine({ ...entry, result: resultOf(failure) });
    if (failure !== undefined || answer === undefined) done(callError(failure));
    // The Rust client reads only a list of integers.
    else done(null, encodeMessage(wireForm(answer, (bytes) => [...bytes])));
  }

  async #answer(
    op: RequestOp,
    message: Buffer,
    seen: { kids: string[]; provider: string | undefined },
    allowance: Allowance,
  ): Promise<Answer> {
    if (this.#underWay > MAX_AT_ONCE) throw busyError(`${MAX_AT_ONCE} requests are under way`, "try again");
    if (!this.#allow.includes(op)) {
      const [denied, allowed] = op === "keywrap" ? ["wrap", "unwrap"] : ["unwrap", "wrap"];
      throw deniedError(`this server does not ${denied}`, `it was started with --allow ${allowed}`);
    }
    const request = parseRequest(decodeMessage(message));
    if (request.op !== op) {
      const hint = "the method WrapKey is for keywrap, and UnWrapKey for keyunwrap";
      throw requestError(`the request's op is ${request.op}, but the method is for ${op}`, hint);
    }
    if (request.op === "keywrap") seen.provider = providerName([...request.parameters.keys()], this.#hints);
    return await answerRequest(request, watched(this.#store, seen.kids, this.#turns, allowance), this.#hints);
  }
}

/** How log and audit name an outcome: a key that cannot be used and one that is refused have the same word. */
function resultOf(failure: KeystoreError | undefined): Entry["result"] {
  return failure?.code === "unusable" ? "key" : (failure?.code ?? "ok");
}

/** An error as a call ends with it. @param error undefined is a defect of ours */
export function callError(error: KeystoreError | undefined): { readonly code: status; readonly details: string } {
  return { code: STATUS[error?.code ?? "io"], details: details(errorLine(error)) };
}

/**
 * An error's line for a client. It is sent percent-encoded in a header, and some clients accept only 8 KiB of
 * headers. The gRPC library's encoder throws on half a surrogate pair, and that error would end the server.
 */
function details(line: string): string {
  const whole = line.toWellFormed();
  // A UTF-16 unit takes up to 9 bytes.
  return encodeURIComponent(whole).length <= MAX_DETAILS ? whole : printable(whole, MAX_DETAILS / 9);
}

/**
 * The name of a client for the log: the first common name in its certificate, else the certificate's fingerprint. It is
 * undefined without a certificate, or if the connection is gone.
 */
function clientName(call: Call): string | undefined {
  try {
    const certificate = call.getAuthContext().sslPeerCertificate;
    const [name] = [certificate?.subject?.CN ?? []].flat();
    return name === undefined || name === "" ? certificate?.fingerprint256 : printable(name, MAX_NAME);
  } catch {
    return undefined; // the library throws if the socket is closed
  }
}
