// Advertisements of Tang servers that lie: one line each, and nothing is locked.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { generateJwk } from "../../src/jwk/jwk.ts";
import { tree } from "../support/folders.ts";
import { lockForTang, refusedHere } from "../support/here.ts";
import { changed, flipped, send, TRANSPORT } from "../support/lies.ts";
import { assertFailure, runBeside } from "../support/program.ts";
import { makeStore } from "../support/stores.ts";
import { advertisement, encoded, freshPoint, LyingTang, serverOf, type Lie } from "../support/tang.ts";

/** Lies about a server's keys. */
const ADVERTISEMENTS: readonly (readonly [name: string, lie: (tang: LyingTang) => Lie, line: RegExp])[] = [
  ...TRANSPORT.map(([name, lie, line]) => [name, () => lie, line] as const),
  ["has no payload", () => changed(({ payload: _, ...jws }) => jws), /is not a JWS with a payload/],
  [
    "has another payload",
    (tang) => changed((jws) => ({ ...jws, payload: encoded({ keys: [...tang.keys, ...tang.keys] }) })),
    /is not signed by each of its signing keys/,
  ],
  [
    "has a payload that is no set",
    () => changed((jws) => ({ ...jws, payload: encoded([]) })),
    /payload that is not a JWK set/,
  ],
  [
    "has a bad signature",
    () => changed((jws) => ({ ...jws, signature: flipped(jws["signature"]) })),
    /is not signed by each/,
  ],
  ["has an empty signature", () => changed((jws) => ({ ...jws, signature: "" })), /is not signed by each/],
  ["has no signature", () => changed(({ payload }) => ({ payload, signatures: [] })), /is not signed by each/],
  [
    "has its alg outside of the protected header",
    () => changed(({ payload, signature }) => ({ payload, signature, protected: "", header: { alg: "ES512" } })),
    /is not signed by each/,
  ],
  [
    "is signed by another key",
    (tang) => send(advertisement(tang.keys, [new LyingTang().signer.privateKey])),
    /is not signed by each/,
  ],
  [
    "lacks the signature of one key",
    (tang) =>
      send(
        advertisement(
          [...tang.keys, { alg: "ES512", key_ops: ["verify"], ...freshPoint("P-521") }],
          [tang.signer.privateKey],
        ),
      ),
    /is not signed by each/,
  ],
  [
    "says none of its algorithm",
    (tang) => send(advertisement(tang.keys, [tang.signer.privateKey], { alg: "none" })),
    /is not signed by each/,
  ],
  [
    "says another algorithm",
    (tang) => send(advertisement(tang.keys, [tang.signer.privateKey], { alg: "ES256" })),
    /is not signed by each/,
  ],
  [
    "has a critical extension",
    (tang) => send(advertisement(tang.keys, [tang.signer.privateKey], { alg: "ES512", crit: ["b64"], b64: false })),
    /is not signed by each/,
  ],
  [
    "has no signing key",
    (tang) => send(advertisement(tang.keys.slice(0, 1), [tang.signer.privateKey])),
    /has no signing key/,
  ],
  [
    "has no exchange key",
    (tang) => send(advertisement(tang.keys.slice(1), [tang.signer.privateKey])),
    /has no exchange key/,
  ],
  [
    "has no keys",
    (tang) => send(advertisement("keys", [tang.signer.privateKey])),
    /keys that are not a list of at most 32/,
  ],
  [
    "has too many keys",
    (tang) =>
      send(
        advertisement(
          Array.from({ length: 40 }, () => tang.keys[1]),
          [tang.signer.privateKey],
        ),
      ),
    /keys that are not a list of at most 32/,
  ],
  [
    "has an exchange key that is off the curve",
    (tang) =>
      send(advertisement([{ ...tang.keys[0], y: tang.keys[1]?.["y"] }, tang.keys[1]], [tang.signer.privateKey])),
    /has a point that is not on its curve/,
  ],
  [
    "has a key of another kind",
    (tang) => send(advertisement([...tang.keys, { kty: "OKP", crv: "Ed25519", x: "AA" }], [tang.signer.privateKey])),
    /a key that has a kty other/,
  ],
  [
    "shows a private key",
    (tang) => send(advertisement([...tang.keys, generateJwk({ type: "ec" })], [tang.signer.privateKey])),
    /a key that is not a public EC key/,
  ],
  [
    "has an exchange key that is another's",
    (tang) =>
      send(advertisement([{ ...tang.keys[0], ...freshPoint("P-521") }, tang.keys[1]], [tang.signer.privateKey])),
    /gives an answer that does not open it/,
  ],
];

{
  const tang = await LyingTang.started();
  const dir = makeStore("alice");
  const before = tree(dir);
  for (const [index, [name, lie, line]] of ADVERTISEMENTS.entries()) {
    test(`refuses an advertisement that ${name}: one line, and nothing is locked`, async () => {
      tang.adv = lie(tang);
      const shown =
        index % 16 === 0
          ? assertFailure(await runBeside(["lock", ...serverOf(tang), "--keystore", dir]), 3)
          : await refusedHere(dir, 3, async () => await lockForTang(dir, tang.url));
      assert.match(shown, line);
      assert.match(shown, `the Tang server ${tang.url} `);
      assert.equal(tree(dir), before);
    });
  }
  test("takes it when it lies no more", async () => {
    tang.adv = undefined;
    assert.match((await runBeside(["lock", ...serverOf(tang), "--keystore", dir])).stderr, "locked 1 private key");
  });
}

test.run();
