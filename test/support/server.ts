// A running server of the built binary, and a real gRPC client for it.

import { spawn, type ChildProcess } from "node:child_process";
import type { Socket } from "node:net";
import { join } from "node:path";
import { Client, credentials, type ChannelCredentials, type ServiceError } from "@grpc/grpc-js";
import * as assert from "uvu/assert";
import { decodeMessage, encodeMessage, SERVICE } from "../../src/serve/service.ts";
import { temporaryFolder } from "./folders.ts";
import { BINARY } from "./program.ts";
import { unwrapRequest, wrapRequest } from "./requests.ts";

const running = new Set<ChildProcess>();
process.on("exit", () => running.forEach((child) => child.kill("SIGKILL")));

/** A server that listens. */
export interface TestServer {
  readonly child: ChildProcess;
  /** As a client's configuration names it. */
  readonly address: string;
  /** What it wrote to standard error so far. */
  log(): string;
  /** Sends a signal and waits for the end: its exit code. */
  stop(signal?: NodeJS.Signals): Promise<number | null>;
}

/** How it is started. */
export interface ServerOptions {
  readonly listen?: string;
  readonly args?: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
  /** A command to start it with, which becomes it. */
  readonly prefix?: readonly string[];
}

/** Starts `serve`, and waits until it listens. It fails with what the server said if it ends before. */
export async function startServer(
  store: string,
  { listen = `unix:${join(temporaryFolder(), "socket")}`, args = [], env = {}, prefix = [] }: ServerOptions = {},
): Promise<TestServer> {
  const [file = "", ...words] = [...prefix, BINARY, "serve", "--keystore", store, "--listen", listen, ...args];
  const child = spawn(file, words, { env, cwd: "/", stdio: ["ignore", "ignore", "pipe"] });
  running.add(child);
  let log = "";
  const ended = new Promise<number | null>((resolve) => child.once("close", resolve)).finally(() =>
    running.delete(child),
  );
  const address = await new Promise<string>((resolve, reject) => {
    let found: string | undefined;
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      log += text;
      found ??= /^listening on (\S+)$/m.exec(log)?.[1]; // once: the log may become long
      if (found !== undefined) resolve(found);
    });
    void ended.then((code) => reject(new Error(`ended with ${code}: ${log}`)));
  });
  // A test that fails leaves its server: this process is to end all the same, and takes it along.
  child.unref();
  (child.stderr as Socket).unref();
  return {
    child,
    address,
    log: () => log,
    stop: async (signal = "SIGTERM") => {
      child.ref();
      (child.stderr as Socket).ref();
      child.kill(signal);
      return await ended;
    },
  };
}

/** One call with a connection of its own, as ocicrypt's clients make it. @param patience ms until it gives up */
export async function callRaw(
  address: string,
  method: keyof typeof SERVICE,
  message: Buffer,
  channel: ChannelCredentials = credentials.createInsecure(),
  patience = 90_000,
): Promise<Buffer> {
  const client = new Client(address, channel, {
    "grpc.max_send_message_length": -1,
    "grpc.use_local_subchannel_pool": 1,
    "grpc.enable_retries": 0,
  });
  const { path, requestSerialize, responseDeserialize } = SERVICE[method];
  try {
    return await new Promise((resolve, reject) => {
      client.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        message,
        { deadline: Date.now() + patience },
        (error, answer) =>
          error === null && answer !== undefined ? resolve(answer) : reject(error ?? new Error("no answer")),
      );
    });
  } finally {
    client.close();
  }
}

async function call(
  address: string,
  method: keyof typeof SERVICE,
  request: string,
  result: string,
  name: string,
  channel?: ChannelCredentials,
): Promise<Buffer> {
  const answer = JSON.parse(
    Buffer.from(decodeMessage(await callRaw(address, method, encodeMessage(request), channel))).toString(),
  ) as Record<string, Record<string, number[]>>;
  assert.equal(Object.keys(answer), [result]);
  const bytes = answer[result]?.[name];
  assert.ok(
    Array.isArray(bytes) && bytes.every((byte) => Number.isInteger(byte)),
    "a list of integers, as the Rust client reads it",
  );
  return Buffer.from(bytes);
}

/** Wraps for recipients: the annotation. */
export async function grpcWrap(
  address: string,
  values: readonly string[],
  channel?: ChannelCredentials,
): Promise<Buffer> {
  return await call(address, "WrapKey", wrapRequest(values), "keywrapresults", "annotation", channel);
}

/** Unwraps an annotation: the optsdata. */
export async function grpcUnwrap(address: string, annotation: Buffer, channel?: ChannelCredentials): Promise<string> {
  return (
    await call(address, "UnWrapKey", unwrapRequest(annotation), "keyunwrapresults", "optsdata", channel)
  ).toString();
}

/** Asserts that a call fails: its details, which are one line. */
export async function refused(made: Promise<unknown>, code: number): Promise<string> {
  const error = (await made.then(
    () => assert.unreachable("it was answered"),
    (reason: unknown) => reason,
  )) as ServiceError;
  assert.is(error.code, code, error.message);
  assert.match(error.details, /^[^\n]+$/);
  return error.details;
}
