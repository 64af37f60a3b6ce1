// Running a command: its input, its output, and what it cannot be started without.

import { spawnSync } from "node:child_process";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { runCommand } from "../../src/keys/command.ts";
import { script } from "../support/holders.ts";

test("takes a command that reads none of a long input, and one that ends before its input is written", async () => {
  const input = Buffer.alloc(1024 * 1024);
  for (const lines of ["printf answer", "exec <&-; printf answer; exec sleep 0.2"]) {
    const { answer, failure } = await runCommand(script(lines), [], input, 5000);
    assert.is(failure, undefined);
    assert.is(answer.toString(), "answer");
  }
});

test("says so when this process has no file descriptors left for a command", () => {
  const body = `import { closeSync, openSync } from "node:fs";
    import { runCommand } from "${new URL("../../src/keys/command.ts", import.meta.url).href}";
    process.getBuiltinModule("node:child_process");
    const open = [];
    try { for (;;) open.push(openSync("/dev/null")); } catch {}
    closeSync(open.pop());
    const { failure } = await runCommand("/bin/true", [], Buffer.alloc(0), 5000);
    for (const fd of open) closeSync(fd);
    console.log(failure);`;
  const { stdout, stderr } = spawnSync(
    "/bin/sh",
    ["-c", 'ulimit -n 256; exec "$0" --input-type=module -e "$1"', process.execPath, body],
    { encoding: "utf8" },
  );
  assert.is(stdout, "cannot be started (EMFILE)\n", stderr);
});

test.run();
