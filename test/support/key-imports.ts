// Importing key files in this process, and what openssl and ssh-keygen say of the same files.

import { createHash, createPublicKey, type JsonWebKey } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { errorLine } from "../../src/errors.ts";
import { isPrivate, isSymmetric, kidOf } from "../../src/jwk/jwk.ts";
import { parseKey } from "../../src/keys/import.ts";
import { secretFile, temporaryFolder } from "./folders.ts";
import { testWith, tool, use } from "./parts.ts";

export const MAKE =
  "ocicrypt-keystore keygen NAME makes a key that encrypts; RSA keys and EC keys on P-256 can be imported";
export const DAMAGED = "it is damaged: export it again from where it was made";
export const CHOOSE = "choose one with --kid KID";
export const NAME_ONE = "name a file with a key or a certificate";
export const FORBIDDEN =
  "give a key for encryption; if this one may encrypt too, run jq 'del(.. | objects | (.use, .alg, .key_ops))' FILE | ocicrypt-keystore import NAME -";

/** A file, and the passphrase or the kid that the user gives with it. */
export interface KeyFile {
  readonly content: string | Buffer;
  readonly passphrase?: string;
  readonly kid?: string;
}

export const of = (content: string | Buffer, more: Omit<KeyFile, "content"> = {}): KeyFile => ({ content, ...more });

/** What became of a file: the key's thumbprint and whether it is private, or the line; and the notes. */
export async function outcome({
  content,
  passphrase,
  kid,
}: KeyFile): Promise<{ is: string; notes: readonly string[] }> {
  const notes: string[] = [];
  const ask = (): Promise<Buffer> =>
    passphrase === undefined
      ? Promise.reject(new Error("nobody asked for a passphrase"))
      : Promise.resolve(Buffer.from(passphrase));
  try {
    const jwk = await parseKey(Buffer.from(content), ask, { kid, note: (line) => void notes.push(line) });
    const half = isPrivate(jwk) ? "private" : "public";
    return { is: isSymmetric(jwk) ? `symmetric ${String(jwk.k)}` : `${half} ${kidOf(jwk)}`, notes };
  } catch (error) {
    return { is: errorLine(error), notes };
  }
}

export const line = (what: string, hint: string): string =>
  `ocicrypt-keystore: the key to import ${what}; nothing was imported; ${hint}`;

/** The RFC 7638 thumbprint, computed here. */
export function thumbprint({ kty, crv, x, y, n, e }: JsonWebKey): string {
  const members = kty === "RSA" ? { e, kty, n } : { crv, kty, x, y };
  return createHash("sha256").update(JSON.stringify(members)).digest("base64url");
}

export const ofPem = (pem: string): string => thumbprint(createPublicKey(pem).export({ format: "jwk" }));

// What openssl makes and says. A key is made when the first test needs it.

const openssl = tool("openssl");
export const run = (...args: readonly string[]): string => use(openssl ?? "", args);
export const der = (...args: readonly string[]): Buffer => {
  const out = join(temporaryFolder(), "out");
  run(...args, "-outform", "DER", "-out", out);
  return readFileSync(out);
};
export const ecPem = (curve: string): string =>
  run("genpkey", "-algorithm", "EC", "-pkeyopt", `ec_paramgen_curve:${curve}`);
export const once = <T>(make: () => T): (() => T) => {
  let made: { readonly value: T } | undefined;
  return () => (made ??= { value: make() }).value;
};
export const EC = once(() => ecPem("P-256"));
export const RSA = once(() => run("genrsa", "2048"));
export const EC_FILE = once(() => secretFile(EC()));
export const RSA_FILE = once(() => secretFile(RSA()));
export const PASSOUT = ["-passout", "pass:secret"];

/** The public key that openssl reads in a file. */
export const opensslSays = (content: string | Buffer, ...args: readonly string[]): string =>
  ofPem(run("pkey", "-in", secretFile(content), "-pubout", "-passin", "pass:secret", ...args));

/** A new self-signed certificate. */
export const selfSigned = (key: string): string => run("req", "-x509", "-key", key, "-subj", "/CN=self", "-days", "1");

/** A command of a hint, with the file and where its output goes. */
export const withKey = (command: string): string => `run ${command} FILE | ocicrypt-keystore import NAME -`;

/** A file that is taken, what the real program says of it, and the notes that are shown. */
export type Accepted = readonly [
  name: string,
  file: () => KeyFile,
  says: (content: string | Buffer) => string,
  notes?: readonly string[],
];

export const privateBy =
  (...args: readonly string[]) =>
  (content: string | Buffer): string =>
    `private ${opensslSays(content, ...args)}`;
export const publicBy =
  (...args: readonly string[]) =>
  (content: string | Buffer): string =>
    `public ${opensslSays(content, "-pubin", ...args)}`;
export const isEc = (): string => `private ${ofPem(EC())}`;
export const isEcPublic = (): string => `public ${ofPem(EC())}`;

/** A test for each row: the file is taken as what the real program says. */
export function takes(rows: readonly Accepted[]): void {
  for (const [name, file, says, notes = []] of rows) {
    testWith(openssl, "openssl", `takes ${name}`, async () => {
      const made = file();
      assert.equal(await outcome(made), { is: says(made.content), notes });
    });
  }
}

/** A file that is refused, and the line. */
export type Refused = readonly [name: string, file: () => KeyFile, is: string];

/** A test for each row: the file is refused, and the command that the line names makes a file that is taken. */
export function refuses(rows: readonly Refused[]): void {
  for (const [name, file, is] of rows) {
    testWith(openssl, "openssl", `refuses ${name}, and says what to do`, async () => {
      const made = file();
      assert.is((await outcome(made)).is, is);
      const [, command] = /run (openssl .*) FILE \| ocicrypt-keystore import NAME -/.exec(is) ?? [];
      if (command === undefined) return;
      const shell = command.replace("openssl pkcs12", "openssl pkcs12 -passin pass:secret");
      const converted = use("/bin/sh", ["-c", `${shell} '${secretFile(made.content)}'`]);
      assert.match((await outcome(of(converted))).is, ofPem(EC()), "the command makes a file that is taken");
    });
  }
}
