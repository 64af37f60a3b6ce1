// Parts of a key annotation: for whom each is, and a recipient who is taken off without any key.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { namesAll, openAny, partRecipients, withoutRecipients } from "../../src/image/parts.ts";
import { privateKeys } from "../support/attacks.ts";
import { OPTSDATA } from "../support/requests.ts";
import { flattened, forge, newKey, thumbprintOf } from "../support/second-jwe.ts";

const [alice, bob] = [newKey("P-256"), newKey("P-384")];
const [aliceKid, bobKid] = [thumbprintOf(alice), thumbprintOf(bob)];
const part = (jwe: object): Buffer => Buffer.from(JSON.stringify(jwe));
const both = part(
  forge([
    { jwk: alice, header: { kid: aliceKid } },
    { jwk: bob, header: { kid: bobKid } },
  ]),
);
const onlyAlice = part(flattened(forge([{ jwk: alice, header: { kid: aliceKid } }])));
const nameless = part(forge([{ jwk: alice }]));

test("tells the alg and the kid of each recipient, and nothing of what is no JWE", () => {
  assert.equal(
    partRecipients(both).map(({ kid }) => kid),
    [aliceKid, bobKid],
  );
  assert.equal(partRecipients(nameless), [{ alg: "ECDH-ES+A256KW", kid: undefined }]);
  assert.equal(partRecipients(Buffer.from("-----BEGIN PGP")), []);
  assert.equal([both, onlyAlice, nameless, Buffer.alloc(0)].map(namesAll), [true, true, false, false]);
});

test("opens the first part that a key opens", async () => {
  const keys = privateKeys({ [bobKid]: bob });
  assert.is((await openAny([Buffer.from("{}"), onlyAlice, both], keys))?.toString(), OPTSDATA);
  assert.is(await openAny([onlyAlice], keys), undefined);
});

test("takes a recipient off: the others still open, a part for nobody is gone, the rest is byte for byte", async () => {
  const left = withoutRecipients([both, onlyAlice], new Set([aliceKid]));
  assert.equal(
    left.map((one) => partRecipients(one).map(({ kid }) => kid)),
    [[bobKid]],
  );
  assert.is((await openAny(left, privateKeys({ [bobKid]: bob })))?.toString(), OPTSDATA);
  assert.is(await openAny(left, privateKeys({ [aliceKid]: alice })), undefined);
  assert.equal(withoutRecipients([both, onlyAlice], new Set(["another"])), [both, onlyAlice]);
  assert.equal(withoutRecipients([nameless], new Set()), [nameless]);
});

test("takes nobody off where a recipient has no kid", () => {
  assert.throws(() => withoutRecipients([both, nameless], new Set([aliceKid])), /without a readable kid/);
});

test.run();
