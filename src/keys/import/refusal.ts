// Why a key is not imported, and what the user can do instead. The words never quote the input.

import { keyError, type KeystoreError } from "../../errors.ts";

const MAKE = "ocicrypt-keystore keygen NAME makes a key that encrypts; RSA keys and EC keys on P-256 can be imported";
const DAMAGED = "it is damaged: export it again from where it was made";
const PIPED = "FILE | ocicrypt-keystore import NAME -";
const WITHOUT_USE = "jq 'del(.. | objects | (.use, .alg, .key_ops))'";

/** What to do about a reason of which the key's own text does not tell more. The first row that fits counts. */
const HINTS: readonly (readonly [reason: RegExp, hint: string])[] = [
  [/symmetric key of a size|empty symmetric/, "ocicrypt-keystore keygen NAME --type oct makes one of 256 bits"],
  [
    /is an RSA key of \d+ bits|member n that is too long/,
    "ocicrypt-keystore keygen NAME --type rsa makes one that fits",
  ],
  [/a kty other than|a crv other than/, MAKE],
  [/its "(use|key_ops|alg)"/, `give a key for encryption; if this one may encrypt too, run ${WITHOUT_USE} ${PIPED}`],
  [/more than two primes/, MAKE],
  [/symmetric key without its k/, "export it with its k from where it was made"],
  [/has no p in/, "give all of p, q, dp, dq and qi: openssl and most libraries write them"],
  [/in canonical base64url/, "give each member as RFC 7518 has it, in base64url without padding"],
];

/** An error with a reason such as "is not JSON". Without a hint, the table has one. */
export function refused(reason: string, hint?: string): KeystoreError {
  const known = hint ?? HINTS.find(([pattern]) => pattern.test(reason))?.[1] ?? DAMAGED;
  return keyError(`the key to import ${reason}`, `nothing was imported; ${known}`);
}

/** An error for a file of another format, which one command turns into one that can be read. */
export function convertible(what: string, command: string): KeystoreError {
  return refused(what, `run ${command} ${PIPED}`);
}

const signs = (name: string): string => `is ${name} key, which signs and cannot encrypt`;
const agrees = (name: string): string => `is ${name} key, which ocicrypt's clients cannot use`;

/** Kinds of keys that cannot be used here, by the names that JOSE, OpenSSL and OpenSSH give them. */
const UNUSABLE: ReadonlyMap<string, string> = new Map([
  ["ed25519", signs("an Ed25519")],
  ["ed448", signs("an Ed448")],
  ["x25519", agrees("an X25519")],
  ["x448", agrees("an X448")],
  ["rsa-pss", signs("an RSA-PSS")],
  ["dsa", signs("a DSA")],
  ["dh", agrees("a Diffie-Hellman")],
  ["secp256k1", "is an EC key on secp256k1, not on P-256, P-384 or P-521"],
  ["p-256k", "is an EC key on secp256k1, not on P-256, P-384 or P-521"],
  ["ssh-ed25519", signs("an Ed25519")],
  ["ssh-dss", signs("a DSA")],
]);

/** The error for a kind of key that cannot be used here, undefined if it is not one that we know by name. */
export function unusableKind(name: string): KeystoreError | undefined {
  const what = UNUSABLE.get(name.toLowerCase());
  return what === undefined ? undefined : refused(what, MAKE);
}

/** The error for an EC key on a curve that cannot be used here. @param curve OpenSSL's name, if it is known */
export function unusableCurve(curve: string | undefined): KeystoreError {
  const named = curve === undefined ? "an unnamed curve" : curve;
  return unusableKind(named) ?? refused(`is an EC key on ${named}, not on P-256, P-384 or P-521`, MAKE);
}

/** The error for a key that is made for signatures or for a machine. */
export function notForEncryption(what: string): KeystoreError {
  return refused(what, MAKE);
}
