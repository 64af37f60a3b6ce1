// EC keys (RFC 7518, section 6.2).

import { createECDH, ECDH, generateKeyPairSync } from "node:crypto";
import { usageError } from "../errors.ts";
import { member, type Fail, type JsonObject } from "../json.ts";
import { base64urlMember, bytesOf, type Common, type KeyShape, type KeyType } from "./key-type.ts";

/** The curves of RFC 7518, section 6.2.1.1: OpenSSL's name, the length of a coordinate in bytes. */
export const CURVES = {
  "P-256": { openssl: "prime256v1", bytes: 32 },
  "P-384": { openssl: "secp384r1", bytes: 48 },
  "P-521": { openssl: "secp521r1", bytes: 66 },
} as const;

/** The name of a supported curve. */
export type Curve = keyof typeof CURVES;

interface Point extends Common {
  readonly kty: "EC";
  readonly crv: Curve;
  readonly x: string;
  readonly y: string;
}

/** An EC public key. Coordinates are canonical base64url of full length. */
export interface EcPublicJwk extends Point {
  readonly d?: never;
}

/** An EC private key. */
export interface EcPrivateJwk extends Point {
  readonly d: string;
}

/** An EC key, public or private. */
export type EcJwk = EcPublicJwk | EcPrivateJwk;

const OPS = ["deriveKey", "deriveBits", "wrapKey", "unwrapKey"]; // Debian's jose writes the last two on EC keys
const NAMES = Object.keys(CURVES).join(", ");

/** Keys on the NIST curves: two of them agree on a secret. */
export const ec = {
  name: "ec",
  curves: Object.keys(CURVES),
  keyOps: { wrap: OPS, unwrap: OPS },
  check,
  isPrivate: (jwk: EcJwk): jwk is EcPrivateJwk => jwk.d !== undefined,
  publicPart: ({ kty, crv, x, y }: EcJwk): EcPublicJwk => ({ kty, crv, x, y }),
  thumbprintMembers: ({ crv, kty, x, y }: EcJwk) => ({ crv, kty, x, y }),
  generate({ curve: crv = "P-256" }: KeyShape) {
    if (!isCurve(crv)) throw usageError(`there is no curve ${crv}`, `use one of ${NAMES}`);
    const { privateKey } = generateKeyPairSync("ec", { namedCurve: CURVES[crv].openssl });
    const { x = "", y = "", d = "" } = privateKey.export({ format: "jwk" });
    return { kty: "EC", crv, x, y, d };
  },
  shape: ({ crv }: EcJwk) => ({ curve: crv }),
  agreement: {
    sameCurve: (one: EcJwk, other: EcJwk) => one.crv === other.crv,
    secretBytes: ({ crv }: EcJwk) => CURVES[crv].bytes,
    ephemeral(jwk: EcJwk) {
      const ephemeral = createECDH(CURVES[jwk.crv].openssl);
      const epk = pointJwk(jwk.crv, ephemeral.generateKeys());
      return { epk, z: ephemeral.computeSecret(point(jwk)) };
    },
    secret(jwk: EcPrivateJwk, epk: EcJwk) {
      const ecdh = createECDH(CURVES[jwk.crv].openssl);
      ecdh.setPrivateKey(bytesOf(jwk.d));
      return ecdh.computeSecret(point(epk));
    },
  },
} as const satisfies KeyType<EcPublicJwk, EcPrivateJwk>;

/** Narrows a checked key to an EC key without its private part. */
export function isEcPublic(jwk: { readonly kty: string; readonly d?: unknown }): jwk is EcPublicJwk {
  return jwk.kty === "EC" && jwk.d === undefined;
}

function isCurve(name: unknown): name is Curve {
  return typeof name === "string" && Object.hasOwn(CURVES, name);
}

function check(value: JsonObject, common: Common, fail: Fail): EcJwk {
  const crv = member(value, "crv");
  if (!isCurve(crv)) throw fail("has a crv other than P-256, P-384 and P-521");
  const coordinate = (name: string): { text: string; bytes: Buffer } => {
    const { text, bytes } = base64urlMember(value, name, fail);
    if (bytes.length !== CURVES[crv].bytes) throw fail(`has a member ${name} of the wrong length for ${crv}`);
    return { text, bytes };
  };
  const x = coordinate("x");
  const y = coordinate("y");
  const jwk: EcPublicJwk = { ...common, kty: "EC", crv, x: x.text, y: y.text };
  if (member(value, "d") === undefined) {
    try {
      ECDH.convertKey(point(jwk), CURVES[crv].openssl);
    } catch {
      throw fail("has a point that is not on its curve");
    }
    return jwk;
  }
  const d = coordinate("d"); // d·G is on the curve, so a point that equals d·G is too
  const ecdh = createECDH(CURVES[crv].openssl);
  try {
    ecdh.setPrivateKey(d.bytes);
  } catch {
    throw fail("has a d out of range");
  }
  if (!ecdh.getPublicKey().equals(point(jwk))) throw fail("has a d that does not match its point");
  return { ...common, kty: "EC", crv, x: x.text, y: y.text, d: d.text };
}

/** The public point of a checked EC key, uncompressed (SEC 1, section 2.3.3). */
export function point(jwk: EcJwk): Buffer {
  return Buffer.concat([Buffer.of(4), bytesOf(jwk.x), bytesOf(jwk.y)]);
}

/** The public key of an uncompressed point on a curve: the inverse of {@link point}. */
export function pointJwk(crv: Curve, bytes: Uint8Array): EcPublicJwk {
  const coordinate = (from: number): string =>
    Buffer.from(bytes.subarray(from, from + CURVES[crv].bytes)).toString("base64url");
  return { kty: "EC", crv, x: coordinate(1), y: coordinate(1 + CURVES[crv].bytes) };
}
