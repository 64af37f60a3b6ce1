// One check of doctor: what it returns, reports or throws becomes findings.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { storeError } from "../../src/errors.ts";
import { attempt, runCheck, skip, type Check, type Finding } from "../../src/doctor/check.ts";
import { count } from "../../src/errors.ts";
import { newContext } from "../../src/doctor/context.ts";
import { openStore } from "../../src/keystore/store.ts";
import { temporaryFolder } from "../support/folders.ts";
import { noSecrets } from "../support/stores.ts";

const context = { ...newContext(openStore(temporaryFolder(), noSecrets), {}), failed: () => false };
const findings = async (run: Check["run"]): Promise<Finding[]> => await runCheck({ id: "x", run }, context);

test("passes with what it returns, and is skipped where it says so", async () => {
  assert.equal(await findings(() => "all is well"), [{ id: "x", status: "ok", message: "all is well" }]);
  const skipped = { id: "x", status: "skip", message: "nothing there" };
  assert.equal(await findings(async () => skip("nothing there")), [skipped]);
});

test("reports every problem, each with its hint, and neither ok nor skip beside one", async () => {
  const fix = (): void => undefined;
  for (const outcome of ["fine", skip("nothing there")]) {
    const found = await findings((_context, { warn, fail }) => {
      warn("odd", "look");
      fail("bad", "do", fix);
      return outcome;
    });
    assert.equal(found, [
      { id: "x", status: "warn", message: "odd", hint: "look" },
      { id: "x", status: "fail", message: "bad", hint: "do", fix },
    ]);
  }
});

test("fails with what it throws, and goes on after what a part throws", async () => {
  const broken = storeError("it is broken", "restore it");
  const failed = { id: "x", status: "fail", message: "it is broken", hint: "restore it" };
  assert.equal(await findings(() => Promise.reject(broken)), [failed]);
  const found = await findings(async (_context, { warn, fail }) => {
    assert.is(await attempt(fail, () => Promise.reject(broken)), undefined);
    assert.is(await attempt(fail, () => 1), 1);
    warn("odd", "look");
    return "";
  });
  assert.equal(found, [failed, { id: "x", status: "warn", message: "odd", hint: "look" }]);
});

test("keeps a message to one short line, whatever it quotes", async () => {
  const [finding] = await findings(() => `a\n\u001b[2J${"x".repeat(5000)}`);
  assert.match(finding?.message ?? "", /^a\\u000a\\u001b\[2Jx+…$/);
  assert.ok((finding?.message.length ?? 0) <= 1024);
});

test("counts one in the singular", () => {
  const counted = [0, 1, 2].map((number) => count(number, "key is", "keys are"));
  assert.equal(counted, ["0 keys are", "1 key is", "2 keys are"]);
});

test.run();
