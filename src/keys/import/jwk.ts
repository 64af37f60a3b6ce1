// JSON Web Keys and sets of them (RFC 7517), as jose, step, WebCrypto, Keycloak and Azure write them; and what other
// JSON is.

import { decodeBase64url } from "../../base64.ts";
import { isObject, member, parseJson, type JsonObject } from "../../json.ts";
import { atRestKind } from "../../at-rest/at-rest.ts";
import { KeystoreError } from "../../errors.ts";
import { CURVES } from "../../jwk/ec.ts";
import { checkJwk } from "../../jwk/jwk.ts";
import { candidate, type Candidate, type Found } from "./candidate.ts";
import { derBlock, encodedKeyFile } from "./pem.ts";
import { convertible, refused, unusableKind } from "./refusal.ts";

const JSON_DEPTH = 16;
const MAY_BE_EMPTY = ["kid", "use", "alg"]; // written empty by programs that mean nothing by it
const RSA_NUMBERS = ["n", "e", "d", "p", "q", "dp", "dq", "qi"];
const EC_NUMBERS = ["x", "y", "d"];
const MISSING = 2; // leading zero bytes of a coordinate
const BYTES: ReadonlyMap<unknown, number> = new Map(Object.entries(CURVES).map(([crv, { bytes }]) => [crv, bytes]));
const HSM = /^(RSA|EC|oct)-HSM$/; // Azure's names for keys that its HSMs hold

/**
 * The keys of a JWK or a JWK set.
 *
 * @param fromStore whether the file has the name of one that a key store locked
 * @throws KeystoreError `key` if it is other JSON
 */
export function readJson(bytes: Buffer, fromStore: boolean): readonly Candidate[] {
  const value = parseJson(bytes, JSON_DEPTH, (reason) => refused(reason));
  if (isObject(value) && member(value, "ciphertext") !== undefined) throw encrypted(bytes, jweHeader(value), fromStore);
  const keys = isObject(value) ? member(value, "keys") : value;
  // What is not a key in a set is ignored (RFC 7517, section 5).
  if (Array.isArray(keys) && (keys.length === 0 || keys.some(isKey)))
    return keys.filter(isKey).map((key) => candidate(() => readJwk(key), kidIn(key)));
  if (isKey(value)) return [candidate(() => readJwk(value), kidIn(value))];
  throw otherJson(value);
}

function isKey(value: unknown): value is JsonObject {
  return isObject(value) && typeof (member(value, "kty") ?? undefined) === "string";
}

function kidIn(jwk: JsonObject): string | undefined {
  const kid = member(jwk, "kid");
  return typeof kid === "string" && kid !== "" ? kid : undefined;
}

function readJwk(written: JsonObject): Found {
  const jwk = withoutEmpty(written);
  for (const name of ["kty", "crv"]) {
    const kind = member(jwk, name);
    const error = typeof kind === "string" ? unusableKind(kind) : undefined;
    if (error !== undefined) throw error;
  }
  return { jwk: checkJwk(jwk, (reason) => refused(reason)) };
}

/** The members that say something. `null`, an empty list of operations and an empty kid say nothing. */
function withoutEmpty(jwk: JsonObject): JsonObject {
  const bytes = BYTES.get(member(jwk, "crv"));
  const numbers = bytes === undefined ? RSA_NUMBERS : EC_NUMBERS;
  const members = Object.entries(jwk).flatMap(([name, value]): (readonly [string, unknown])[] => {
    const isEmpty = (name === "key_ops" && Array.isArray(value) && value.length === 0) || value === null;
    if (isEmpty || name === "created" || (MAY_BE_EMPTY.includes(name) && value === "")) return [];
    if (name === "kty" && typeof value === "string") return [[name, value.replace(HSM, "$1")]];
    if (typeof value !== "string" || (name !== "k" && !numbers.includes(name))) return [[name, value]];
    return [[name, name === "k" ? base64url(value) : canonical(base64url(value), bytes)]];
  });
  return Object.fromEntries<unknown>(members);
}

/** Azure's CLI and others write standard base64. */
function base64url(text: string): string {
  return text.replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

/** A number without the zero that Java puts before it, in as many bytes as its curve has: some drop leading zeros. */
function canonical(text: string, bytes = 0): string {
  const written = decodeBase64url(text);
  if (written === undefined) return text;
  const zeros = [...written, 1].findIndex((byte) => byte !== 0);
  const digits = written.subarray(Math.min(zeros, Math.max(0, written.length - bytes)));
  const missing = bytes - digits.length;
  const before = Buffer.alloc(missing > 0 && missing <= MISSING ? missing : 0);
  return Buffer.concat([before, digits]).toString("base64url");
}

/** What JSON is that is not a key: a key inside, which jq takes out, or something else. */
function otherJson(value: unknown): KeystoreError {
  const inside = keyInside(value, "", 6);
  if (inside !== undefined) return convertible("is JSON with a key inside", `jq -r '${inside}'`);
  if (Array.isArray(isObject(value) ? member(value, "keys") : value))
    return refused("is a JWK set with a member that is not a key");
  if (isObject(value) && member(value, "keys") !== undefined && !isObject(member(value, "keys")))
    return refused("is a JWK set whose keys are not a list");
  if (isObject(value) && member(value, "sops") !== undefined)
    return refused("is a file that sops encrypted", "run sops -d FILE, and import the key that this prints");
  return refused("is JSON, but not a JWK: it has no kty", "name a file with a JWK or PEM");
}

/**
 * The jq filter of the first key in a JSON value: a JWK, or text with one, PEM, or base64 as AWS and Kubernetes write
 * it.
 */
function keyInside(value: unknown, path: string, depth: number): string | undefined {
  if (path !== "" && (isKey(value) || (typeof value === "string" && isKeyText(value)))) return path;
  if (depth === 0 || (!isObject(value) && !Array.isArray(value))) return undefined;
  for (const [name, inner] of Object.entries(value).slice(0, 64)) {
    if (!/^[\w.-]{1,64}$/.test(name)) continue;
    const step = Array.isArray(value) ? `[${name}]` : /^[A-Za-z_]\w*$/.test(name) ? `.${name}` : `["${name}"]`;
    const filter = keyInside(inner, path === "" && step.startsWith("[") ? `.${step}` : path + step, depth - 1);
    if (filter !== undefined) return filter;
  }
  return undefined;
}

function isKeyText(text: string): boolean {
  const plain = encodedKeyFile(text) ?? Buffer.from(text);
  return derBlock(plain) !== undefined || /-----BEGIN |"kty"/.test(plain.toString("latin1"));
}

/** The error for a JWE or a JWT in compact form. */
export function refuseCompact(text: string, fromStore: boolean): KeystoreError {
  const parts = text.trim().split(".");
  if (parts.length === 3) return refused("is a JWT, a signed token", "name a file with a JWK or PEM");
  return encrypted(Buffer.from(text.trim()), decodedHeader(parts[0]), fromStore);
}

function decodedHeader(part: unknown): JsonObject {
  try {
    const header: unknown = JSON.parse(Buffer.from(typeof part === "string" ? part : "", "base64url").toString());
    return isObject(header) ? header : {};
  } catch {
    return {};
  }
}

/** What the headers of a JWE in JSON say together. */
function jweHeader(jwe: JsonObject): JsonObject {
  const recipients = member(jwe, "recipients");
  const first: unknown = Array.isArray(recipients) ? recipients[0] : jwe;
  const own = isObject(first) ? member(first, "header") : undefined;
  return { ...(isObject(own) ? own : {}), ...decodedHeader(member(jwe, "protected")) };
}

const IMPORT = "| ocicrypt-keystore import NAME -";

/** The error for an encrypted key: who wrote it, and what decrypts it. */
function encrypted(jwe: Buffer, header: JsonObject, fromStore: boolean): KeystoreError {
  if (fromStore || isOurs(jwe)) {
    const unlock = "run ocicrypt-keystore unlock on the store that it comes from";
    return refused(`is locked: ${unlock}`, "then import it again: removed keys are unlocked too");
  }
  if (isObject(member(header, "clevis")))
    return refused("is a JWE that clevis wrote", `run clevis decrypt < FILE ${IMPORT}`);
  const alg = member(header, "alg");
  if (typeof alg === "string" && alg.startsWith("PBES2-")) {
    return refused(
      "is a JWE that a passphrase opens, as step writes it",
      `run step crypto jwe decrypt < FILE ${IMPORT}`,
    );
  }
  return refused("is a JWE, an encrypted file", `decrypt it first: jose jwe dec -i FILE -k KEY ${IMPORT}`);
}

function isOurs(jwe: Buffer): boolean {
  try {
    return jwe.includes('"recipients"') && atRestKind(jwe) !== "Tang server";
  } catch (error) {
    if (error instanceof KeystoreError) return false;
    throw error;
  }
}
