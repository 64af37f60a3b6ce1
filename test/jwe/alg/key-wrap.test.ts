// AES Key Wrap and ConcatKDF, against the RFCs' vectors and the second implementation.

import { randomBytes } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { aesKeyUnwrap, aesKeyWrap, concatKdf } from "../../../src/jwe/alg/key-wrap.ts";
import * as second from "../../support/second-jwe.ts";

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(" ", ""), "hex");
const KEK = "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F";
const DATA = "00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F";

for (const [section, kek, data, wrapped] of [
  ["4.1", 128, 128, "1FA68B0A8112B447 AEF34BD8FB5A7B82 9D3E862371D2CFE5"],
  ["4.2", 192, 128, "96778B25AE6CA435 F92B5B97C050AED2 468AB8A17AD84E5D"],
  ["4.3", 256, 128, "64E8C3F9CE0F5BA2 63E9777905818A2A 93C8191E7D6E8AE7"],
  ["4.4", 192, 192, "031D33264E15D332 68F24EC260743EDC E1C6C7DDEE725A93 6BA814915C6762D2"],
  ["4.5", 256, 192, "A8F9BC1612C68B3F F6E6F4FBE30E71E4 769C8B80A32CB895 8CD5D17D6B254DA1"],
  ["4.6", 256, 256, "28C9F404C4B810F4 CBCCB35CFB87F826 3F5786E2D80ED326 CBC7F0E71A99F43B FB988B9B7A02DD21"],
] as const) {
  test(`wraps and unwraps RFC 3394, section ${section}: ${data} bits with a key of ${kek}`, () => {
    const [key, plain, cipher] = [hex(KEK).subarray(0, kek / 8), hex(DATA).subarray(0, data / 8), hex(wrapped)];
    for (const { wrap, unwrap } of [
      { wrap: aesKeyWrap, unwrap: aesKeyUnwrap },
      { wrap: second.keyWrap, unwrap: second.keyUnwrap },
    ]) {
      assert.equal(Buffer.from(wrap(key, plain)), cipher);
      assert.equal(Buffer.from(unwrap(key, cipher)), plain);
    }
  });
}

test("wraps every CEK size like the second implementation", () => {
  for (const kek of [16, 24, 32]) {
    for (const cek of [16, 24, 32, 48, 64]) {
      const [key, data] = [randomBytes(kek), randomBytes(cek)];
      assert.equal(aesKeyWrap(key, data), second.keyWrap(key, data));
      assert.equal(aesKeyUnwrap(key, second.keyWrap(key, data)), data);
    }
  }
});

test("refuses a wrap with any one bit changed (RFC 3394, section 2.2.3: 64 bits of integrity, not node-jose's 11)", () => {
  const key = randomBytes(32);
  const wrapped = aesKeyWrap(key, randomBytes(32));
  for (let bit = 0; bit < 8 * wrapped.length; bit++) {
    const wrong = Buffer.from(wrapped);
    wrong.writeUInt8(wrong.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
    assert.throws(() => aesKeyUnwrap(key, wrong));
  }
});

test("refuses 20,000 random wraps, of which node-jose takes about eleven", () => {
  const key = randomBytes(32);
  const wrong = randomBytes(20_000 * 40);
  for (let at = 0; at < wrong.length; at += 40) assert.throws(() => aesKeyUnwrap(key, wrong.subarray(at, at + 40)));
});

test("refuses a wrap of no multiple of 8 bytes, or of less than 24", () => {
  for (const length of [1, 8, 16, 23, 39, 41]) assert.throws(() => aesKeyUnwrap(randomBytes(32), randomBytes(length)));
});

test("derives the key of RFC 7518, appendix C", () => {
  const z = Buffer.from([
    158, 86, 217, 29, 129, 113, 53, 211, 114, 131, 66, 131, 191, 132, 38, 156, 251, 49, 110, 163, 218, 128, 106, 72,
    246, 218, 167, 121, 140, 254, 144, 196,
  ]);
  for (const derive of [concatKdf, second.concatKdf])
    assert.is(
      derive(z, "A128GCM", Buffer.from("Alice"), Buffer.from("Bob"), 16).toString("base64url"),
      "VqqN6vgjbSBcIijNcacQGg",
    );
});

test("derives what the second implementation derives", () => {
  for (let round = 0; round < 500; round++) {
    const [z, apu, apv] = [randomBytes([32, 48, 66][round % 3] ?? 0), randomBytes(round % 37), randomBytes(round % 41)];
    for (const [alg, length] of [
      ["ECDH-ES+A128KW", 16],
      ["ECDH-ES+A192KW", 24],
      ["ECDH-ES+A256KW", 32],
    ] as const) {
      assert.equal(concatKdf(z, alg, apu, apv, length), second.concatKdf(z, alg, apu, apv, length));
    }
  }
});

test.run();
