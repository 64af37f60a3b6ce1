// What never answers does not keep a place in the server for ever: a command, a Tang server, a disk. The server of these tests has limits of its own.

import { join } from "node:path";
import { Server, ServerCredentials, status, type sendUnaryData, type ServerUnaryCall } from "@grpc/grpc-js";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { openStore } from "../../src/keystore/store.ts";
import type { KeyStore } from "../../src/keystore/keystore.ts";
import { Handler } from "../../src/serve/handler.ts";
import { TIME_LIMITS, type TimeLimits } from "../../src/serve/limits.ts";
import { AuditFile } from "../../src/serve/log.ts";
import { unlockedStore } from "../../src/serve/store.ts";
import { SERVICE } from "../../src/serve/service.ts";
import { temporaryFolder } from "../support/folders.ts";
import { holds, newRsa, openssl, script, writeHolder } from "../support/holders.ts";
import { testWith } from "../support/parts.ts";
import { runBeside } from "../support/program.ts";
import { OPTSDATA, wrap } from "../support/requests.ts";
import { grpcUnwrap, grpcWrap, refused } from "../support/server.ts";
import { commands, noSecrets, kidOf, makeStore } from "../support/stores.ts";
import { LyingTang, serverOf } from "../support/tang.ts";

const RSA = newRsa();
const servers = new Set<Server>();

interface Setup {
  readonly limits?: Partial<TimeLimits>;
  readonly holderJobs?: number;
  readonly audit?: AuditFile;
}

/** The address of a server in this process. */
async function serverFor(store: KeyStore, { limits = {}, holderJobs = 2, audit }: Setup): Promise<string> {
  const handler = new Handler(store, { allow: ["keywrap", "keyunwrap"], provider: undefined, holderJobs }, audit, {
    ...TIME_LIMITS,
    ...limits,
  });
  const server = new Server();
  servers.add(server);
  const answer =
    (op: "keywrap" | "keyunwrap") =>
    (call: ServerUnaryCall<Buffer, Buffer>, done: sendUnaryData<Buffer>): void =>
      void handler.handle(op, call, done);
  server.addService(SERVICE, { WrapKey: answer("keywrap"), UnWrapKey: answer("keyunwrap") });
  const address = `unix://${join(temporaryFolder(), "socket")}`;
  await new Promise<void>((resolve, reject) =>
    server.bindAsync(address.replace("//", ""), ServerCredentials.createInsecure(), (error) =>
      error === null ? resolve() : reject(error),
    ),
  );
  return address;
}

/** A store with a key of its own, `alice`, and one held by a command that does `before` first, `hsm`. */
function heldStore(before: string): { dir: string; alice: Buffer; hsm: Buffer } {
  const dir = makeStore("alice");
  commands(dir)("import", "hsm", RSA.publicFile);
  writeHolder(dir, kidOf(dir, "hsm"), {
    "rsa-oaep-256": [script(`${before}; exec ${holds("rsa-oaep-256", RSA).join(" ")}`)],
  });
  return { dir, alice: wrap(dir, ["alice"]), hsm: wrap(dir, ["hsm"]) };
}

testWith(
  openssl,
  "openssl",
  "256 requests for a key whose command hangs give their places back at their time limit",
  async () => {
    const { dir, alice, hsm } = heldStore("sleep 8");
    const address = await serverFor(openStore(dir, noSecrets), { limits: { work: 2000, turn: 2000 } });
    const hanging = Array.from(
      { length: 256 },
      async () => await grpcUnwrap(address, hsm).catch((error: { code: number; details: string }) => error),
    );
    const ends = await Promise.all(hanging);
    assert.ok(ends.every((end) => typeof end !== "string"));
    const details = (code: number): Set<string> =>
      new Set(ends.flatMap((end) => (typeof end !== "string" && end.code === code ? end.details : [])));
    assert.equal(
      [...details(status.DEADLINE_EXCEEDED)],
      [
        "ocicrypt-keystore: the request took longer than 2 s; try again; if it happens again, look for what hangs: a Tang server, a holder's command or a disk",
      ],
    );
    assert.equal(
      [...details(status.RESOURCE_EXHAUSTED)],
      [
        "ocicrypt-keystore: the holder's command did not get its turn within 2 s; try again, or start the server with more --holder-jobs",
      ],
    );
    assert.is(await grpcUnwrap(address, alice), OPTSDATA);
  },
);

testWith(
  openssl,
  "openssl",
  "the time that a request waits for its turn is not taken from its time limit",
  async () => {
    const { dir, hsm } = heldStore("sleep 0.3");
    const address = await serverFor(openStore(dir, noSecrets), { holderJobs: 1, limits: { work: 2000 } });
    const started = performance.now();
    for (const opened of await Promise.all(Array.from({ length: 8 }, async () => await grpcUnwrap(address, hsm))))
      assert.is(opened, OPTSDATA);
    assert.ok(performance.now() - started > 2000);
  },
);

const silences: Readonly<Record<string, (tang: LyingTang) => void>> = {
  "answers nothing": (tang) => (tang.rec = () => undefined),
  "switches protocols": (tang) =>
    (tang.rec = (_request, response) =>
      void response.socket?.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tang\r\n\r\n")),
};
for (const [what, silence] of Object.entries(silences)) {
  test(`a key that stays locked because its Tang server ${what} keeps nobody else waiting, and opens once the server answers`, async () => {
    const tang = await LyingTang.started();
    const dir = makeStore("alice");
    const must = async (...args: readonly string[]): Promise<void> => {
      const { code, stderr } = await runBeside([...args, "--keystore", dir]);
      assert.is(code, 0, stderr);
    };
    await must("lock", ...serverOf(tang));
    const address = await serverFor(await unlockedStore(openStore(dir, noSecrets), () => undefined, 500), {});
    const early = wrap(dir, ["alice"]);
    await must("rotate", "alice");
    const late = await grpcWrap(address, ["alice"]);
    silence(tang);
    const closed = Array.from(
      { length: 20 },
      async () => await refused(grpcUnwrap(address, late), status.FAILED_PRECONDITION),
    );
    assert.is(await grpcUnwrap(address, early), OPTSDATA);
    for (const details of await Promise.all(closed))
      assert.match(details, new RegExp(`${kidOf(dir, "alice")}\\.jwe.*; `));
    tang.rec = undefined;
    assert.is(await grpcUnwrap(address, late), OPTSDATA);
    tang.server.closeAllConnections();
  });
}

test("an audit file on a disk that hangs: nothing is answered, and every request ends", async () => {
  class Hanging extends AuditFile {
    override async append(): Promise<void> {
      await new Promise(() => undefined);
    }
  }
  const dir = makeStore("alice");
  const address = await serverFor(openStore(dir, noSecrets), {
    audit: new Hanging("/nowhere"),
    limits: { record: 300 },
  });
  for (const end of await Promise.all(
    Array.from({ length: 64 }, async () => await refused(grpcWrap(address, ["alice"]), status.INTERNAL)),
  )) {
    assert.match(end, /the audit file could not be written within 0\.3 s; no request is answered without its record/);
  }
});

test.after(() => {
  for (const server of servers) server.forceShutdown();
});

test.run();
