// A server whose keys a command holds: a slow command keeps only its own requests waiting, and nothing that it answered is kept.

import { spawnSync } from "node:child_process";
import { closeSync, constants, existsSync, openSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { status } from "@grpc/grpc-js";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { holds, linesOf, newRsa, openssl, script } from "../holders.ts";
import { kidOf, makeStore, OPTSDATA, succeed, temporaryFolder, testWith } from "../support.ts";
import { grpcUnwrap, grpcWrap, refused, startServer } from "./support.ts";

/** A store with a key of its own, `alice`, and one that openssl holds, `hsm`; what its command does can be watched and stopped. */
interface Held {
  readonly store: string;
  /** Starts of the command so far. */
  readonly starts: () => number;
  /** From now on the command waits. */
  readonly close: () => void;
  /** Lets those go that wait, and the ones to come. */
  readonly release: () => void;
  /** From now on the command fails. */
  readonly fail: () => void;
}

function held(): Held {
  const [store, dir, key] = [makeStore("alice"), temporaryFolder(), newRsa()];
  const [log, gate, closed, failing] = ["log", "gate", "closed", "failing"].map((name) => join(dir, name)) as [string, string, string, string];
  spawnSync("mkfifo", [gate]);
  const command = script(`echo >> ${log}; [ -e ${failing} ] && { echo 'token: gone' >&2; exit 1; }; [ -e ${closed} ] && read _ < ${gate}; exec "$@"`);
  succeed(["import", "hsm", key.publicFile, "--keystore", store, "--holder", "rsa-oaep-256", "--", command, ...holds("rsa-oaep-256", key)], { env: { PATH: process.env["PATH"] } });
  rmSync(log);
  return {
    store,
    starts: () => linesOf(log).length,
    close: () => writeFileSync(closed, ""),
    release: () => {
      rmSync(closed, { force: true });
      try {
        closeSync(openSync(gate, constants.O_WRONLY | constants.O_NONBLOCK));
      } catch {
        // nobody waits
      }
    },
    fail: () => writeFileSync(failing, ""),
  };
}

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise((resolve) => setTimeout(resolve, 20));
}

const env = { PATH: process.env["PATH"] };

testWith(openssl, "openssl", "requests of others are answered while a command takes its time", async () => {
  const { store, starts, close, release } = held();
  const server = await startServer(store, { env });
  const [mine, hsm] = [await grpcWrap(server.address, ["alice"]), await grpcWrap(server.address, ["hsm"])];
  close();
  let answered = 0;
  const slow = Array.from({ length: 6 }, async () => {
    assert.is(await grpcUnwrap(server.address, hsm), OPTSDATA);
    answered++;
  });
  await until(() => starts() === 6);
  for (let count = 0; count < 10; count++) assert.is(await grpcUnwrap(server.address, mine), OPTSDATA);
  assert.is(answered, 0);
  release();
  await Promise.all(slow);
  assert.is(await server.stop(), 0);
});

testWith(openssl, "openssl", "each unwrap asks the command again; one that fails is told, and a key that is removed is asked no more", async () => {
  const { store, starts, fail } = held();
  const server = await startServer(store, { env });
  const hsm = await grpcWrap(server.address, ["hsm"]);
  for (let count = 1; count <= 3; count++) {
    assert.is(await grpcUnwrap(server.address, hsm), OPTSDATA);
    assert.is(starts(), count);
  }
  fail();
  assert.match(await refused(grpcUnwrap(server.address, hsm), status.FAILED_PRECONDITION), new RegExp(`the holder of key ${kidOf(store, "hsm")}, .*token: gone`));
  const kid = kidOf(store, "hsm");
  succeed(["remove", "hsm", "--force", "--keystore", store]);
  await refused(grpcUnwrap(server.address, hsm), status.NOT_FOUND);
  assert.is(starts(), 4);
  await server.stop();
  assert.match(server.log(), new RegExp(`^keyunwrap - \\S*${kid}\\S* key \\d`, "m"));
});

testWith(openssl, "openssl", "SIGTERM waits for a command that is under way", async () => {
  const { store, starts, close, release } = held();
  const server = await startServer(store, { env });
  const hsm = await grpcWrap(server.address, ["hsm"]);
  close();
  const slow = grpcUnwrap(server.address, hsm);
  await until(() => starts() === 1);
  const ended = server.stop();
  await until(() => !existsSync(server.address.replace("unix://", ""))); // it listens no more
  release();
  assert.is(await slow, OPTSDATA);
  assert.is(await ended, 0);
});

testWith(openssl, "openssl", "more requests at once than 256 are refused at once, and the others answered", async () => {
  const { store, starts, close, release } = held();
  const server = await startServer(store, { env });
  const hsm = await grpcWrap(server.address, ["hsm"]);
  close();
  const calls = Array.from({ length: 256 }, async () => await grpcUnwrap(server.address, hsm));
  await until(() => starts() === 256);
  assert.match(await refused(grpcUnwrap(server.address, hsm), status.RESOURCE_EXHAUSTED), /256 requests are under way; try again/);
  release();
  for (const answer of await Promise.all(calls)) assert.is(answer, OPTSDATA);
  assert.is(await grpcUnwrap(server.address, hsm), OPTSDATA);
  await server.stop();
});

test.run();
