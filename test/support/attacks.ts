// A store with a key of each kind, and annotations sent to it through the built binary, killed after 5 seconds.

import { test } from "uvu";
import * as assert from "uvu/assert";
import type { PrivateKeys } from "../../src/jwe/key.ts";
import { checkJwk, type PrivateJwk } from "../../src/jwk/jwk.ts";
import { memoryKey } from "../../src/keys/memory.ts";
import { temporaryFolder } from "./folders.ts";
import { placeKey } from "./foreign-keys.ts";
import { assertFailure, run, type Result } from "./program.ts";
import { OPTSDATA, unwrapRequest } from "./requests.ts";
import { newKey, type PlainJwk } from "./second-jwe.ts";

/** The keys of {@link store}, one a kind. */
export const keys = {
  p256: newKey("P-256"),
  p384: newKey("P-384"),
  p521: newKey("P-521"),
  rsa: newKey("RSA-2048"),
  a128: newKey("oct-16"),
  a192: newKey("oct-24"),
  a256: newKey("oct-32"),
} as const;

/** A store that holds {@link keys} under their names. */
export const store = storeOf(keys);

/** A store of these keys under these names. */
export function storeOf(named: Readonly<Record<string, Readonly<Record<string, unknown>>>>): string {
  const dir = temporaryFolder();
  for (const [name, jwk] of Object.entries(named)) placeKey(dir, name, jwk);
  return dir;
}

/** An annotation: bytes or text as they are, anything else as JSON. */
export type Annotation = string | Buffer | object;

const encoded = (annotation: Annotation): string | Buffer =>
  typeof annotation === "string" || Buffer.isBuffer(annotation) ? annotation : JSON.stringify(annotation);

/** Asks the binary to unwrap an annotation; its code is null if it had to be killed. */
export function attack(annotation: Annotation, dir: string = store): Result {
  return run(["--keystore", dir], { input: unwrapRequest(encoded(annotation)), timeout: 5000 });
}

/** Asserts that the binary opens an annotation. */
export function assertOpens(annotation: Annotation, dir?: string, plaintext: string = OPTSDATA): void {
  const { code, stdout, stderr } = attack(annotation, dir);
  assert.is(code, 0, stderr);
  const { keyunwrapresults } = JSON.parse(stdout) as { keyunwrapresults: { optsdata: string } };
  assert.is(Buffer.from(keyunwrapresults.optsdata, "base64").toString(), plaintext);
}

/** Exit code 1: malformed or forbidden, whatever the keys. Returns the line. */
export function assertRefused(annotation: Annotation, reason: string | RegExp, dir?: string): string {
  const line = assertFailure(attack(annotation, dir), 1);
  assert.match(
    line,
    /^ocicrypt-keystore: the annotation .*; it is damaged, or is not a JWE that this provider accepts; encrypt the image again$/,
  );
  assert.match(line, reason);
  return line;
}

const NO_RECIPIENT =
  /^ocicrypt-keystore: this provider can open none of the annotation's recipients \(alg .*\); encrypt the image for a key of this store$/;
const NO_KEY =
  /^ocicrypt-keystore: no private key of the store opens this annotation \(.*\); import that key, or name the key store that has it with --keystore DIR$/;

/** Exit code 3: well formed, and its recipients are of algorithms or shapes that nobody here opens. Returns the line. */
export function assertSkipped(annotation: Annotation, dir?: string): string {
  const line = assertFailure(attack(annotation, dir), 3);
  assert.match(line, NO_RECIPIENT);
  return line;
}

/** Exit code 3: a recipient could be ours, and no key opens it. Returns the line. */
export function assertForeign(annotation: Annotation, dir?: string): string {
  const line = assertFailure(attack(annotation, dir), 3);
  assert.match(line, NO_KEY);
  return line;
}

/** Exit code 3, for either reason. Returns the line. */
export function assertUnopened(annotation: Annotation, dir?: string): string {
  const line = assertFailure(attack(annotation, dir), 3);
  assert.ok(NO_RECIPIENT.test(line) || NO_KEY.test(line), line);
  return line;
}

/** A test for each row of a table. */
export function each<Row extends readonly unknown[]>(
  rows: readonly (readonly [name: string, ...row: Row])[],
  title: (name: string) => string,
  body: (...row: Row) => void | Promise<void>,
): void {
  for (const [name, ...row] of rows) test(title(name), async () => await body(...row));
}

/** These keys as `open` asks for them, held as a store holds them. */
export function privateKeys(jwks: Readonly<Record<string, PlainJwk>>): PrivateKeys {
  const held = new Map(
    Object.entries(jwks).map(([kid, jwk]) => [
      kid,
      memoryKey(kid, checkJwk(jwk, (reason) => new Error(reason)) as PrivateJwk),
    ]),
  );
  return { privateKey: async (kid) => held.get(kid), privateKids: async () => [...held.keys()] };
}
