// Private keys at rest that open if some of several pins open, as clevis's sss: the content key is shared by Shamir's
// scheme over a prime field, and each share is locked on its own.

import { generatePrimeSync, randomBytes } from "node:crypto";
import { decodeBase64url } from "../base64.ts";
import { asKeystoreError, KeystoreError, unusableError, usageError } from "../errors.ts";
import { member } from "../json.ts";
import { ENCRYPTIONS } from "../jwe/alg/algorithms.ts";
import { decryptContent } from "../jwe/engine.ts";
import {
  clevisPin,
  damagedLockedKey,
  ENC,
  parseCompact,
  parseLocked,
  sealCompact,
  type AtRest,
  type AtRestType,
  type SecretSource,
} from "./locked-file.ts";

const PIN = "sss";
const BYTES = ENCRYPTIONS[ENC].cek; // of the prime, so of each number of a share

/** A point of the polynomial. */
type Share = readonly [x: bigint, y: bigint];

/** The lock of a share. */
type LockOf = (file: Buffer, secrets: SecretSource) => AtRest;

interface Part {
  readonly file: Buffer;
  readonly lock: AtRest;
}

/** How many parts a file needs, and its parts. */
interface Policy {
  readonly prime: bigint;
  readonly threshold: number;
  readonly parts: readonly Part[];
}

/** Keys that are locked with clevis's sss. */
export function shares(lockOf: LockOf): AtRestType {
  return {
    alg: "dir",
    pin: PIN,
    atRestOf: (file) => {
      const { threshold, parts } = policy(file, lockOf);
      return atRestByShares(
        threshold,
        parts.map(({ lock }) => lock),
        lockOf,
      );
    },
  };
}

/** A lock that `threshold` of these locks open together. */
export function atRestByShares(threshold: number, locks: readonly AtRest[], lockOf: LockOf): AtRest {
  const onlyServers = locks.every(({ kind }) => kind === "Tang server" || kind === "group of Tang servers");
  const urls = locks.flatMap(({ url }) => url ?? []).join(", ");
  return {
    kind: onlyServers ? "group of Tang servers" : "clevis policy",
    ...(urls === "" ? {} : { url: `${urls} (${threshold} of ${locks.length} must answer)` }),
    seal: async (jwk) => await sealShares(jwk, threshold, locks),
    open: async (file, signal) => await openShares(file, policy(file, lockOf), signal),
    sameAs: (file) => {
      const other = policy(file, lockOf);
      const known = other.parts.filter((part) => locks.some((lock) => isSame(lock, part)));
      return other.threshold === threshold && other.parts.length === locks.length && known.length === locks.length;
    },
  };
}

function isSame(one: AtRest, { file, lock }: Part): boolean {
  return one.kind === lock.kind && one.sameAs(file);
}

/** @throws KeystoreError `key` if the file is damaged */
function policy(file: Buffer, lockOf: LockOf): Policy {
  const { config = {} } = clevisPin(parseLocked(file).header) ?? {};
  const [p, threshold, parts] = [member(config, "p"), member(config, "t"), member(config, "jwe")];
  const prime = typeof p === "string" ? decodeBase64url(p) : undefined;
  if (prime?.length !== BYTES) throw damagedLockedKey(`has no p of ${BYTES} bytes`);
  if (!Array.isArray(parts) || !parts.every((part) => typeof part === "string")) throw damagedLockedKey("has no jwe");
  if (typeof threshold !== "number" || !Number.isInteger(threshold) || threshold < 1 || threshold > parts.length) {
    throw damagedLockedKey("has a t that is not the number of some of its parts");
  }
  return { prime: number(prime), threshold, parts: parts.map((part) => lockedPart(Buffer.from(part), lockOf)) };
}

/** A part that cannot be opened here is no failure: others may suffice. */
function lockedPart(file: Buffer, lockOf: LockOf): Part {
  try {
    return { file, lock: lockOf(file, noSecret) };
  } catch (error) {
    const fail = async (): Promise<never> => await Promise.reject(asKeystoreError(error));
    return { file, lock: { kind: "clevis policy", seal: fail, open: fail, sameAs: () => false } };
  }
}

async function noSecret(): Promise<never> {
  return await Promise.reject(damagedLockedKey("has a part that is not one of clevis's"));
}

async function openShares(file: Buffer, { prime, threshold, parts }: Policy, outer?: AbortSignal): Promise<Buffer> {
  const { jwe } = parseCompact(file);
  const enough = new AbortController();
  const signal = outer === undefined ? enough.signal : AbortSignal.any([outer, enough.signal]);
  const opening = parts.map(async (part) => share(await part.lock.open(part.file, signal), prime));
  const points = await firstOf(threshold, opening).finally(() => enough.abort());
  const cek = secret(points, prime);
  try {
    return await decryptContent(jwe, cek);
  } catch {
    throw damagedLockedKey("does not open with the key that its parts give");
  }
}

/** The first results, as many as are needed. @throws KeystoreError `unusable` if too many fail */
async function firstOf<T>(needed: number, attempts: readonly Promise<T>[]): Promise<T[]> {
  return await new Promise((resolve, reject) => {
    const results: T[] = [];
    const failures: KeystoreError[] = [];
    const fail = (error: unknown): void => {
      failures.push(asKeystoreError(error));
      if (failures.length === attempts.length - needed + 1) reject(tooFew(needed, attempts.length, failures));
    };
    for (const attempt of attempts) {
      attempt.then((result) => {
        if (results.push(result) === needed) resolve(results);
      }, fail);
    }
  });
}

function tooFew(needed: number, all: number, failures: readonly KeystoreError[]): KeystoreError {
  const [first] = failures;
  const reasons = [...new Set(failures.map(({ message }) => message))].join(", ");
  const message = `it needs ${needed} of its ${all} parts, and ${failures.length} do not open: ${reasons}`;
  return unusableError(message, first?.hint ?? "");
}

function share(bytes: Buffer | undefined, prime: bigint): Share {
  if (bytes?.length !== 2 * BYTES) throw damagedLockedKey(`has a share that does not have ${2 * BYTES} bytes`);
  const [x, y] = [number(bytes.subarray(0, BYTES)), number(bytes.subarray(BYTES))];
  if (x >= prime || y >= prime) throw damagedLockedKey("has a share that is not in its field");
  return [x, y];
}

/** The polynomial's value at 0, by Lagrange's interpolation. */
function secret(points: readonly Share[], prime: bigint): Buffer {
  let sum = 0n;
  for (const [x, y] of points) {
    let [above, below] = [y, 1n];
    for (const [other] of points) {
      if (other === x) continue;
      above = (above * (prime - other)) % prime;
      below = (below * (x - other + prime)) % prime;
    }
    sum = (sum + above * inverse(below, prime)) % prime;
  }
  return bytesOf(sum);
}

/** The inverse in the field, by Euclid's algorithm. */
function inverse(value: bigint, prime: bigint): bigint {
  let [a, b, u, v] = [value, prime, 1n, 0n];
  while (b !== 0n) {
    const quotient = a / b;
    [a, b, u, v] = [b, a - quotient * b, v, u - quotient * v];
  }
  if (a !== 1n) throw damagedLockedKey("has a p that is not a prime");
  return ((u % prime) + prime) % prime;
}

/** Seals a private key's JSON: the header has the locked shares of its content key. */
async function sealShares(jwk: Buffer, threshold: number, locks: readonly AtRest[]): Promise<Buffer> {
  const prime = generatePrimeSync(8 * BYTES, { bigint: true });
  const coefficients = Array.from({ length: threshold }, () => randomBelow(prime));
  const value = (x: bigint): bigint => coefficients.reduceRight((sum, one) => (sum * x + one) % prime, 0n);
  const parts = [];
  for (const lock of locks) {
    const x = randomBelow(prime - 1n) + 1n; // never 0, where the secret is
    parts.push((await lock.seal(Buffer.concat([bytesOf(x), bytesOf(value(x))]))).toString());
  }
  const sss = { jwe: parts, p: bytesOf(prime).toString("base64url"), t: threshold };
  const file = sealCompact({ alg: "dir", clevis: { pin: PIN, sss } }, bytesOf(value(0n)), jwk);
  mustFit(file);
  return file;
}

function mustFit(file: Buffer): void {
  try {
    parseLocked(file);
  } catch {
    throw usageError("a file for so many Tang servers is too large to be read again", "name fewer with --tang");
  }
}

/** A random number below a limit. */
function randomBelow(limit: bigint): bigint {
  for (;;) {
    const value = number(randomBytes(BYTES));
    if (value < limit) return value;
  }
}

function number(bytes: Buffer): bigint {
  return BigInt(`0x${bytes.toString("hex")}`);
}

function bytesOf(value: bigint): Buffer {
  return Buffer.from(value.toString(16).padStart(2 * BYTES, "0"), "hex");
}
