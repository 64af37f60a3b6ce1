// Private keys at rest that open only if a Tang server can be reached. The files are those of clevis; the exchange with
// the server is McCallum and Relyea's.

import { createECDH, randomBytes } from "node:crypto";
import { printable, usageError } from "../errors.ts";
import { isObject, member, parseJson, type Fail, type JsonObject } from "../json.ts";
import { ENCRYPTIONS } from "../jwe/alg/algorithms.ts";
import { decryptContent } from "../jwe/engine.ts";
import { concatKdf } from "../jwe/alg/key-wrap.ts";
import { CURVES, isEcPublic, point, pointJwk, type EcJwk, type EcPublicJwk } from "../jwk/ec.ts";
import { bytesOf, checkJwk, thumbprint } from "../jwk/jwk.ts";
import { exchangeKey, exchangeKeyOf, signingKeys, verifyAdvertisement } from "./advertisement.ts";
import { askTang, isServerUrl, NOT_TANG, serverError, withScheme } from "./http.ts";
import {
  clevisPin,
  damagedLockedKey,
  ENC,
  onlyClevisOpens,
  parseCompact,
  parseLocked,
  sealCompact,
  type AtRest,
  type AtRestType,
} from "./locked-file.ts";

const ALG = "ECDH-ES"; // RFC 7518, section 4.6, without a key wrap
const NO_PARTY_INFO = Buffer.alloc(0);
const ANSWER_DEPTH = 4; // nesting of a server's answer, a JWK

/** A Tang server as a locked key names it. */
export interface TangServer {
  readonly url: string;
  /** The JWK set that it advertised when the key was locked: it stays pinned. */
  readonly adv: JsonObject;
  /** The key of the set that keys are locked for. */
  readonly exchange: EcPublicJwk;
  /** What the server is asked for: the thumbprint of that key, in old files of clevis the SHA-1 one. */
  readonly kid: string;
}

/**
 * Asks a server for its keys, and tries whether it opens what is locked for them.
 *
 * @param trust gets the thumbprints of its signing keys, each of which signed; throws if none of them is trusted
 * @param given its URL, as clevis takes it: http:// may be missing
 * @throws KeystoreError `usage` if that is not a Tang server's URL, `unusable` if the server fails
 */
export async function meetServer(
  given: string,
  trust: (thumbprints: readonly string[]) => Promise<void>,
): Promise<TangServer> {
  const url = withScheme(given);
  if (!isServerUrl(url)) {
    const hint = "use http://HOST[:PORT] or https://HOST[:PORT]";
    throw usageError(`"${withoutPassword(given)}" is not a Tang server's URL`, hint);
  }
  const answer = await askTang(url, "/adv");
  const fail: Fail = (reason) => {
    const hint = "check that URL, and the server's keys: clevis would not accept them either";
    return serverError(url, `gives an advertisement that ${reason}`, hint);
  };
  const adv = verifyAdvertisement(answer, fail);
  await trust(thumbprints(adv));
  const exchange = exchangeKey(adv, fail);
  const server = { url, adv, exchange, kid: thumbprint(exchange) };
  await openWithTang(sealForTang(randomBytes(32), server)); // if this failed, keys locked for it would be lost
  return server;
}

function withoutPassword(url: string): string {
  return printable(url.replace(/^([a-z]+:\/\/)?.*@/is, "$1…@"), 256); // it must not get into a log
}

/** Keys that are locked for a Tang server: each file names its server. */
export const byTang: AtRestType = {
  alg: ALG,
  pin: "tang",
  atRestOf: (file) => atRestByTang(tangServer(file)),
};

/** A lock for a server. */
export function atRestByTang(server: TangServer): AtRest {
  return {
    kind: "Tang server",
    url: server.url,
    seal: async (jwk) => sealForTang(jwk, server),
    open: openWithTang,
    sameAs: (file) => isSameServer(tangServer(file), server),
  };
}

/** Whether both have the same URL and a signing key in common. */
function isSameServer(one: TangServer, other: TangServer): boolean {
  const signers = thumbprints(one.adv);
  return one.url === other.url && thumbprints(other.adv).some((signer) => signers.includes(signer));
}

function thumbprints(adv: JsonObject): string[] {
  return signingKeys(adv, damagedLockedKey).map((key) => thumbprint(key));
}

/** Seals a private key's JSON. Its content key is agreed on with the server's exchange key (RFC 7518, section 4.6). */
function sealForTang(jwk: Buffer, { url, adv, exchange, kid }: TangServer): Buffer {
  const ephemeral = createECDH(CURVES[exchange.crv].openssl);
  const epk = pointJwk(exchange.crv, ephemeral.generateKeys());
  const header = { alg: ALG, clevis: { pin: "tang", tang: { adv, url } }, epk, kid };
  return sealCompact(header, contentKey(ephemeral.computeSecret(point(exchange))), jwk);
}

/** The server that a locked key names. @throws KeystoreError `key` if the file is damaged */
export function tangServer(jwe: Buffer): TangServer {
  const { header } = parseLocked(jwe);
  const { config = {} } = clevisPin(header) ?? {};
  const [given, adv, kid] = [member(config, "url"), member(config, "adv"), member(header, "kid")];
  if (typeof given !== "string") throw damagedLockedKey("has no Tang server's url");
  if (!isObject(adv)) throw damagedLockedKey("has no adv");
  if (typeof kid !== "string") throw damagedLockedKey("has no kid");
  const url = withScheme(given);
  if (!/^https?:/i.test(url)) throw damagedLockedKey("has no Tang server's url");
  if (!isServerUrl(url)) throw onlyClevisOpens(`for the Tang server "${withoutPassword(given)}"`);
  return { url, adv, exchange: exchangeKeyOf(adv, kid, damagedLockedKey), kid };
}

/**
 * Opens a key that is locked for a Tang server: the JWK's JSON.
 *
 * @throws KeystoreError `key` if the file is damaged, `unusable` if the server does not help
 */
async function openWithTang(jwe: Buffer, signal?: AbortSignal): Promise<Buffer> {
  const { jwe: parsed, header } = parseCompact(jwe);
  const server = tangServer(jwe);
  const epk = checkJwk(member(header, "epk"), (reason) => damagedLockedKey(`has an epk that ${reason}`));
  if (!isEcPublic(epk) || epk.crv !== server.exchange.crv) {
    throw damagedLockedKey(`has an epk that is not a public key on ${server.exchange.crv}`);
  }
  const key = contentKey(await recover(server, epk, signal));
  try {
    return await decryptContent(parsed, key);
  } catch {
    const hint = "another server answers at that URL, or the locked key is damaged: restore it from a backup";
    throw serverError(server.url, "gives an answer that does not open it", hint);
  }
}

/** The content key. It is agreed on directly, so the AlgorithmID is the enc (RFC 7518, section 4.6.2). */
function contentKey(z: Buffer): Buffer {
  return concatKdf(z, ENC, NO_PARTY_INFO, NO_PARTY_INFO, ENCRYPTIONS[ENC].cek);
}

/**
 * The secret that `epk` and the server's exchange key share: s·epk. The server does not learn it. We send it the point
 * x = epk + e·G with a random e, and it answers y = s·x. Then s·epk = y - e·(s·G), where s·G is its public
 * exchange key.
 */
async function recover({ url, exchange, kid }: TangServer, epk: EcJwk, signal?: AbortSignal): Promise<Buffer> {
  // In the binary this module is a separate asset, which is evaluated only here.
  const { p256, p384, p521 } = await import("@noble/curves/nist.js");
  const { Point } = { "P-256": p256, "P-384": p384, "P-521": p521 }[epk.crv];
  const pointOf = (jwk: EcJwk): InstanceType<typeof Point> => Point.fromBytes(point(jwk));
  const ephemeral = createECDH(CURVES[epk.crv].openssl);
  const blinded = Point.fromBytes(ephemeral.generateKeys()).add(pointOf(epk));
  const x = { alg: "ECMR", ...pointJwk(epk.crv, blinded.toBytes(false)) };
  const answer = await askTang(url, `/rec/${kid}`, x, signal);
  const fail: Fail = (reason) => serverError(url, `gives an answer that ${reason}`, NOT_TANG);
  const jwk = checkJwk(parseJson(answer, ANSWER_DEPTH, fail), fail);
  if (!isEcPublic(jwk) || jwk.crv !== epk.crv) throw fail(`is not a public key on ${epk.crv}`);
  const shared = pointOf(jwk).subtract(pointOf(exchange).multiply(BigInt(`0x${ephemeral.getPrivateKey("hex")}`)));
  if (shared.is0()) throw fail("leaves no secret");
  return bytesOf(pointJwk(epk.crv, shared.toBytes(false)).x);
}
