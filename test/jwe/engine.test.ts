// Whole JWEs that others published, opened by the binary, by src and by the second implementation.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { open } from "../../src/jwe/open.ts";
import { assertOpens, assertSkipped, privateKeys, storeOf } from "./attack.ts";
import { compact, unforge, type Forged } from "./forge.ts";
import { EXAMPLES, SECOND_RECIPIENT, THREE_RECIPIENTS } from "./rfc.ts";

for (const { section, key, jwe, plaintext } of EXAMPLES) {
  const { encrypted_key = "", header, ...rest } = jwe;
  const general: Forged = { ...rest, recipients: [{ ...(header === undefined ? {} : { header }), encrypted_key }] };

  test(`opens ${section}, flattened, general and compact`, async () => {
    assert.is(unforge(general, 0, key), plaintext, "the second implementation");
    assert.is((await open(Buffer.from(JSON.stringify(jwe)), privateKeys({ key }))).toString(), plaintext, "src");
    const dir = storeOf({ key });
    assertOpens(jwe, dir, plaintext);
    assertOpens(general, dir, plaintext);
    if (jwe.unprotected === undefined && jwe.aad === undefined) assertOpens(compact(general), dir, plaintext);
  });
}

test("opens RFC 7520, section 5.13, for the recipient whose algorithm is ours, and skips RSA1_5 and A256GCMKW", () => {
  const { key, plaintext } = SECOND_RECIPIENT;
  assert.is(unforge(THREE_RECIPIENTS, 1, key), plaintext, "the second implementation");
  assertOpens(THREE_RECIPIENTS, storeOf({ key }), plaintext);
  const [first, , third] = THREE_RECIPIENTS.recipients;
  assertSkipped({ ...THREE_RECIPIENTS, recipients: [first, third] }, storeOf({ key }));
});

test.run();
