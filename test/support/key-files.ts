// Private key files that are changed, and the binary that must refuse them by a line that tells file and reason.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { attack, each, keys } from "./attacks.ts";
import { temporaryFolder } from "./folders.ts";
import { assertFailure } from "./program.ts";
import { forge, thumbprintOf, type Header, type PlainJwk } from "./second-jwe.ts";

/** The number in base64url. */
export const big = (text = ""): bigint => BigInt(`0x${Buffer.from(text, "base64url").toString("hex")}`);
/** A number in base64url, of so many bytes at least. */
export const encode = (value: bigint, bytes = 0): string => {
  const digits = value.toString(16);
  return Buffer.from(digits.padStart(Math.max(2 * bytes, digits.length + (digits.length % 2)), "0"), "hex").toString(
    "base64url",
  );
};
/** Text of another first letter. */
export const changed = (text = ""): string => (text.startsWith("A") ? "B" : "A") + text.slice(1);
/** The kid under which these keys lie in a store. */
export const storedKid = (jwk: PlainJwk): string => (jwk["kty"] === "oct" ? "symmetric" : thumbprintOf(jwk));

/** A store whose one private key file, named for `jwk`, holds this text. */
export function storeWith(jwk: PlainJwk, content: string | Buffer): { dir: string; file: string } {
  const dir = temporaryFolder();
  mkdirSync(join(dir, "private"), { mode: 0o700 });
  const file = join(dir, "private", `${storedKid(jwk)}.jwk`);
  writeFileSync(file, content, { mode: 0o600 });
  return { dir, file };
}

/** An annotation for each of the keys. */
export const sealed = new Map(
  Object.values(keys).map((jwk) => [jwk, forge([{ jwk, header: { kid: storedKid(jwk) } }])]),
);

/** Asserts that the binary refuses the only key that opens, by a line that names the file, the reason, and no secret. */
export function assertUnusable(jwk: PlainJwk, { dir, file }: { dir: string; file: string }, reason: RegExp): void {
  const line = assertFailure(attack(sealed.get(jwk) ?? "", dir), 3);
  assert.ok(line.includes(file), line);
  assert.match(line, reason);
  for (const name of ["d", "p", "q", "k"])
    assert.not.ok(jwk[name] !== undefined && line.includes(jwk[name].slice(0, 8)), line);
}

/** A test for each row: the binary refuses the private key file of a key that was changed. */
export function refuses(
  rows: readonly (readonly [name: string, jwk: PlainJwk, change: Header, reason: RegExp])[],
): void {
  each<[jwk: PlainJwk, change: Header, reason: RegExp]>(
    rows,
    (name) => `refuses a private key file with ${name}`,
    (jwk, change, reason) => assertUnusable(jwk, storeWith(jwk, JSON.stringify({ ...jwk, ...change })), reason),
  );
}
