// Rotation: a new key of the same kind comes first, and the former one still opens.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { headerKids, wrap } from "../support/requests.ts";
import { assertOpens, commands, kidOf, kidsOf, makeStore, readJson, rows, wrapHere } from "../support/stores.ts";

for (const [options, member] of [
  ["", "crv"],
  ["--curve P-384", "crv"],
  ["--curve P-521", "crv"],
  ["--type rsa --bits 2048", "kty"],
  ["--type oct", "alg"],
  ["--type oct --bits 128", "alg"],
] as const) {
  test(`rotate makes a key of the same kind, and the former still opens: ${options || "the default"}`, async () => {
    const dir = makeStore(`key:${options}`);
    const former = kidOf(dir, "key");
    const annotation = await wrapHere(dir, "key");
    const kid = commands(dir)("rotate", "key").trim();
    assert.equal(kidsOf(dir, "key"), [kid, former]);
    assert.equal(rows(dir), [`key ${kid} current file`, `key ${former} retired file`]);
    const publicOf = (one: string): unknown => readJson(join(dir, "public", `${one}.jwk`))[member];
    assert.is(publicOf(kid), publicOf(former));
    assert.equal(headerKids(wrap(dir, ["key"])), [kid]);
    await assertOpens(dir, annotation);
    await assertOpens(dir, await wrapHere(dir, "key"));
  });
}

test("rotate keeps the size of an RSA key that is no multiple of 1,024", () => {
  const dir = makeStore("key:--type rsa --bits 2056");
  commands(dir)("rotate", "key");
  assert.is(
    String(readJson(join(dir, "public", `${kidOf(dir, "key")}.jwk`))["n"]).length,
    Math.ceil(((2056 / 8) * 4) / 3),
  );
});

test("rotate keeps the default and the order: the youngest first", () => {
  const dir = makeStore("alice", "bob");
  const cli = commands(dir);
  const kids = [kidOf(dir, "alice"), cli("rotate", "alice").trim(), cli("rotate", "alice").trim()];
  assert.equal(kidsOf(dir, "alice"), kids.toReversed());
  assert.is(cli("default"), "alice\n");
  assert.equal(headerKids(wrap(dir, [""])), [kids[2]]);
});

test("rotate never writes a name that is too large to be read again", () => {
  const dir = makeStore("alice");
  const cli = commands(dir);
  const path = join(dir, "names/alice");
  writeFileSync(path, readFileSync(path, "utf8").repeat(1489)); // 65,516 bytes of 65,536
  cli.run(["rotate", "alice"]);
  cli("list");
});

test.run();
