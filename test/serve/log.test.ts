// --audit: a record on the disk before each answer, and no answer without it.

import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, renameSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Client, credentials, status } from "@grpc/grpc-js";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { encodeMessage, SERVICE } from "../../src/serve/service.ts";
import { temporaryFolder } from "../support/folders.ts";
import { endurance, testWith } from "../support/parts.ts";
import { assertFailure, run } from "../support/program.ts";
import { OPTSDATA, recorded, wrapRequest } from "../support/requests.ts";
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
  return readFileSync(path, "utf8")
    .split("\n")
    .filter((line) => line.startsWith("{") && line.endsWith("}"))
    .map((line) => JSON.parse(line) as Record);
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
    found.map(({ time, ms, ...rest }) => ({
      ...rest,
      stamped: Math.abs(Date.parse(time) - Date.now()) < 60_000 && ms >= 0,
    })),
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
  await grpcWrap(
    server.address,
    Array.from({ length: 20 }, (_, index) => `k${index}`),
  );
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
  for (let left = count; left > 0; left -= crowd)
    await Promise.all(
      Array.from({ length: Math.min(crowd, left) }, async () => await grpcWrap(server.address, ["alice"])),
    );
  assert.is(records(audit).length, count);
  renameSync(audit, `${audit}.1`);
  await grpcWrap(server.address, ["alice"]);
  await server.stop();
  assert.is(records(audit).length, 1);
  assert.is(readFileSync(`${audit}.1`, "utf8").trimEnd().split("\n").length, count);
});

test("what cannot be an audit file is refused at start", () => {
  const dir = temporaryFolder();
  const start = (audit: string): string =>
    assertFailure(run(["serve", "--keystore", store, "--listen", `unix:${dir}/s`, "--audit", audit]), 1);
  assert.match(start(join(dir, "none/audit")), /cannot write the audit file .*: ENOENT/);
  assert.match(start(dir), /cannot write the audit file .*: EISDIR/);
  spawnSync("mkfifo", [join(dir, "fifo")]);
  for (const special of ["/dev/full", "/dev/null", join(dir, "fifo")])
    assert.match(start(special), /is not a regular file/);
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

testWith(
  smallDisk(),
  "root, to mount a small disk",
  "with the disk full nothing is answered, and with room again everything is",
  async (disk) => {
    const audit = join(disk, "audit");
    const server = await startServer(store, { args: ["--audit", audit] });
    const annotation = await grpcWrap(server.address, ["alice"]);
    writeFileSync(join(disk, "filler"), Buffer.alloc(52 * 1024));
    const opens = async (): Promise<boolean> =>
      await grpcUnwrap(server.address, annotation).then(
        () => true,
        () => false,
      );
    let answered = 1;
    while (await opens()) assert.ok(answered++ < 1000, "the disk never got full");
    for (let trial = 0; trial < 5; trial++) {
      const details = await refused(grpcUnwrap(server.address, annotation), status.INTERNAL);
      assert.match(details, /cannot write the audit file .*: ENOSPC; no request is answered without its record/);
      await refused(grpcWrap(server.address, ["bob"]), status.INTERNAL);
    }
    assert.ok(
      records(audit).filter(({ result }) => result === "ok").length >= answered,
      "an answer without its record",
    );
    rmSync(join(disk, "filler"));
    assert.is(await grpcUnwrap(server.address, annotation), OPTSDATA);
    assert.is(records(audit).at(-1)?.result, "ok");
    assert.match(server.log(), / io \d/);
    await server.stop();
  },
);

const strace = spawnSync("strace", ["-V"]).status === 0 ? true : undefined;
testWith(strace, "strace", "the record is on the disk before the answer leaves", async () => {
  const [audit, trace] = [join(temporaryFolder(), "audit"), join(temporaryFolder(), "trace")];
  const server = await startServer(store, {
    args: ["--audit", audit],
    prefix: ["strace", "-D", "-f", "-s", "2000", "-o", trace, "-e", "trace=write,writev,sendmsg,pwrite64,fsync"],
    env: { PATH: process.env["PATH"] },
  });
  await grpcWrap(server.address, ["alice"]);
  await server.stop();
  const calls = readFileSync(trace, "utf8");
  const [written, synced, answered] = [
    calls.indexOf('"{\\"time\\"'),
    calls.indexOf("fsync(", calls.indexOf('"{\\"time\\"')),
    calls.indexOf("keywrapresults"),
  ];
  assert.ok(
    written > 0 && synced > written && answered > synced,
    `write ${written}, fsync ${synced}, answer ${answered}`,
  );
});

test("the log has a line for each request, and nothing of what was in it", async () => {
  const dir = makeStore("alice");
  const server = await startServer(dir);
  const annotation = await grpcWrap(server.address, ["alice"]);
  await grpcUnwrap(server.address, annotation);
  await refused(callRaw(server.address, "WrapKey", encodeMessage(recorded("wrap-skopeo-two"))), status.NOT_FOUND);
  const secretive = JSON.stringify({
    op: "keywrap",
    keywrapparams: {
      ec: { Parameters: { keystore: ["c2VjcmV0LW5hbWU="], privkeys: ["UFJJVkFURQ=="] } },
      optsdata: "VE9QLVNFQ1JFVA==",
    },
  });
  await refused(callRaw(server.address, "WrapKey", encodeMessage(secretive)), status.NOT_FOUND);
  await server.stop();
  const alice = kidOf(dir, "alice");
  const [listening, ...lines] = server.log().trimEnd().split("\n");
  assert.match(listening ?? "", /^listening on unix:\/\/\//);
  assert.equal(
    lines.map((line) => line.replace(/\d+\.\d ms/, "N ms")),
    [
      `keywrap keystore ${alice} ok N ms`,
      `keyunwrap - ${alice} ok N ms`,
      `keywrap keystore ${alice} recipient N ms`,
      "keywrap keystore - recipient N ms",
    ],
  );
  assert.not.match(server.log(), /secret-name|c2VjcmV0|PRIVATE|UFJJVk|TOP-SECRET|VE9QL|symkey|ciphertext/);
});

test("no name that a client gives itself can look like another word or line of the log, or fill it", async () => {
  const server = await startServer(makeStore("alice"));
  for (const name of ["keystore KID ok 0.1 ms", "a\u009b2J\u202eb", "x".repeat(100_000)])
    await callRaw(server.address, "WrapKey", encodeMessage(wrapRequest(["alice"], name)));
  await server.stop();
  assert.equal(server.log().match(/(?<=^keywrap )\S+(?= \S{43} ok \d+\.\d ms$)/gm), [
    "keystore\\u0020KID\\u0020ok\\u00200.1\\u0020ms",
    "a\\u009b2J\\u202eb",
    `${"x".repeat(63)}…`,
  ]);
});

test("a log that nobody reads neither stalls the answers nor piles up", async () => {
  const dir = makeStore("alice");
  const server = await startServer(dir);
  server.child.stderr?.pause();
  const name = "x".repeat(64);
  const count = 5000;
  const client = new Client(server.address, credentials.createInsecure());
  const { path, requestSerialize, responseDeserialize } = SERVICE.WrapKey;
  const message = encodeMessage(wrapRequest(["nobody"], name));
  for (let left = count; left > 0; left -= 50) {
    await Promise.all(
      Array.from(
        { length: 50 },
        async () =>
          await new Promise<void>((done) =>
            client.makeUnaryRequest(path, requestSerialize, responseDeserialize, message, () => done()),
          ),
      ),
    );
  }
  client.close();
  server.child.stderr?.resume();
  for (let length = -1; length < server.log().length; await sleep(300)) length = server.log().length;
  await server.stop();
  const lines = server.log().match(new RegExp(`^keywrap ${name} - recipient \\d+\\.\\d ms$`, "gm"))?.length ?? 0;
  assert.ok(lines > 500 && lines < count - 100, `${lines} lines`);
  assert.is(server.log().trimEnd().split("\n").length, lines + 1, "a line that is torn");
});

test.run();
