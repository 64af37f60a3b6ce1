// RSA keys (RFC 7518, section 6.3).

import { generateKeyPairSync } from "node:crypto";
import { usageError } from "../errors.ts";
import { member, type Fail, type JsonObject } from "../json.ts";
import { base64urlMember, bytesOf, type Common, type KeyShape, type KeyType } from "./key-type.ts";

/** The bounds of a modulus in bits, and the size that is made by default. */
const BITS = { min: 2048, max: 8192, made: 3072 } as const;

const PRIVATE = ["d", "p", "q", "dp", "dq", "qi"] as const;
const MAX_EXPONENT = 2n ** 64n; // OpenSSL's own bound for a large modulus

interface Modulus extends Common {
  readonly kty: "RSA";
  readonly n: string;
  readonly e: string;
}

/** An RSA public key. */
export interface RsaPublicJwk extends Modulus {
  readonly d?: never;
}

/** An RSA private key of two primes. */
export interface RsaPrivateJwk extends Modulus, Readonly<Record<(typeof PRIVATE)[number], string>> {}

/** An RSA key, public or private. */
export type RsaJwk = RsaPublicJwk | RsaPrivateJwk;

/** RSA keys. */
export const rsa = {
  name: "rsa",
  sizes: "3072",
  keyOps: { wrap: ["wrapKey", "encrypt"], unwrap: ["unwrapKey", "decrypt"] },
  check,
  isPrivate: (jwk: RsaJwk): jwk is RsaPrivateJwk => jwk.d !== undefined,
  publicPart: ({ kty, n, e }: RsaJwk): RsaPublicJwk => ({ kty, n, e }),
  thumbprintMembers: ({ e, kty, n }: RsaJwk) => ({ e, kty, n }),
  generate({ bits = BITS.made }: KeyShape) {
    if (!Number.isInteger(bits) || bits < BITS.min || bits > BITS.max || bits % 8 !== 0) {
      const hint = `use --bits with a multiple of 8 from ${BITS.min} to ${BITS.max}`;
      throw usageError(`an RSA key cannot have ${bits} bits`, hint);
    }
    const jwk = generateKeyPairSync("rsa", { modulusLength: bits }).privateKey.export({ format: "jwk" });
    const { n = "", e = "", d = "", p = "", q = "", dp = "", dq = "", qi = "" } = jwk;
    return { kty: "RSA", n, e, d, p, q, dp, dq, qi };
  },
  shape: ({ n }: RsaJwk) => ({ bits: bytesOf(n).length * 8 }),
} as const satisfies KeyType<RsaPublicJwk, RsaPrivateJwk>;

function check(value: JsonObject, common: Common, fail: Fail): RsaJwk {
  const number = (name: string): { text: string; big: bigint } => {
    const { text, bytes } = base64urlMember(value, name, fail);
    if (bytes.length > BITS.max / 8) throw fail(`has a member ${name} that is too long`);
    if (bytes.length === 0 || bytes[0] === 0) throw fail(`has a member ${name} with a leading zero`);
    return { text, big: BigInt(`0x${bytes.toString("hex")}`) };
  };
  const n = number("n");
  const e = number("e");
  const bits = n.big.toString(2).length;
  if (bits < BITS.min || bits > BITS.max)
    throw fail(`is an RSA key of ${bits} bits, not of ${BITS.min} to ${BITS.max}`);
  if (n.big % 2n === 0n) throw fail("has an even n");
  if (e.big % 2n === 0n || e.big < 3n || e.big >= MAX_EXPONENT)
    throw fail("has an e that is even, below 3 or too large");
  const modulus = { ...common, kty: "RSA", n: n.text, e: e.text } as const;
  if (PRIVATE.every((name) => member(value, name) === undefined)) return modulus;
  if (member(value, "oth") !== undefined) throw fail("has more than two primes");
  const [d, p, q, dp, dq, qi] = [number("d"), number("p"), number("q"), number("dp"), number("dq"), number("qi")];
  if (p.big * q.big !== n.big || p.big === 1n || q.big === 1n) throw fail("has p and q that do not make its n");
  if (d.big >= n.big || (d.big * e.big) % (p.big - 1n) !== 1n || (d.big * e.big) % (q.big - 1n) !== 1n) {
    throw fail("has a d that does not match its e");
  }
  const [dpRight, dqRight] = [dp.big === d.big % (p.big - 1n), dq.big === d.big % (q.big - 1n)];
  const qiRight = qi.big < p.big && (qi.big * q.big) % p.big === 1n;
  if (!dpRight || !dqRight || !qiRight) throw fail("has a dp, dq or qi that does not match");
  return { ...modulus, d: d.text, p: p.text, q: q.text, dp: dp.text, dq: dq.text, qi: qi.text };
}
