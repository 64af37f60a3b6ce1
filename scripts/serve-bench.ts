// Measures a running server under load, compared with exec mode: throughput, latency, and whether its memory grows.

import { spawn } from "node:child_process";
import { openSync, closeSync, readFileSync } from "node:fs";
import { Client, credentials } from "@grpc/grpc-js";
import { encodeMessage, SERVICE } from "../src/serve/service.ts";
import { binary } from "./build.ts";
import { DISCARD, median, rows } from "./measure.ts";
import { startServer } from "../test/support/server.ts";

const CONNECTIONS = 64;
const TURNS = 10;
const TURN = 3_000; // ms that each of the two gets in a turn
const REQUESTS = 100_000;
const SAMPLES = 50;

/** The result of one turn: calls per second, and the ms of each. */
interface Turn {
  readonly rate: number;
  readonly latencies: readonly number[];
}

/** Calls of one kind, as many at once as there are workers, until `goesOn` says no. Latencies in ms. */
async function hammer(workers: readonly (() => Promise<void>)[], goesOn: () => boolean): Promise<number[]> {
  const latencies: number[] = [];
  await Promise.all(
    workers.map(async (call) => {
      while (goesOn()) {
        const start = performance.now();
        await call();
        latencies.push(performance.now() - start);
      }
    }),
  );
  return latencies;
}

/** Writes the rows of throughput and memory. @param unwrap the file of an unwrap request that `store` answers */
export async function load(store: string, unwrap: string): Promise<void> {
  const server = await startServer(store);
  const message = encodeMessage(readFileSync(unwrap, "utf8"));
  const { path, requestSerialize, responseDeserialize } = SERVICE.UnWrapKey;
  const clients = Array.from(
    { length: CONNECTIONS },
    () => new Client(server.address, credentials.createInsecure(), { "grpc.use_local_subchannel_pool": 1 }),
  );
  const overGrpc = clients.map((client) => async () => {
    await new Promise<void>((resolve, reject) =>
      client.makeUnaryRequest(path, requestSerialize, responseDeserialize, message, (error) =>
        error === null ? resolve() : reject(error),
      ),
    );
  });
  const byExec = Array.from({ length: CONNECTIONS }, () => async () => {
    const input = openSync(unwrap, "r");
    const child = spawn(binary, ["--keystore", store], { env: {}, stdio: [input, DISCARD, "ignore"] });
    closeSync(input);
    const code = await new Promise((resolve) => child.once("exit", resolve));
    if (code !== 0) throw new Error(`exec mode ended with ${String(code)}`);
  });
  const timed = async (workers: readonly (() => Promise<void>)[]): Promise<Turn> => {
    const start = performance.now();
    const latencies = await hammer(workers, () => performance.now() - start < TURN);
    return { rate: latencies.length / ((performance.now() - start) / 1000), latencies };
  };
  await hammer(overGrpc, countdown(2_000)); // warm, as it is on a node that pulls all day
  const turns: (readonly [Turn, Turn])[] = [];
  for (let turn = 0; turn < TURNS; turn++) turns.push([await timed(overGrpc), await timed(byExec)] as const);
  const shown = (which: 0 | 1): string => {
    const all = turns.flatMap((turn) => turn[which].latencies).toSorted((a, b) => a - b);
    const quantile = (part: number): string => (all[Math.floor(all.length * part)] ?? NaN).toFixed(0);
    return `${median(turns.map((turn) => turn[which].rate)).toFixed(0)}/s, p50 ${quantile(0.5)} ms, p99 ${quantile(0.99)} ms`;
  };
  rows.push([
    `unwraps by \`serve\`, ${CONNECTIONS} connections: ${shown(0)}`,
    `by exec mode, ${CONNECTIONS} at once: ${shown(1)}`,
    median(turns.map(([grpc, exec]) => grpc.rate / exec.rate)).toFixed(0),
    "",
  ]);

  const memory: number[] = [];
  for (let sample = 0; sample < SAMPLES; sample++) {
    await hammer(overGrpc, countdown(REQUESTS / SAMPLES));
    memory.push(residentBytes(server.child.pid ?? 0));
  }
  const slope = slopeOf(memory) / (REQUESTS / SAMPLES);
  const mebibytes = (bytes: number | undefined): string => ((bytes ?? NaN) / 1024 / 1024).toFixed(0);
  rows.push([
    `memory of \`serve\` over ${REQUESTS} more requests`,
    `${mebibytes(memory[0])} MiB at first, ${mebibytes(memory.at(-1))} MiB at last`,
    `${slope.toFixed(1)} bytes a request`,
    "no growth",
  ]);
  for (const client of clients) client.close();
  await server.stop();
}

function countdown(count: number): () => boolean {
  let left = count;
  return () => left-- > 0;
}

/** proc_pid_status(5), VmRSS. */
function residentBytes(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1]) * 1024;
}

/** Least squares over equidistant samples, in bytes a sample. */
function slopeOf(values: readonly number[]): number {
  const [middle, mean] = [(values.length - 1) / 2, values.reduce((sum, value) => sum + value, 0) / values.length];
  const covariance = values.reduce((sum, value, index) => sum + (index - middle) * (value - mean), 0);
  return covariance / values.reduce((sum, _, index) => sum + (index - middle) ** 2, 0);
}
