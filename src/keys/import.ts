// Reads keys that other programs wrote: JWK, JWK set, PEM of all kinds, certificates. Messages never quote the input.

import { createPrivateKey, createPublicKey, randomBytes } from "node:crypto";
import { keyError, KeystoreError } from "../errors.ts";
import { isObject, member, parseJson } from "../json.ts";
import { forbids, naturalAlgorithm } from "../jwe/alg/algorithms.ts";
import { checkJwk, isPrivate, isSymmetric, publicHalf, type Jwk } from "../jwk/jwk.ts";

const JSON_DEPTH = 5; // a JWK set, its list, a key, its x5c
const OCT_KID = /^[A-Za-z0-9_-]{22}$/; // 128 bits, as the kids that generateJwk makes

/**
 * Reads one key from the bytes of a file and checks that it can wrap; if it is private, that it can unwrap too.
 *
 * @param passphrase gives the passphrase of encrypted PEM; only called for such PEM
 * @returns the key with only the members that a store keeps; a symmetric key has its kid
 * @throws KeystoreError `key` if it is not a key, several keys, or a key that must not be used
 */
export async function parseKey(bytes: Buffer, passphrase: () => Promise<Buffer>): Promise<Jwk> {
  const text = bytes.toString("latin1").trimStart();
  if (/^eyJ[\w-]*\.\./.test(text)) throw locked(); // a compact JWE: a key that is locked for a Tang server
  const jwk = text.startsWith("{") || text.startsWith("[") ? parseJwk(bytes) : await parsePem(text, passphrase);
  const { kid, created: _created, ...key } = withSize(jwk);
  const obstacle = forbids(key, isPrivate(key) ? "unwrap" : "wrap") ?? forbids(publicHalf(key), "wrap");
  if (obstacle !== undefined) throw refused(`cannot be used here: ${obstacle}`);
  if (!isSymmetric(key)) return key;
  if (!isPrivate(key)) throw refused("is a symmetric key without its k");
  return { ...key, kid: kid !== undefined && OCT_KID.test(kid) ? kid : randomBytes(16).toString("base64url") };
}

function withSize(jwk: Jwk): Jwk {
  const natural = isSymmetric(jwk) ? naturalAlgorithm(jwk) : undefined;
  if (natural === undefined) return jwk;
  if (jwk.alg !== undefined && jwk.alg !== natural)
    throw refused('cannot be used here: its "alg" does not match its size');
  return { ...jwk, alg: natural };
}

function parseJwk(bytes: Buffer): Jwk {
  const value = parseJson(bytes, JSON_DEPTH, refused);
  const keys = isObject(value) ? member(value, "keys") : value;
  if (isObject(value) && member(value, "ciphertext") !== undefined) throw locked();
  if (keys === undefined) return checkJwk(value, refused);
  if (!Array.isArray(keys)) throw refused("is a JWK set whose keys are not a list");
  if (keys.length !== 1) throw refused(`is a JWK set of ${keys.length} keys, not of one`);
  return checkJwk(keys[0], refused);
}

async function parsePem(text: string, passphrase: () => Promise<Buffer>): Promise<Jwk> {
  const labels = [...text.matchAll(/^-----BEGIN ([A-Z0-9 ]{1,40})-----\s*$/gm)].map(([, label = ""]) => label);
  const secret = labels.filter((label) => label.endsWith("PRIVATE KEY"));
  const open = labels.filter((label) => label.endsWith("PUBLIC KEY"));
  if (secret.length > 1 || (secret.length === 0 && open.length > 1)) throw refused("has several keys, not one");
  const label = secret[0] ?? open[0] ?? labels.find((name) => name === "CERTIFICATE");
  if (label === undefined) throw refused("is neither a JWK nor PEM with a key or a certificate");
  const begin = text.indexOf(`-----BEGIN ${label}-----`);
  const end = text.indexOf(`-----END ${label}-----`, begin);
  if (end === -1) throw refused("is PEM without its end");
  const block = text.slice(begin, end) + `-----END ${label}-----\n`;
  const encrypted = label === "ENCRYPTED PRIVATE KEY" || /^Proc-Type: 4,ENCRYPTED/m.test(block);
  return exported(secret.length > 0, block, encrypted ? await passphrase() : undefined);
}

function exported(secret: boolean, key: string, passphrase: Buffer | undefined): Jwk {
  let jwk: unknown;
  try {
    const options = { key, format: "pem", ...(passphrase === undefined ? {} : { passphrase }) } as const;
    const object = secret ? createPrivateKey(options) : createPublicKey(key);
    jwk = object.export({ format: "jwk" });
  } catch {
    if (passphrase === undefined) throw refused("is damaged PEM, or a key of a type other than EC and RSA");
    throw refused("is encrypted PEM that this passphrase does not open");
  }
  return checkJwk(jwk, refused);
}

function locked(): KeystoreError {
  const unlock = "run ocicrypt-keystore unlock on the store that it comes from";
  return refused(`is locked: ${unlock}, which also unlocks removed keys`);
}

function refused(reason: string): KeystoreError {
  return keyError(
    `the key to import ${reason}`,
    "nothing was imported; give a JWK or PEM of one EC, RSA or symmetric key",
  );
}
