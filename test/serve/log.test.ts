// --audit: a record on the disk before each answer, and no answer without it.

import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, renameSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { status } from "@grpc/grpc-js";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { encodeMessage } from "../../src/serve/service.ts";
import { temporaryFolder } from "../support/folders.ts";
import { endurance, testWith } from "../support/parts.ts";
import { assertFailure, run } from "../support/program.ts";
import { OPTSDATA, wrapRequest } from "../support/requests.ts";
import { callRaw, grpcUnwrap, grpcWrap, refused, startServer } from "../support/server.ts";
import { kidOf, makeStore } from "../support/stores.ts";

const store = makeStore("alice");
const kid = kidOf(store, "alice");

interface Record {
  readonly time: string;
  readonly op: string;
  readonly provider?: string;
  readonly kids: readonly string[];
  readonly result: string;
  readonly ms: number;
}

function records(path: string): Record[] {
  return readFileSync(path, "utf8").split("\n").filter((line) => line.startsWith("{") && line.endsWith("}")).map((line) => JSON.parse(line) as Record);
}

test("each request is a JSON line: operation, provider, key, result, time, and nothing of its content", async () => {
  const audit = join(temporaryFolder(), "audit");
  const server = await startServer(store, { args: ["--audit", audit] });
  assert.is(statSync(audit).mode & 0o777, 0o600);
  const annotation = await grpcWrap(server.address, ["alice"]);
  await grpcUnwrap(server.address, annotation);
  await refused(grpcWrap(server.address, ["bob"]), status.NOT_FOUND);
  await refused(callRaw(server.address, "UnWrapKey", Buffer.from([0xff])), status.INVALID_ARGUMENT);
  await server.stop();
  const found = records(audit);
  assert.equal(
    found.map(({ time, ms, ...rest }) => ({ ...rest, stamped: Math.abs(Date.parse(time) - Date.now()) < 60_000 && ms >= 0 })),
    [
      { op: "keywrap", provider: "keystore", kids: [kid], result: "ok", stamped: true },
      { op: "keyunwrap", kids: [kid], result: "ok", stamped: true },
      { op: "keywrap", provider: "keystore", kids: [], result: "recipient", stamped: true },
      { op: "keyunwrap", kids: [], result: "request", stamped: true },
    ],
  );
});

test("a record names every recipient, and nothing in it is longer than it must be", async () => {
  const many = makeStore(...Array.from({ length: 20 }, (_, index) => `k${index}`));
  const audit = join(temporaryFolder(), "audit");
  const server = await startServer(many, { args: ["--audit", audit] });
  await grpcWrap(server.address, Array.from({ length: 20 }, (_, index) => `k${index}`));
  await callRaw(server.address, "WrapKey", encodeMessage(wrapRequest(["k0"], `\u009b2J${"x".repeat(1_000_000)}`)));
  await server.stop();
  const [wrapped, long] = records(audit);
  assert.equal(wrapped?.kids.toSorted(), Array.from({ length: 20 }, (_, index) => kidOf(many, `k${index}`)).toSorted());
  assert.is(long?.provider, `\\u009b2J${"x".repeat(55)}…`);
});

test("every answer of a crowd has its record, and a file moved away is begun anew", async () => {
  const audit = join(temporaryFolder(), "audit");
  const server = await startServer(store, { args: ["--audit", audit] });
  const count = endurance(2000);
  const crowd = Math.min(count, 200); // more at once are refused, or do not get to the socket
  for (let left = count; left > 0; left -= crowd) await Promise.all(Array.from({ length: Math.min(crowd, left) }, async () => await grpcWrap(server.address, ["alice"])));
  assert.is(records(audit).length, count);
  renameSync(audit, `${audit}.1`);
  await grpcWrap(server.address, ["alice"]);
  await server.stop();
  assert.is(records(audit).length, 1);
  assert.is(readFileSync(`${audit}.1`, "utf8").trimEnd().split("\n").length, count);
});

test("what cannot be an audit file is refused at start", () => {
  const dir = temporaryFolder();
  const start = (audit: string): string => assertFailure(run(["serve", "--keystore", store, "--listen", `unix:${dir}/s`, "--audit", audit]), 1);
  assert.match(start(join(dir, "none/audit")), /cannot write the audit file .*: ENOENT/);
  assert.match(start(dir), /cannot write the audit file .*: EISDIR/);
  spawnSync("mkfifo", [join(dir, "fifo")]);
  for (const special of ["/dev/full", "/dev/null", join(dir, "fifo")]) assert.match(start(special), /is not a regular file/);
});

test("a line that a crash tore does not tear the next one", async () => {
  const audit = join(temporaryFolder(), "audit");
  const first = await startServer(store, { args: ["--audit", audit] });
  await grpcWrap(first.address, ["alice"]);
  await first.stop("SIGKILL");
  truncateSync(audit, statSync(audit).size - 20);
  const second = await startServer(store, { args: ["--audit", audit] });
  await grpcWrap(second.address, ["alice"]);
  await grpcWrap(second.address, ["alice"]);
  await second.stop();
  assert.is(records(audit).length, 2);
});

/** A file system of 64 KiB, where this user may mount one. */
function smallDisk(): string | undefined {
  const dir = mkdtempSync(join(tmpdir(), "ocicrypt-keystore-disk-"));
  if (spawnSync("mount", ["-t", "tmpfs", "-o", "size=64k", "none", dir]).status !== 0) {
    rmSync(dir, { recursive: true });
    return undefined;
  }
  process.on("exit", () => {
    spawnSync("umount", ["-l", dir]);
    rmSync(dir, { recursive: true, force: true });
  });
  return dir;
}

testWith(smallDisk(), "the right to mount a small disk", "with the disk full nothing is answered, and with room again everything is", async (disk) => {
  const audit = join(disk, "audit");
  const server = await startServer(store, { args: ["--audit", audit] });
  const annotation = await grpcWrap(server.address, ["alice"]);
  writeFileSync(join(disk, "filler"), Buffer.alloc(52 * 1024));
  const opens = async (): Promise<boolean> => await grpcUnwrap(server.address, annotation).then(() => true, () => false);
  let answered = 1;
  while (await opens()) assert.ok(answered++ < 1000, "the disk never got full");
  for (let trial = 0; trial < 5; trial++) {
    const details = await refused(grpcUnwrap(server.address, annotation), status.INTERNAL);
    assert.match(details, /cannot write the audit file .*: ENOSPC; nothing is answered without it/);
    await refused(grpcWrap(server.address, ["bob"]), status.INTERNAL);
  }
  assert.ok(records(audit).filter(({ result }) => result === "ok").length >= answered, "an answer without its record");
  rmSync(join(disk, "filler"));
  assert.is(await grpcUnwrap(server.address, annotation), OPTSDATA);
  assert.is(records(audit).at(-1)?.result, "ok");
  assert.match(server.log(), / io \d/);
  await server.stop();
});

const strace = spawnSync("strace", ["-V"]).status === 0 ? true : undefined;
testWith(strace, "strace", "the record is on the disk before the answer leaves", async () => {
  const [audit, trace] = [join(temporaryFolder(), "audit"), join(temporaryFolder(), "trace")];
  const server = await startServer(store, { args: ["--audit", audit], prefix: ["strace", "-D", "-f", "-s", "2000", "-o", trace, "-e", "trace=write,writev,sendmsg,pwrite64,fsync"], env: { PATH: process.env["PATH"] } });
  await grpcWrap(server.address, ["alice"]);
  await server.stop();
  const calls = readFileSync(trace, "utf8");
  const [recorded, synced, answered] = [calls.indexOf('"{\\"time\\"'), calls.indexOf("fsync(", calls.indexOf('"{\\"time\\"')), calls.indexOf("keywrapresults")];
  assert.ok(recorded > 0 && synced > recorded && answered > synced, `write ${recorded}, fsync ${synced}, answer ${answered}`);
});

test.run();
