// Key files: what their bytes, their kind and their mode must be. A line says which file it is and why.

import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { assertOpens, attack, each, keys } from "../support/attacks.ts";
import { temporaryFolder } from "../support/folders.ts";
import { placeKey } from "../support/foreign-keys.ts";
import { assertUnusable, big, changed, encode, storedKid, sealed, storeWith } from "../support/key-files.ts";
import { assertFailure, run } from "../support/program.ts";
import { wrap, wrapRequest } from "../support/requests.ts";
import { b64u, forge, newKey, type Header } from "../support/second-jwe.ts";

const { p256, p384, rsa } = keys;
const n = big(rsa["n"]);

const whole = JSON.stringify(p256);
each<[content: string | Buffer, reason: RegExp]>(
  [
    ["nothing", "", /is not JSON/],
    ["half a key", whole.slice(0, -20), /is not JSON/],
    ["something behind the key", `${whole}${whole}`, /is not JSON/],
    ["a list", `[${whole}]`, /is not a JSON object/],
    ["text", '"secret"', /is not a JSON object/],
    ["a byte order mark", `\ufeff${whole}`, /is not JSON/],
    ["bytes that are not UTF-8", Buffer.from(whole.replace("{", '{"x-":"\xff",'), "latin1"), /is not valid UTF-8/],
    ["a NUL character", whole.replace("{", '{"a":"\\u0000",'), /a NUL character/],
    ["d twice", whole.replace("{", `{"d":"${newKey("P-256")["d"]}",`), /a duplicate member name/],
    ["d twice, once escaped", whole.replace("{", `{"\\u0064":"${newKey("P-256")["d"]}",`), /an? \w+ member name/],
    ["a __proto__", whole.replace("{", '{"__proto__":{"d":"AA"},'), /a forbidden member name/],
    ["too deep a nesting", whole.replace("{", '{"a":[[[[]]]],'), /nested too deep/],
  ],
  (name) => `refuses a private key file that holds ${name}`,
  (content, reason) => assertUnusable(p256, storeWith(p256, content), reason),
);

test("takes a key file of 64 KiB and refuses one a byte larger", () => {
  assertOpens(sealed.get(p256) ?? "", storeWith(p256, whole.padEnd(65_536)).dir);
  assertUnusable(p256, storeWith(p256, whole.padEnd(65_537)), /larger than 64 KiB/);
});

/** The store with something else in the place of its key file. */
function replaced(place: (file: string) => void): { dir: string; file: string } {
  const made = storeWith(p256, whole);
  rmSync(made.file);
  place(made.file);
  return made;
}

test("refuses a FIFO, a device and a folder where a key file belongs, and does not wait for them", () => {
  const fifo = (file: string): void => assert.is(spawnSync("mkfifo", [file]).status, 0);
  for (const place of [
    fifo,
    (file: string) => mkdirSync(file),
    (file: string) => symlinkSync("/dev/zero", file),
    (file: string) => symlinkSync("/dev/null", file),
  ]) {
    assertUnusable(p256, replaced(place), /is not a regular file/);
  }
  assertUnusable(
    p256,
    replaced((file) => symlinkSync(file, file)),
    /cannot read .*: ELOOP/,
  );
  const dangling = replaced((file) => symlinkSync("/nonexistent", file));
  assert.match(assertFailure(attack(sealed.get(p256) ?? "", dangling.dir), 3), /no private key of the store opens/);
});

test("refuses a private key file that others can read, judged by what a symlink points to", () => {
  for (const mode of [0o644, 0o640, 0o604, 0o620, 0o601, 0o777]) {
    const made = storeWith(p256, whole);
    chmodSync(made.file, mode);
    assertUnusable(p256, made, new RegExp(`can be read by others \\(mode 0${mode.toString(8)}\\); run chmod 600 `));
    const linked = replaced((file) => symlinkSync(made.file, file));
    assertUnusable(p256, linked, /can be read by others/);
    chmodSync(made.file, 0o400);
    assertOpens(sealed.get(p256) ?? "", linked.dir);
  }
});

test("passes over a bad key file where another key opens", () => {
  const { dir } = storeWith(p256, "damaged");
  placeKey(dir, "good", p384);
  assertOpens(forge([{ jwk: p256, header: { kid: storedKid(p256) } }, { jwk: p384 }]), dir);
  assertOpens(forge([{ jwk: p384 }]), dir);
});

test("refuses a damaged public key file when it wraps, exit code 1, and no private one is read", () => {
  for (const [jwk, change, reason] of [
    [p256, { y: changed(p256["y"]) }, /point that is not on its curve/],
    [p256, { x: b64u(Buffer.alloc(66, 1)), y: b64u(Buffer.alloc(66, 1)) }, /x of the wrong length/],
    [p256, { ...newKey("P-256"), d: undefined }, /another key than its file name says/],
    [rsa, { e: encode(1n) }, /e that is even, below 3/],
    [rsa, { n: encode(n + 2n) }, /another key than its file name says/],
  ] as const) {
    const dir = temporaryFolder();
    const kid = placeKey(dir, "key", jwk);
    rmSync(join(dir, "private"), { recursive: true });
    const file = join(dir, "public", `${kid}.jwk`);
    assert.type(wrap(dir, ["key"]).toString(), "string");
    writeFileSync(file, JSON.stringify({ ...(JSON.parse(readFileSync(file, "utf8")) as Header), ...change }));
    const line = assertFailure(run(["--keystore", dir], { input: wrapRequest(["key"]), timeout: 5000 }), 1);
    assert.ok(line.includes(file), line);
    assert.match(line, reason);
  }
});

test.run();
