// A server whose keys a command holds: a slow command keeps only its own requests waiting, and nothing that it answered is kept.

import { spawnSync } from "node:child_process";
import { closeSync, constants, existsSync, mkdirSync, openSync, rmSync, writeFileSync } from "node:fs";
import { once } from "node:events";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { status } from "@grpc/grpc-js";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { encodeMessage } from "../../src/serve/service.ts";
import { temporaryFolder } from "../support/folders.ts";
import { holds, linesOf, newRsa, openssl, script, writeHolder } from "../support/holders.ts";
import { testWith } from "../support/parts.ts";
import { assertFailure, run, succeed } from "../support/program.ts";
import { OPTSDATA, unwrapRequest } from "../support/requests.ts";
import { callRaw, grpcUnwrap, grpcWrap, refused, startServer } from "../support/server.ts";
import { commands, kidOf, makeStore } from "../support/stores.ts";

/** A store with a key of its own, `alice`, and one that openssl holds, `hsm`; what its command does can be watched and stopped. */
interface Held {
  readonly store: string;
  readonly command: string;
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
  const [log, gate, closed, failing] = ["log", "gate", "closed", "failing"].map((name) => join(dir, name)) as [
    string,
    string,
    string,
    string,
  ];
  spawnSync("mkfifo", [gate]);
  const command = script(
    `echo >> ${log}; [ -e ${failing} ] && { echo 'token: gone' >&2; exit 1; }; [ -e ${closed} ] && read _ < ${gate}; exec "$@"`,
  );
  succeed(
    [
      "import",
      "hsm",
      key.publicFile,
      "--keystore",
      store,
      "--holder",
      "rsa-oaep-256",
      "--",
      command,
      ...holds("rsa-oaep-256", key),
    ],
    { env: { PATH: process.env["PATH"] } },
  );
  rmSync(log);
  return {
    store,
    command,
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
  const server = await startServer(store, { env, args: ["--holder-jobs", "6"] });
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

testWith(
  openssl,
  "openssl",
  "each unwrap asks the command again; one that fails is told, and a key that is removed is asked no more",
  async () => {
    const { store, starts, fail } = held();
    const server = await startServer(store, { env });
    const hsm = await grpcWrap(server.address, ["hsm"]);
    for (let count = 1; count <= 3; count++) {
      assert.is(await grpcUnwrap(server.address, hsm), OPTSDATA);
      assert.is(starts(), count);
    }
    fail();
    assert.match(
      await refused(grpcUnwrap(server.address, hsm), status.FAILED_PRECONDITION),
      new RegExp(`the holder of key ${kidOf(store, "hsm")}, .*token: gone`),
    );
    const kid = kidOf(store, "hsm");
    succeed(["remove", "hsm", "--force", "--keystore", store]);
    await refused(grpcUnwrap(server.address, hsm), status.NOT_FOUND);
    assert.is(starts(), 4);
    await server.stop();
    assert.match(server.log(), new RegExp(`^keyunwrap - \\S*${kid}\\S* key \\d`, "m"));
  },
);

testWith(
  openssl,
  "openssl",
  "no command outlives the server: its client has gone, or a second signal came",
  async () => {
    for (const signals of [["SIGTERM"], ["SIGTERM", "SIGTERM"]] as const) {
      const { store, command, starts, close } = held();
      const server = await startServer(store, { env });
      server.child.ref();
      const ended = once(server.child, "exit");
      const hsm = await grpcWrap(server.address, ["hsm"]);
      close();
      const patience = signals.length === 1 ? 500 : 60_000;
      const answer = callRaw(server.address, "UnWrapKey", encodeMessage(unwrapRequest(hsm)), undefined, patience).catch(
        String,
      );
      await until(() => starts() === 1);
      if (signals.length === 1) await answer;
      for (const signal of signals) {
        server.child.kill(signal);
        await sleep(200);
      }
      await ended;
      await answer;
      assert.is(spawnSync("pgrep", ["-f", command]).status, 1, "nothing of it runs");
    }
  },
);

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

testWith(
  openssl,
  "openssl",
  "more requests at once than 256 are refused at once, and the others answered",
  async () => {
    const { store, starts, close, release } = held();
    const server = await startServer(store, { env, args: ["--holder-jobs", "8"] });
    const [mine, hsm] = [await grpcWrap(server.address, ["alice"]), await grpcWrap(server.address, ["hsm"])];
    close();
    const calls = Array.from(
      { length: 256 },
      async () =>
        await grpcUnwrap(server.address, hsm).catch(async (error: { details: string }) => {
          assert.match(error.details, "256 requests are under way"); // one of the questions below had its place
          return await grpcUnwrap(server.address, hsm);
        }),
    );
    const opens = async (): Promise<boolean> =>
      await grpcUnwrap(server.address, mine).then(
        () => true,
        () => false,
      );
    while (await opens()) await new Promise((resolve) => setTimeout(resolve, 20));
    assert.match(
      await refused(grpcUnwrap(server.address, hsm), status.RESOURCE_EXHAUSTED),
      /256 requests are under way; try again/,
    );
    assert.is(starts(), 8);
    release();
    for (const answer of await Promise.all(calls)) assert.is(answer, OPTSDATA);
    assert.is(await grpcUnwrap(server.address, hsm), OPTSDATA);
    await server.stop();
  },
);

/** A store with a key, hsm, that openssl holds, and the greatest number of its commands that ran at the same time so far. */
function counted(work: string, more: object = {}): { store: string; most: () => number } {
  const [store, dir, key] = [makeStore("alice"), temporaryFolder(), newRsa()];
  const [running, log] = [join(dir, "running"), join(dir, "log")];
  mkdirSync(running);
  const command = script(
    `: > ${running}/$$; ls ${running} | wc -l >> ${log}; ${work}; ${holds("rsa-oaep-256", key).join(" ")}; rm ${running}/$$`,
  );
  commands(store)("import", "hsm", key.publicFile);
  writeHolder(store, kidOf(store, "hsm"), { "rsa-oaep-256": [command] }, more);
  return { store, most: () => Math.max(...linesOf(log).map(Number)) };
}

for (const [what, args, limit, requests] of [
  ["--holder-jobs 3", ["--holder-jobs", "3"], 3, 64],
  ["no --holder-jobs", [], 4, 16],
] as const) {
  testWith(
    openssl,
    "openssl",
    `${requests} requests at the same time with ${what}: never more than ${limit} commands run, and all are answered`,
    async () => {
      const { store, most } = counted(":");
      const server = await startServer(store, { env, args });
      const hsm = await grpcWrap(server.address, ["hsm"]);
      for (const answer of await Promise.all(
        Array.from({ length: requests }, async () => await grpcUnwrap(server.address, hsm)),
      ))
        assert.is(answer, OPTSDATA);
      assert.ok(most() > 1 && most() <= limit, `${most()} at the same time`);
      assert.is(await server.stop(), 0);
    },
  );
}

testWith(openssl, "openssl", "a command's time limit counts from its own start", async () => {
  const { store, most } = counted("sleep 0.3", { timeout_ms: 2000 });
  const server = await startServer(store, { env, args: ["--holder-jobs", "1"] });
  const hsm = await grpcWrap(server.address, ["hsm"]);
  for (const answer of await Promise.all(Array.from({ length: 8 }, async () => await grpcUnwrap(server.address, hsm))))
    assert.is(answer, OPTSDATA);
  assert.is(most(), 1);
  assert.is(await server.stop(), 0);
});

testWith(
  openssl,
  "openssl",
  "no command is started for a client that gave up while it waited for its turn",
  async () => {
    const { store, starts, close, release } = held();
    const server = await startServer(store, { env, args: ["--holder-jobs", "1"] });
    const hsm = await grpcWrap(server.address, ["hsm"]);
    close();
    const first = grpcUnwrap(server.address, hsm);
    await until(() => starts() === 1);
    await refused(
      callRaw(server.address, "UnWrapKey", encodeMessage(unwrapRequest(hsm)), undefined, 200),
      status.DEADLINE_EXCEEDED,
    );
    await until(() => /^keyunwrap .* late \d/m.test(server.log()));
    release();
    assert.is(await first, OPTSDATA);
    assert.is(await grpcUnwrap(server.address, hsm), OPTSDATA);
    assert.is(starts(), 2);
    await server.stop();
  },
);

test("--holder-jobs is a number of commands", () => {
  for (const jobs of ["0", "-1", "1.5", "257", "many", ""]) {
    assertFailure(
      run([
        "serve",
        "--keystore",
        makeStore("alice"),
        "--listen",
        `unix:${temporaryFolder()}/s`,
        `--holder-jobs=${jobs}`,
      ]),
      2,
    );
  }
});

test.run();
