// PEM (RFC 7468, RFC 1421) and DER: private and public keys, certificates. DER is read as the PEM that it would be.

import { isUtf8 } from "node:buffer";
import { createPrivateKey, createPublicKey, type KeyObject } from "node:crypto";
import { errorCode, KeystoreError } from "../../errors.ts";
import { checkJwk } from "../../jwk/jwk.ts";
import { candidate, type Candidate } from "./candidate.ts";
import { readCertificates } from "./certificate.ts";
import { isOpenssh, readOpenssh } from "./openssh.ts";
import { pemOfAnotherKind } from "./other.ts";
import { passphrasesIn, wrongPassphrase, type Passphrase } from "./passphrase.ts";
import { refused, unusableCurve, unusableKind } from "./refusal.ts";
import { fromBase64 } from "./text.ts";

/** One block of PEM. */
export interface Block {
  readonly label: string;
  /** Such as `Proc-Type: 4,ENCRYPTED`. */
  readonly headers: readonly string[];
  readonly base64: string;
}

const HEADER = /^[A-Za-z][\w-]*: /;

/** The blocks of PEM, also if it is indented, quoted, in one line, or has `\n` for line ends. */
export function pemBlocks(text: string): readonly Block[] {
  const lines = /-----BEGIN [A-Z0-9 ]+-----(\\r)?\\n/.test(text) ? text.replace(/(\\r)?\\n/g, "\n") : text;
  const marks = [...lines.matchAll(/-----(BEGIN|END) ([A-Z0-9 ]{1,40})-----/g)];
  return marks.flatMap((begin, at) => {
    const [mark, kind, label = ""] = begin;
    if (kind !== "BEGIN") return [];
    const end = marks[at + 1];
    if (end?.[1] !== "END" || end[2] !== label) throw refused("is PEM without its end");
    const content = lines
      .slice(begin.index + mark.length, end.index)
      .split(/\r\n?|\n/)
      .map((line) => line.trim());
    const headers = content.filter((line) => HEADER.test(line));
    return [
      {
        label,
        headers,
        base64: content
          .filter((line) => !HEADER.test(line))
          .join("")
          .replace(/\s+/g, ""),
      },
    ];
  });
}

/** What DER is in PEM, by the tags of its members and of the members of the first one (X.690). */
const SHAPES: readonly (readonly [label: string, members: RegExp, inner?: RegExp])[] = [
  ["CERTIFICATE", /^30 30 03$/, /^(a0 )?02 30 30 30 30\b/], // RFC 5280, section 4.1
  ["DER CERTIFICATE REQUEST", /^30 30 03$/, /^02 30 30\b/], // RFC 2986, section 4
  ["DER X509 CRL", /^30 30 03$/],
  ["ENCRYPTED PRIVATE KEY", /^30 04$/], // RFC 5208, section 6
  ["PRIVATE KEY", /^02 30 04\b/], // RFC 5958, section 2
  ["PUBLIC KEY", /^30 03$/], // RFC 5280, section 4.1
  ["RSA PRIVATE KEY", /^02( 02){8}( 30)?$/], // RFC 8017, appendix A.1.2
  ["RSA PUBLIC KEY", /^02 02$/], // RFC 8017, appendix A.1.1
  ["EC PRIVATE KEY", /^02 04\b/], // RFC 5915, section 3
  ["DSA PRIVATE KEY", /^02( 02){5}$/],
  ["DER PKCS12", /^02 30( 30)?$/], // RFC 7292, section 4
  ["DER PKCS7", /^06 a0$/], // RFC 5652, section 3
];

const RC2 = Buffer.from("060a2a864886f70d010c0106", "hex"); // pbeWithSHAAnd40BitRC2-CBC (RFC 7292, appendix C)

/** DER as a block of PEM. */
export function derBlock(bytes: Buffer): Block | undefined {
  const [outer, ...rest] = members(bytes);
  if (outer?.tag !== 0x30 || rest.length > 0) return undefined;
  const inside = members(outer.content);
  const first = tags(inside[0]?.tag === 0x30 ? members(inside[0].content) : []);
  const shape = SHAPES.find(([, all, inner]) => all.test(tags(inside)) && (inner?.test(first) ?? true));
  const label = shape?.[0] === "DER PKCS12" && bytes.includes(RC2) ? "DER PKCS12 BY RC2" : shape?.[0];
  return label === undefined ? undefined : { label, headers: [], base64: bytes.toString("base64") };
}

/** A block with the label of what it holds: OpenSSL, too, reads a key whatever kind of key its label names. */
function relabelled(block: Block): Block {
  if (block.headers.length > 0 || !block.label.endsWith(" KEY")) return block;
  const label = derBlock(Buffer.from(block.base64, "base64"))?.label ?? "";
  const half = block.label.endsWith("PRIVATE KEY") ? "PRIVATE KEY" : "PUBLIC KEY";
  return label.endsWith(half) ? { ...block, label } : block;
}

/** The key file that text is the base64 of, as in a Kubernetes secret; undefined if it is something else. */
export function encodedKeyFile(text: string): Buffer | undefined {
  const decoded = fromBase64(text);
  if (decoded === undefined) return undefined;
  const plain = isUtf8(decoded) ? decoded.toString() : ""; // a key in hexadecimal can be base64 of { and more
  return derBlock(decoded) !== undefined || /^\s*(\{|-----BEGIN )/.test(plain) ? decoded : undefined;
}

function tags(list: readonly Member[]): string {
  return list.map(({ tag }) => tag.toString(16).padStart(2, "0")).join(" ");
}

interface Member {
  readonly tag: number;
  readonly content: Buffer;
}

/** The members of a DER value, none if it is not DER. */
function members(bytes: Buffer): readonly Member[] {
  const found: Member[] = [];
  for (let at = 0; at < bytes.length;) {
    const [tag = 0, short = 0] = bytes.subarray(at);
    const count = short < 0x80 ? 0 : short & 0x7f;
    if (count > 3 || short === 0x80 || at + 2 + count > bytes.length) return [];
    const length = count === 0 ? short : bytes.readUIntBE(at + 2, count);
    const start = at + 2 + count;
    if (start + length > bytes.length) return [];
    found.push({ tag, content: bytes.subarray(start, start + length) });
    at = start + length;
  }
  return found;
}

/**
 * The keys of PEM: the private ones; without any the public ones; without any the one that the certificates are for.
 *
 * @throws KeystoreError `key` if it has none
 */
export async function readPem(written: readonly Block[], passphrase: Passphrase): Promise<readonly Candidate[]> {
  const blocks = written.map(relabelled);
  const ending = (end: string): readonly Block[] => blocks.filter(({ label }) => label.endsWith(end));
  const [secret, open, certificates] = [ending("PRIVATE KEY"), ending("PUBLIC KEY"), ending("CERTIFICATE")];
  const keys = secret.length > 0 ? secret : open;
  if (keys.length === 0 && certificates.length > 0) return readCertificates(certificates.map(pem));
  if (keys.length === 0) throw pemOfAnotherKind(blocks.map(({ label }) => label));
  const found: Candidate[] = [];
  for (const block of keys) found.push(await readKey(block, secret.length > 0, passphrase));
  return found;
}

async function readKey(block: Block, secret: boolean, passphrase: Passphrase): Promise<Candidate> {
  try {
    const bytes = Buffer.from(block.base64, "base64");
    if (isOpenssh(block.label)) {
      const found = await readOpenssh(bytes, passphrase);
      return candidate(() => found);
    }
    if (/^(PRIVATE|ENCRYPTED PRIVATE|RSA PRIVATE|EC PRIVATE|DSA PRIVATE|PUBLIC|RSA PUBLIC) KEY$/.test(block.label)) {
      const key = await keyObject(block, secret, passphrase);
      return candidate(() => ({ jwk: checkJwk(exported(key), (reason) => refused(reason)) }));
    }
    throw pemOfAnotherKind([block.label]);
  } catch (error) {
    if (error instanceof KeystoreError && error.code === "key") return { error };
    throw error;
  }
}

async function keyObject(block: Block, secret: boolean, passphrase: Passphrase): Promise<KeyObject> {
  const encrypted =
    block.label === "ENCRYPTED PRIVATE KEY" || block.headers.some((line) => /^Proc-Type: 4, ?ENCRYPTED/.test(line));
  const key = pem(block);
  if (!encrypted) {
    try {
      return secret ? createPrivateKey(key) : createPublicKey(key);
    } catch {
      throw refused("is damaged PEM or DER, or a key of a type that OpenSSL does not know");
    }
  }
  return openEncrypted(await passphrase(), (one) => createPrivateKey({ key, format: "pem", passphrase: one }));
}

/** @param open throws if the passphrase does not open the key */
function openEncrypted(passphrase: Buffer, open: (passphrase: Buffer) => KeyObject): KeyObject {
  for (const one of passphrasesIn(passphrase)) {
    try {
      return open(one);
    } catch (error) {
      if (errorCode(error) !== "ERR_OSSL_EVP_UNSUPPORTED") continue;
      throw refused(
        "is encrypted in a way that OpenSSL 3 no longer opens, such as RC2, DES or MD5",
        "run openssl pkey -provider legacy -provider default -in FILE -aes256 -out NEW, then import NEW",
      );
    }
  }
  throw wrongPassphrase();
}

function exported(key: KeyObject): unknown {
  const { asymmetricKeyType: type = "", asymmetricKeyDetails: details } = key;
  const error = unusableKind(type);
  if (error !== undefined) throw error;
  try {
    const jwk = key.export({ format: "jwk" });
    if (jwk["crv"] !== "secp256k1") return jwk;
  } catch {
    if (type !== "ec") throw refused(`is a key of the type ${type}, not RSA or EC`);
  }
  throw unusableCurve(details?.namedCurve);
}

/** A block as PEM that OpenSSL reads. */
function pem({ label, headers, base64 }: Block): string {
  const lines = base64.match(/.{1,64}/g) ?? [];
  const text = [...headers, ...(headers.length > 0 ? [""] : []), ...lines].join("\n");
  return `-----BEGIN ${label}-----\n${text}\n-----END ${label}-----\n`;
}
