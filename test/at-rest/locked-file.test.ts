// Locked files: a JWE with a recipient, and no word about annotations where it is damaged.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { parseLocked } from "../../src/at-rest/locked-file.ts";
import { atRestBySecret } from "../../src/at-rest/secret.ts";
import { KeystoreError } from "../../src/errors.ts";

const lock = atRestBySecret("master key", () => Promise.resolve(Buffer.alloc(32, 7)));

test("reads the header of what a lock wrote", async () => {
  const { header, jwe } = parseLocked(await lock.seal(Buffer.from("{}")));
  assert.is(header["alg"], "A256KW");
  assert.is(jwe.recipients.length, 1);
});

test("says of anything else that the file is damaged, as an error of a key", async () => {
  const whole = (await lock.seal(Buffer.from("{}"))).toString();
  for (const text of ["", "hello", "{}", "[]", whole.slice(0, -1), whole.replace('"iv"', '"vi"')]) {
    assert.throws(
      () => parseLocked(Buffer.from(text)),
      (error: unknown) => error instanceof KeystoreError && error.code === "key" && /it is damaged/.test(error.message),
      text,
    );
  }
});

test("opens with its secret alone, and not once it was changed", async () => {
  const file = await lock.seal(Buffer.from('{"kty":"EC"}'));
  assert.is((await lock.open(file))?.toString(), '{"kty":"EC"}');
  const other = atRestBySecret("master key", () => Promise.resolve(Buffer.alloc(32, 8)));
  assert.is(await other.open(file), undefined);
  const changed = JSON.parse(file.toString()) as { ciphertext: string };
  changed.ciphertext = (changed.ciphertext.startsWith("A") ? "B" : "A") + changed.ciphertext.slice(1);
  assert.is(await lock.open(Buffer.from(JSON.stringify(changed))), undefined);
});

test.run();
