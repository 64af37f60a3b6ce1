// Private keys at rest that open only where a Tang server can be reached, as clevis writes and reads them: McCallum and Relyea's exchange.

import { createCipheriv, createECDH, randomBytes } from "node:crypto";
import { KeystoreError, printable, usageError } from "../errors.ts";
import { isObject, member, parseJson, type JsonObject } from "../json.ts";
import { ENCRYPTIONS } from "../jwe/alg/algorithms.ts";
import { decryptContent } from "../jwe/engine.ts";
import { concatKdf } from "../jwe/alg/key-wrap.ts";
import { CURVES, isEcPublic, point, pointJwk, type EcJwk, type EcPublicJwk } from "../jwk/ec.ts";
import { bytesOf, checkJwk, thumbprint } from "../jwk/jwk.ts";
import { exchangeKey, exchangeKeyOf, signingKeys, verifyAdvertisement } from "./advertisement.ts";
import { askTang, isServerUrl, serverError } from "./http.ts";
import { damagedLockedKey, parseLocked, type AtRest, type AtRestType } from "./locked-file.ts";

const ALG = "ECDH-ES"; // RFC 7518, section 4.6, with no key wrapped
const ENC = "A256GCM";
const NO_PARTY_INFO = Buffer.alloc(0);
const ANSWER_DEPTH = 4; // nesting of a server's answer, a JWK

/** A Tang server as a locked key names it. */
export interface TangServer {
  readonly url: string;
  /** The JWK set that it advertised: pinned, whatever it says later. */
  readonly adv: JsonObject;
  /** The key of the set that keys are locked for. */
  readonly exchange: EcPublicJwk;
}

/**
 * Asks a server for its keys, and whether it opens what is locked for them.
 *
 * @param trust told the thumbprints of its signing keys, each of which signed; throws unless one is known
 * @throws KeystoreError `usage` if that is no URL, `key` (exit code 3) if the server fails
 */
export async function meetServer(url: string, trust: (thumbprints: readonly string[]) => Promise<void>): Promise<TangServer> {
  const shown = url.replace(/^([a-z]+:\/\/)?.*@/is, "$1…@"); // a user and a password do not belong there, nor into a log
  if (!isServerUrl(url)) throw usageError(`"${printable(shown, 256)}" is no Tang server's URL`, "use http://HOST[:PORT] or https://HOST[:PORT]");
  const answer = await askTang(url, "/adv");
  const fail = (reason: string): KeystoreError => serverError(url, `gives an advertisement that ${reason}`, "check that URL, and the server's keys: clevis would not take them either");
  const adv = verifyAdvertisement(answer, fail);
  await trust(thumbprints(adv));
  const server = { url, adv, exchange: exchangeKey(adv, fail) };
  await openWithTang(sealForTang(randomBytes(32), server)); // or what is locked for it would be lost
  return server;
}

/** Keys that are locked for a Tang server, each file naming its own. */
export const byTang: AtRestType = {
  kind: "Tang server",
  fits: (header) => {
    const clevis = member(header, "clevis");
    return member(header, "alg") === ALG && isObject(clevis) && member(clevis, "pin") === "tang";
  },
  atRestOf: (file) => atRestByTang(tangServer(file)),
};

/** A lock for a server. */
export function atRestByTang(server: TangServer): AtRest {
  return {
    kind: byTang.kind,
    url: server.url,
    seal: async (jwk) => sealForTang(jwk, server),
    open: openWithTang,
    sameAs: (file) => isSameServer(tangServer(file), server),
  };
}

/** Whether both are one server that still has a signing key of then. */
function isSameServer(one: TangServer, other: TangServer): boolean {
  const signers = thumbprints(one.adv);
  return one.url === other.url && thumbprints(other.adv).some((signer) => signers.includes(signer));
}

function thumbprints(adv: JsonObject): string[] {
  return signingKeys(adv, damagedLockedKey).map(thumbprint);
}

/** Seals a private key's JSON: a compact JWE (RFC 7516, section 7.1), its key agreed on with the server's (RFC 7518, section 4.6). */
function sealForTang(jwk: Buffer, { url, adv, exchange }: TangServer): Buffer {
  const ephemeral = createECDH(CURVES[exchange.crv].openssl);
  const epk = pointJwk(exchange.crv, ephemeral.generateKeys());
  const header = { alg: ALG, clevis: { pin: "tang", tang: { adv, url } }, enc: ENC, epk, kid: thumbprint(exchange) };
  const written = Buffer.from(JSON.stringify(header)).toString("base64url");
  const iv = randomBytes(ENCRYPTIONS[ENC].iv);
  const cipher = createCipheriv("aes-256-gcm", contentKey(ephemeral.computeSecret(point(exchange))), iv).setAAD(Buffer.from(written));
  const ciphertext = Buffer.concat([cipher.update(jwk), cipher.final()]);
  return Buffer.from([written, "", ...[iv, ciphertext, cipher.getAuthTag()].map((bytes) => bytes.toString("base64url"))].join("."));
}

/** The server that a locked key names. @throws KeystoreError `key` if the file is damaged */
export function tangServer(jwe: Buffer): TangServer {
  const { header } = parseLocked(jwe);
  const clevis = member(header, "clevis");
  const tang = isObject(clevis) ? member(clevis, "tang") : undefined;
  const [url, adv] = isObject(tang) ? [member(tang, "url"), member(tang, "adv")] : [];
  if (typeof url !== "string" || !isServerUrl(url) || !isObject(adv)) throw damagedLockedKey();
  return { url, adv, exchange: exchangeKeyOf(adv, member(header, "kid"), damagedLockedKey) };
}

/**
 * Opens a key that is locked for a Tang server, with its help: the JWK's JSON.
 *
 * @throws KeystoreError `key` if the file is damagedLockedKey, with exit code 3 if the server does not help
 */
async function openWithTang(jwe: Buffer): Promise<Buffer> {
  const { jwe: parsed, header, encryptedKey } = parseLocked(jwe);
  const server = tangServer(jwe);
  const epk = checkJwk(member(header, "epk"), damagedLockedKey);
  if (parsed.enc !== ENC || encryptedKey.length > 0 || !isEcPublic(epk) || epk.crv !== server.exchange.crv) throw damagedLockedKey();
  const key = contentKey(await recover(server, epk));
  try {
    return await decryptContent(parsed, key);
  } catch {
    throw serverError(server.url, "gives an answer that does not open it", "another server answers at that URL, or the locked key is damaged: restore it from a backup");
  }
}

/** RFC 7518, section 4.6.2: agreed on directly, so the AlgorithmID is the enc. */
function contentKey(z: Buffer): Buffer {
  return concatKdf(z, ENC, NO_PARTY_INFO, NO_PARTY_INFO, ENCRYPTIONS[ENC].cek);
}

/**
 * The secret shared by `epk` and the server's exchange key, as the server helps to find it without learning it: of x = epk + e·G,
 * which tells it nothing, it makes y = s·x; less e times its public key s·G that is s·epk.
 */
async function recover({ url, exchange }: TangServer, epk: EcJwk): Promise<Buffer> {
  const { p256, p384, p521 } = await import("@noble/curves/nist.js"); // in the binary an asset of its own, evaluated only here
  const { Point } = { "P-256": p256, "P-384": p384, "P-521": p521 }[epk.crv];
  const pointOf = (jwk: EcJwk): InstanceType<typeof Point> => Point.fromBytes(point(jwk));
  const ephemeral = createECDH(CURVES[epk.crv].openssl);
  const blinded = Point.fromBytes(ephemeral.generateKeys()).add(pointOf(epk));
  const answer = await askTang(url, `/rec/${thumbprint(exchange)}`, { alg: "ECMR", ...pointJwk(epk.crv, blinded.toBytes(false)) });
  const fail = (reason: string): KeystoreError => serverError(url, `gives an answer that ${reason}`, "check that URL: no Tang server does that");
  const jwk = checkJwk(parseJson(answer, ANSWER_DEPTH, fail), fail);
  if (!isEcPublic(jwk) || jwk.crv !== epk.crv) throw fail(`is no public key on ${epk.crv}`);
  const shared = pointOf(jwk).subtract(pointOf(exchange).multiply(BigInt(`0x${ephemeral.getPrivateKey("hex")}`)));
  if (shared.is0()) throw fail("leaves no secret");
  return bytesOf(pointJwk(epk.crv, shared.toBytes(false)).x);
}
