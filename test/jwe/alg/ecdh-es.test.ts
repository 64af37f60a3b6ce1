// ECDH-ES: the shared secret, against RFC 7518 and node:crypto.

import { createPublicKey, diffieHellman } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { concatKdf } from "../../../src/jwe/alg/key-wrap.ts";
import { open } from "../../../src/jwe/open.ts";
import type { EcJwk } from "../../../src/jwk/ec.ts";
import { checkJwk } from "../../../src/jwk/jwk.ts";
import { privateKeys } from "../../support/attacks.ts";
import { OPTSDATA } from "../../support/requests.ts";
import * as second from "../../support/second-jwe.ts";

/** What a recipient with this ephemeral key asks for. */
const ask = (epk: EcJwk) => ({
  alg: "ECDH-ES+A256KW",
  encryptedKey: Buffer.alloc(0),
  epk,
  apu: Buffer.alloc(0),
  apv: Buffer.alloc(0),
});

test("agrees on the shared secret of RFC 7518, appendix C", async () => {
  const bob = {
    kty: "EC",
    crv: "P-256",
    x: "weNJy2HscCSM6AEDTDg04biOvhFhyyWvOHQfeF_PxMQ",
    y: "e8lnCO-AlStT-NJVX-crhB7QRYhiix03illJOVAOyck",
    d: "VEmDZpDXXK8p8N0Cndsxs924q6nS1RXFASRl6BfUqdw",
  };
  const epk: EcJwk = {
    kty: "EC",
    crv: "P-256",
    x: "gI0GAILBdu7T53akrFmMyGcsF3n5dO7MmwNBHKW5SV0",
    y: "SLW_xSffzlPWrHEVI30DHM_4egVwt3NQqeUD7nMFpps",
  };
  const z = await (await privateKeys({ bob }).privateKey("bob"))?.perform(ask(epk));
  assert.is(
    concatKdf(z ?? Buffer.alloc(0), "A128GCM", Buffer.from("Alice"), Buffer.from("Bob"), 16).toString("base64url"),
    "VqqN6vgjbSBcIijNcacQGg",
  );
});

for (const crv of ["P-256", "P-384", "P-521"]) {
  const bytes = { "P-256": 32, "P-384": 48 }[crv] ?? 66;

  test(`agrees on ${crv} with what diffieHellman gives, for 200 random keys and secrets with a leading zero byte`, async () => {
    let leadingZeros = 0;
    for (let round = 0; round < 200 || (leadingZeros === 0 && round < 20_000); round++) {
      const [ours, ephemeral] = [second.newEphemeral(crv), second.newEphemeral(crv)];
      const jwk = { ...ours.export({ format: "jwk" }) } as second.PlainJwk;
      const epk = checkJwk(createPublicKey(ephemeral).export({ format: "jwk" }), (reason) => new Error(reason));
      const z = await (await privateKeys({ key: jwk }).privateKey("key"))?.perform(ask(epk as EcJwk));
      assert.equal(z, diffieHellman({ privateKey: ours, publicKey: createPublicKey(ephemeral) }));
      assert.is(z?.length, bytes);
      if (z?.[0] !== 0) continue;
      leadingZeros++;
      const jwe = second.forge([{ jwk, ephemeral }]);
      assert.is((await open(Buffer.from(JSON.stringify(jwe)), privateKeys({ key: jwk }))).toString(), OPTSDATA);
    }
    assert.ok(leadingZeros > 0);
  });
}

test.run();
