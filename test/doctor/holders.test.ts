// doctor and the commands that hold keys: each is asked, and none is asked twice in vain.

import { chmodSync, cpSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { patienceWith } from "../../src/doctor/round-trip.ts";
import { openStore } from "../../src/keystore/store.ts";
import { assertCheck, examine, examineHere, problems } from "../support/checks.ts";
import { temporaryFolder } from "../support/folders.ts";
import { held, heldStore, holds, linesOf, newEc, newRsa, script, writeHolder } from "../support/holders.ts";
import { assertFailure, run } from "../support/program.ts";
import { exec, OPTSDATA, unwrap, wrap } from "../support/requests.ts";
import { commands, kidOf, noSecrets } from "../support/stores.ts";

const RSA = newRsa();
const EC = newEc();
const OTHER = newRsa();
const HELD = heldStore("rsa-oaep-256", RSA);
/** A store of its own with the key that a command holds. */
const heldCopy = (): string => {
  const dir = newStore();
  cpSync(HELD, dir, { recursive: true });
  chmodSync(join(dir, "private"), 0o700);
  return dir;
};
const newStore = (): string => join(temporaryFolder(), "store");
const holderOf = (dir: string, name = "hsm"): string => join(dir, "private", `${kidOf(dir, name)}.holder`);

test("doctor asks every holder, and does its round trip with one where that is the default key", () => {
  const dir = heldStore("rsa-oaep", RSA);
  const cli = commands(dir);
  cli("import", "ec", ...held("ecdh", EC).slice(2));
  const checks = examine(dir);
  assert.equal(problems(checks), []);
  assertCheck(checks, "store.holders", "ok", /2 keys are held by commands, 2 operations of which were tried/);
  assertCheck(checks, "round-trip", "ok", /wrapped for hsm and unwrapped/);
});

test("doctor gives a holder the environment and the time that it needs", async () => {
  const dir = newStore();
  const program = script(`test "$TOKEN" = here && exec ${holds("rsa-oaep-256", RSA).join(" ")}`);
  const { code, stderr } = run(
    ["import", "hsm", RSA.publicFile, "--holder", "rsa-oaep-256", "--keystore", dir, "--", program],
    { env: { TOKEN: "here" } },
  );
  assert.is(code, 0, stderr);
  assert.equal(problems(await examineHere(dir, [], { TOKEN: "here" })), []);
  assert.equal(problems(await examineHere(dir)), ["fail store.holders"]);
});

test("doctor IMAGE waits as long as the slowest holder may take", () => {
  const dir = heldCopy();
  const patience = (): number => patienceWith(openStore(dir, noSecrets));
  assert.is(patience(), 45_000);
  writeHolder(dir, kidOf(dir, "hsm"), { "rsa-oaep-256": ["/x"] }, { timeout_ms: 600_000 });
  assert.is(patience(), 615_000);
  writeFileSync(holderOf(dir), "{}");
  assert.is(patience(), 15_000);
});

test("doctor asks a holder that has failed for nothing more: its token may count wrong PINs", async () => {
  const dir = heldCopy();
  const log = join(temporaryFolder(), "log");
  const program = script(`echo asked >> ${log}; exit 1`);
  writeHolder(dir, kidOf(dir, "hsm"), { "rsa-oaep-256": [program], "rsa-oaep": [program] });
  assert.equal(problems(await examineHere(dir)), ["fail store.holders"]);
  assert.is(linesOf(log).length, 1);
});

for (const [what, damage, expected, line] of [
  [
    "a command that is not there",
    (dir: string) => writeHolder(dir, kidOf(dir, "hsm"), { "rsa-oaep-256": ["/nowhere/holder"] }),
    ["fail store.holders"],
    /\/nowhere\/holder, does not exist; install it/,
  ],
  [
    "a command that holds another key",
    (dir: string) => writeHolder(dir, kidOf(dir, "hsm"), { "rsa-oaep-256": holds("rsa-oaep-256", OTHER) }),
    ["fail store.holders"],
    /failed \(exit code 1\)/,
  ],
  [
    "a second operation that fails",
    (dir: string) =>
      writeHolder(dir, kidOf(dir, "hsm"), { "rsa-oaep-256": holds("rsa-oaep-256", RSA), "rsa-oaep": ["/bin/false"] }),
    ["fail store.holders"],
    /\/bin\/false, failed \(exit code 1\)/,
  ],
  [
    "a damaged holder file",
    (dir: string) => writeFileSync(holderOf(dir), "{}"),
    ["fail store.holders"],
    /is damaged: it has another kid than its file name says; fix it/,
  ],
  [
    "the private key beside its holder",
    (dir: string) =>
      writeFileSync(
        holderOf(dir).replace(/holder$/, "jwk"),
        commands(newStoreWith(RSA.privateFile))("export", "hsm", "--private"),
        { mode: 0o600 },
      ),
    ["warn store.holders"],
    /is never asked: the key itself is .*\.jwk; move one of the two/,
  ],
] as const) {
  test(`doctor finds ${what}`, async () => {
    const dir = heldCopy();
    damage(dir);
    const checks = await examineHere(dir);
    assert.equal(problems(checks), expected);
    assertCheck(checks, "store.holders", expected[0].startsWith("warn") ? "warn" : "fail", line);
    const [status, said] = expected[0].startsWith("warn")
      ? (["ok", /wrapped for hsm/] as const)
      : (["skip", /only commands hold the current keys of \S+, and not all of them work: see store\.holders/] as const);
    assertCheck(checks, "round-trip", status, said);
  });
}

function newStoreWith(file: string): string {
  const dir = newStore();
  commands(dir)("import", "hsm", file);
  return dir;
}

test("doctor --fix closes a holder file that others can read", async () => {
  const dir = heldCopy();
  const annotation = wrap(dir, ["hsm"]);
  chmodSync(holderOf(dir), 0o644);
  assertFailure(exec(dir, annotation), 3);
  assert.equal(problems(await examineHere(dir)), ["fail store.modes", "fail store.holders"]);
  assert.is(run(["doctor", "--fix", "--keystore", dir], { env: { PATH: "" } }).code, 0);
  assert.is(statSync(holderOf(dir)).mode & 0o7777, 0o600);
  assert.is(unwrap(dir, annotation), OPTSDATA);
});

test.run();
