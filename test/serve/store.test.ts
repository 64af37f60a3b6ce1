// The store as a server reads it: a change counts at once, and what was unlocked stays so.

import { readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { status } from "@grpc/grpc-js";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { temporaryFolder } from "../support/folders.ts";
import { assertFailure, run, succeed } from "../support/program.ts";
import { OPTSDATA, wrap, wrapRequest } from "../support/requests.ts";
import { grpcUnwrap, grpcWrap, refused, startServer } from "../support/server.ts";
import { kidOf, makeStore } from "../support/stores.ts";

test("a change of the store counts at once: rotate, remove, restore, a new default", async () => {
  const store = makeStore("alice", "bob");
  const server = await startServer(store);
  const old = await grpcWrap(server.address, ["alice"]);
  succeed(["rotate", "alice", "--keystore", store]);
  assert.match((await grpcWrap(server.address, ["alice"])).toString(), new RegExp(kidOf(store, "alice")));
  assert.is(await grpcUnwrap(server.address, old), OPTSDATA);
  const bob = await grpcWrap(server.address, ["bob"]);
  succeed(["remove", "bob", "--force", "--keystore", store]);
  assert.match(await refused(grpcUnwrap(server.address, bob), status.NOT_FOUND), /no private key of the store opens/);
  await refused(grpcWrap(server.address, ["bob"]), status.NOT_FOUND);
  renameSync(store, `${store}-away`);
  assert.match(await refused(grpcWrap(server.address, ["alice"]), status.FAILED_PRECONDITION), /no key store at/);
  await refused(grpcUnwrap(server.address, old), status.FAILED_PRECONDITION);
  renameSync(`${store}-away`, store);
  assert.is(await grpcUnwrap(server.address, old), OPTSDATA);
  await server.stop();
});

test("locked keys are unlocked at start and stay so without the secret's file; a removed one stops opening", async () => {
  for (const kind of ["passphrase", "master-key"]) {
    const store = makeStore("alice", "bob");
    const [alice, bob] = [wrap(store, ["alice"]), wrap(store, ["bob"])];
    const secret = join(temporaryFolder(), "secret");
    writeFileSync(secret, "x".repeat(32), { mode: 0o600 });
    succeed(["lock", `--${kind}-file`, secret, "--keystore", store]);
    const server = await startServer(store, { args: [`--${kind}-file`, secret] });
    rmSync(secret);
    assert.is(await grpcUnwrap(server.address, alice), OPTSDATA);
    writeFileSync(secret, "x".repeat(32), { mode: 0o600 });
    succeed(["rotate", "alice", `--${kind}-file`, secret, "--keystore", store]);
    rmSync(secret);
    assert.is(
      await grpcUnwrap(server.address, await grpcWrap(server.address, ["alice"])),
      OPTSDATA,
      "a key locked later",
    );
    assert.is(await grpcUnwrap(server.address, bob), OPTSDATA);
    succeed(["remove", "bob", "--force", "--keystore", store]);
    await refused(grpcUnwrap(server.address, bob), status.NOT_FOUND);
    const removed = join(store, "removed");
    for (const file of readdirSync(removed)) renameSync(join(removed, file), join(store, "private", file));
    assert.is(await grpcUnwrap(server.address, bob), OPTSDATA);
    assert.is(await server.stop(), 0);
  }
});

test("a locked key is unlocked once, a symmetric one that wraps too, however many ask for it at the same time", async () => {
  const store = makeStore("sym:--type oct");
  const secret = join(temporaryFolder(), "secret");
  const pass = ["--passphrase-file", secret];
  writeFileSync(secret, "x".repeat(32), { mode: 0o600 });
  succeed(["lock", ...pass, "--keystore", store]);
  const server = await startServer(store, { args: pass });
  const took = async (work: () => unknown): Promise<number> => {
    const started = performance.now();
    await work();
    return performance.now() - started;
  };
  const once = await took(() => succeed([...pass, "--keystore", store], { input: wrapRequest(["sym"]) }));
  const wraps = await took(async () => {
    for (let count = 0; count < 8; count++) await grpcWrap(server.address, ["sym"]);
  });
  assert.ok(wraps < 3 * once, `8 wraps took ${wraps} ms, one unlocking ${once} ms`);
  succeed(["rotate", "sym", ...pass, "--keystore", store]);
  const crowd = await took(
    async () => await Promise.all(Array.from({ length: 16 }, async () => await grpcWrap(server.address, ["sym"]))),
  );
  assert.ok(crowd < 3 * once, `16 at the same time took ${crowd} ms, one unlocking ${once} ms`);
  await server.stop();
});

test("it does not start where no locked key opens, and says which does not where another does", async () => {
  const store = makeStore("alice", "bob");
  const secret = join(temporaryFolder(), "secret");
  writeFileSync(secret, "right\n", { mode: 0o600 });
  succeed(["lock", "--passphrase-file", secret, "--keystore", store]);
  const listen = ["serve", "--keystore", store, "--listen", `unix:${join(temporaryFolder(), "s")}`];
  writeFileSync(secret, "wrong\n");
  assert.match(assertFailure(run([...listen, "--passphrase-file", secret]), 3), /does not open: wrong passphrase/);
  writeFileSync(secret, "right\n");
  writeFileSync(join(store, "private", `${kidOf(store, "bob")}.jwe`), "{}", { mode: 0o600 });
  const annotation = wrap(makeStore("x"), ["x"]);
  const server = await startServer(store, { args: ["--passphrase-file", secret] });
  assert.match(server.log(), new RegExp(`^ocicrypt-keystore: locked key .*${kidOf(store, "bob")}\\.jwe`, "m"));
  await refused(grpcUnwrap(server.address, annotation), status.FAILED_PRECONDITION);
  assert.is(await grpcUnwrap(server.address, await grpcWrap(server.address, ["alice"])), OPTSDATA);
  await server.stop();
});

test.run();
