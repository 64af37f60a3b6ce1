// OpenSSH's keys: public lines (RFC 4253, section 6.6; RFC 5656, section 3.1) and private files (PROTOCOL.key).

import { createDecipheriv } from "node:crypto";
import { CURVES, pointJwk, type Curve } from "../../jwk/ec.ts";
import { checkJwk } from "../../jwk/jwk.ts";
import { candidate, type Candidate, type Found } from "./candidate.ts";
import { passphrasesIn, wrongPassphrase, type Passphrase } from "./passphrase.ts";
import { notForEncryption, refused, unusableKind } from "./refusal.ts";

const MAGIC = "openssh-key-v1\0";
const LABEL = "OPENSSH PRIVATE KEY";
const CURVE_NAMES: ReadonlyMap<string, Curve> = new Map([
  ["nistp256", "P-256"],
  ["nistp384", "P-384"],
  ["nistp521", "P-521"],
]);

// A line of a .pub file, authorized_keys or known_hosts: options or hosts, the type, the key, a comment.
const LINE = /(?:^|[\s,"])((?:ssh|ecdsa|sk)-[\w.@-]{1,60})[ \t]+(AAAA[A-Za-z0-9+/]{8,}={0,3})(?:[ \t]+([^\n]*))?/;

/** Whether a PEM label is that of OpenSSH's own private keys. */
export function isOpenssh(label: string): boolean {
  return label === LABEL;
}

/** The keys of public lines; none if there is no such line. */
export function readPublicLines(text: string): readonly Candidate[] {
  return text.split(/\r\n?|\n/).flatMap((line) => {
    const match = line.trimStart().startsWith("#") ? null : LINE.exec(line);
    if (match === null) return [];
    const [, type = "", base64 = "", comment = ""] = match;
    return [
      candidate(() => {
        const wire = new Wire(Buffer.from(base64, "base64"));
        if (wire.text() !== type) throw damaged();
        return { jwk: checkJwk(publicMembers(type, wire), (reason) => refused(reason)), label: comment.trim() };
      }),
    ];
  });
}

/** The key of a private file. @throws KeystoreError `key` if it is damaged, or a key that cannot be used here */
export async function readOpenssh(bytes: Buffer, passphrase: Passphrase): Promise<Found> {
  const file = new Wire(bytes);
  if (file.take(MAGIC.length).toString("latin1") !== MAGIC) throw damaged();
  const [cipher, kdf, options, count] = [file.text(), file.text(), file.string(), file.number()];
  if (count !== 1) throw damaged();
  const open = new Wire(file.string());
  publicMembers(open.text(), open); // refuses a type that cannot be used here, before a passphrase is asked for
  const sealed = file.string();
  if (cipher === "none") return privateKey(sealed) ?? refuse(damaged());
  for (const one of passphrasesIn(await passphrase())) {
    const found = privateKey(await decrypt(sealed, cipher, kdf, new Wire(options), one));
    if (found !== undefined) return found;
  }
  throw wrongPassphrase();
}

function refuse(error: Error): never {
  throw error;
}

/** The private part of a file; undefined if its two check numbers differ, as they do after a wrong passphrase. */
function privateKey(bytes: Buffer): Found | undefined {
  const secret = new Wire(bytes);
  if (secret.number() !== secret.number()) return undefined;
  return { jwk: checkJwk(privateMembers(secret.text(), secret), (reason) => refused(reason)) };
}

/** The ciphers of OpenSSH that are read: the name that node:crypto has for each, and bytes of its key and IV. */
const CIPHERS: Readonly<Record<string, readonly [name: string, key: number, iv: number]>> = {
  "aes256-ctr": ["aes-256-ctr", 32, 16], // ssh-keygen's own choice
  "aes192-ctr": ["aes-192-ctr", 24, 16],
  "aes128-ctr": ["aes-128-ctr", 16, 16],
  "aes256-cbc": ["aes-256-cbc", 32, 16], // that of older ones
  "aes192-cbc": ["aes-192-cbc", 24, 16],
  "aes128-cbc": ["aes-128-cbc", 16, 16],
};
const MAX_ROUNDS = 1000; // about 50 ms each; ssh-keygen has 16 or 24

/**
 * The plaintext; after a wrong passphrase it is random.
 *
 * @throws KeystoreError `key` if it is encrypted in another way
 */
async function decrypt(
  sealed: Buffer,
  cipher: string,
  kdf: string,
  options: Wire,
  passphrase: Buffer,
): Promise<Buffer> {
  const [salt, rounds] = [options.string(), options.number()];
  const known = Object.hasOwn(CIPHERS, cipher) ? CIPHERS[cipher] : undefined;
  if (known === undefined || kdf !== "bcrypt" || rounds > MAX_ROUNDS) {
    const command = "run ssh-keygen -p -Z aes256-ctr -a 24 -f COPY on a copy of the file, then import COPY";
    throw refused("is an OpenSSH key that is encrypted in an unusual way", command);
  }
  const [name, keyBytes, ivBytes] = known;
  const { default: bcrypt } = await import("bcrypt-pbkdf");
  const key = Buffer.alloc(keyBytes + ivBytes);
  const failed = bcrypt.pbkdf(passphrase, passphrase.length, salt, salt.length, key, key.length, rounds);
  if (failed !== 0 || sealed.length % 16 !== 0) throw damaged();
  const decipher = createDecipheriv(name, key.subarray(0, keyBytes), key.subarray(keyBytes)).setAutoPadding(false);
  return Buffer.concat([decipher.update(sealed), decipher.final()]);
}

function curveOf(type: string): Curve | undefined {
  const [, name = ""] = /^ecdsa-sha2-(nistp\d{3})$/.exec(type) ?? [];
  return CURVE_NAMES.get(name);
}

/** What follows the type in a public key. @throws KeystoreError `key` if keys of the type cannot be used here */
function publicMembers(type: string, wire: Wire): object {
  if (type === "ssh-rsa") {
    const [e, n] = [wire.integer(), wire.integer()];
    return { kty: "RSA", n: encoded(n), e: encoded(e) };
  }
  const curve = curveOf(type);
  if (curve !== undefined) return pointMembers(curve, wire);
  throw unusableType(type);
}

function unusableType(type: string): Error {
  if (type.endsWith("-cert-v01@openssh.com"))
    return refused("is an OpenSSH certificate", "name the public key that it is for: the file without -cert");
  if (type.startsWith("sk-")) return notForEncryption("is a key of a FIDO token, which signs and cannot encrypt");
  return unusableKind(type) ?? refused("is an OpenSSH key of a type that is not known here");
}

function pointMembers(curve: Curve, wire: Wire): object {
  wire.text(); // the curve's name again
  const point = wire.string();
  if (point[0] !== 4 || point.length !== 1 + 2 * CURVES[curve].bytes) throw damaged();
  return pointJwk(curve, point);
}

/** What follows the type in a private key. */
function privateMembers(type: string, wire: Wire): object {
  const curve = curveOf(type);
  if (curve !== undefined) {
    const point = pointMembers(curve, wire);
    const d = wire.integer().toString(16);
    return { ...point, d: Buffer.from(d.padStart(2 * CURVES[curve].bytes, "0"), "hex").toString("base64url") };
  }
  const [n, e, d, qi, p, q] = [
    wire.integer(),
    wire.integer(),
    wire.integer(),
    wire.integer(),
    wire.integer(),
    wire.integer(),
  ];
  if (type !== "ssh-rsa" || p < 2n || q < 2n) throw damaged();
  const numbers = { n, e, d, p, q, dp: d % (p - 1n), dq: d % (q - 1n), qi };
  return { kty: "RSA", ...Object.fromEntries(Object.entries(numbers).map(([name, value]) => [name, encoded(value)])) };
}

function encoded(value: bigint): string {
  const digits = value.toString(16);
  return Buffer.from(digits.padStart(digits.length + (digits.length % 2), "0"), "hex").toString("base64url");
}

function damaged(): Error {
  return refused("is an OpenSSH key that is damaged");
}

/** Reads the types of RFC 4251, section 5. @throws KeystoreError `key` where the bytes end too early */
class Wire {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  take(length: number): Buffer {
    const end = this.#at + length;
    if (end > this.#bytes.length) throw damaged();
    const part = this.#bytes.subarray(this.#at, end);
    this.#at = end;
    return part;
  }

  number(): number {
    return this.take(4).readUInt32BE();
  }

  string(): Buffer {
    return this.take(this.number());
  }

  text(): string {
    return this.string().toString("latin1");
  }

  /** A multiple precision integer; a negative one becomes zero, which no key has. */
  integer(): bigint {
    const bytes = this.string();
    return bytes.length === 0 || (bytes[0] ?? 0) >= 0x80 ? 0n : BigInt(`0x${bytes.toString("hex")}`);
  }
}
