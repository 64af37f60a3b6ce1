// Key files as people have them, beside the programs that write and read them: each is taken as the key that its program
// says it is, or refused by a line that says what it is and what to do.

import { createHash, createPublicKey, generateKeyPairSync, randomBytes, webcrypto, type JsonWebKey } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { errorLine } from "../../src/errors.ts";
import { isPrivate, isSymmetric, kidOf } from "../../src/jwk/jwk.ts";
import { parseKey } from "../../src/keys/import.ts";
import { secretFile, temporaryFolder } from "../support/folders.ts";
import { testWith, tool, use } from "../support/parts.ts";

const openssl = tool("openssl");
const sshKeygen = tool("ssh-keygen");
const jose = tool("jose");

const MAKE = "make a key that encrypts with ocicrypt-keystore keygen, or use an RSA key or an EC key on P-256";
const DAMAGED = "it is damaged: export it again from where it was made";
const CHOOSE = "choose one with --kid KID";
const NAME_ONE = "name a file with a key or a certificate";
const OPENPGP =
  "import it into gpg, and run gpg --export-ssh-key KEYID | ocicrypt-keystore import NAME - for its RSA or NIST public key";

/** A file, and the passphrase or the kid that the user gives with it. */
interface KeyFile {
  readonly content: string | Buffer;
  readonly passphrase?: string;
  readonly kid?: string;
}

const of = (content: string | Buffer, more: Omit<KeyFile, "content"> = {}): KeyFile => ({ content, ...more });

/** What became of a file: the key's thumbprint and whether it is private, or the line; and the notes. */
async function outcome({ content, passphrase, kid }: KeyFile): Promise<{ is: string; notes: readonly string[] }> {
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

const line = (what: string, hint: string): string =>
  `ocicrypt-keystore: the key to import ${what}; nothing was imported; ${hint}`;

/** The RFC 7638 thumbprint, computed here. */
function thumbprint({ kty, crv, x, y, n, e }: JsonWebKey): string {
  const members = kty === "RSA" ? { e, kty, n } : { crv, kty, x, y };
  return createHash("sha256").update(JSON.stringify(members)).digest("base64url");
}

const ofPem = (pem: string): string => thumbprint(createPublicKey(pem).export({ format: "jwk" }));

// openssl

const run = (...args: readonly string[]): string => use(openssl ?? "", args);
const der = (...args: readonly string[]): Buffer => {
  const out = join(temporaryFolder(), "out");
  run(...args, "-outform", "DER", "-out", out);
  return readFileSync(out);
};
const ecPem = (curve: string): string => run("genpkey", "-algorithm", "EC", "-pkeyopt", `ec_paramgen_curve:${curve}`);
const once = <T>(make: () => T): (() => T) => {
  let made: { readonly value: T } | undefined;
  return () => (made ??= { value: make() }).value;
};
const EC = once(() => ecPem("P-256"));
const RSA = once(() => run("genrsa", "2048"));
const EC_FILE = once(() => secretFile(EC()));
const RSA_FILE = once(() => secretFile(RSA()));
const legacy = ["-provider", "legacy", "-provider", "default"];
const secret = ["-passout", "pass:secret"];

/** The public key that openssl reads in a file. */
const opensslSays = (content: string | Buffer, ...args: readonly string[]): string =>
  ofPem(run("pkey", "-in", secretFile(content), "-pubout", "-passin", "pass:secret", ...args));

// certificates: an authority, one below it, and a host

interface Certificates {
  readonly root: string;
  readonly middle: string;
  readonly host: string;
}

const certificates = once((): Certificates => {
  const root = run("req", "-x509", "-key", RSA_FILE(), "-subj", "/CN=root", "-days", "2");
  const middleKey = secretFile(ecPem("P-384"));
  const middle = issue(middleKey, "/CN=middle", root, RSA_FILE(), "basicConstraints=critical,CA:true");
  return {
    root,
    middle,
    host: issue(EC_FILE(), "/C=DE/O=Example/CN=host", middle, middleKey, "basicConstraints=CA:false"),
  };
});

function issue(key: string, subject: string, ca: string, caKey: string, extension: string): string {
  const request = secretFile(run("req", "-new", "-key", key, "-subj", subject));
  const signer = ["-CA", secretFile(ca), "-CAkey", caKey, "-set_serial", "7", "-days", "1"];
  return run("x509", "-req", "-in", request, ...signer, "-extfile", secretFile(extension));
}

const selfSigned = (key: string, ...more: readonly string[]): string =>
  run("req", "-x509", "-key", key, "-subj", "/CN=self", ...(more.length === 0 ? ["-days", "1"] : more));
const HOST = "the key is that of the certificate of C=DE, O=Example, CN=host";
const SELF = "the key is that of the certificate of CN=self";

type Accepted = readonly [
  name: string,
  file: () => KeyFile,
  says: (content: string | Buffer) => string,
  notes?: readonly string[],
];

const privateBy =
  (...args: readonly string[]) =>
  (content: string | Buffer): string =>
    `private ${opensslSays(content, ...args)}`;
const publicBy =
  (...args: readonly string[]) =>
  (content: string | Buffer): string =>
    `public ${opensslSays(content, "-pubin", ...args)}`;
const isEc = (): string => `private ${ofPem(EC())}`;
const isEcPublic = (): string => `public ${ofPem(EC())}`;
const certificateBy = (content: string | Buffer): string =>
  `public ${ofPem(run("x509", "-in", secretFile(content), "-noout", "-pubkey"))}`;

const OPENSSL: readonly Accepted[] = [
  ["PKCS#8, EC", () => of(EC()), privateBy()],
  ["PKCS#8, P-384", () => of(ecPem("P-384")), privateBy()],
  ["PKCS#8, P-521", () => of(ecPem("P-521")), privateBy()],
  ["PKCS#8, RSA", () => of(RSA()), privateBy()],
  ["PKCS#1", () => of(run("rsa", "-in", RSA_FILE(), "-traditional")), privateBy()],
  ["SEC1", () => of(run("ec", "-in", EC_FILE())), privateBy()],
  ["SEC1 after its parameters", () => of(run("ecparam", "-name", "secp521r1", "-genkey")), privateBy()],
  ["SEC1, compressed", () => of(run("ec", "-in", EC_FILE(), "-conv_form", "compressed")), privateBy()],
  ["SEC1 without its point", () => of(run("ec", "-in", EC_FILE(), "-no_public")), privateBy()],
  ["SEC1, a curve by its parameters", () => of(run("ec", "-in", EC_FILE(), "-param_enc", "explicit")), privateBy()],
  ["SPKI, EC", () => of(run("pkey", "-in", EC_FILE(), "-pubout")), publicBy()],
  ["SPKI, RSA", () => of(run("pkey", "-in", RSA_FILE(), "-pubout")), publicBy()],
  ["PKCS#1, public", () => of(run("rsa", "-in", RSA_FILE(), "-RSAPublicKey_out")), publicBy()],
  ["DER, PKCS#8", () => of(der("pkcs8", "-topk8", "-nocrypt", "-in", EC_FILE())), privateBy("-inform", "DER")],
  ["DER, PKCS#1", () => of(der("rsa", "-in", RSA_FILE(), "-traditional")), privateBy("-inform", "DER")],
  ["DER, SEC1", () => of(der("ec", "-in", EC_FILE())), privateBy("-inform", "DER")],
  ["DER, SPKI", () => of(der("pkey", "-in", RSA_FILE(), "-pubout")), publicBy("-inform", "DER")],
  ["DER, PKCS#1, public", () => of(der("rsa", "-in", RSA_FILE(), "-RSAPublicKey_out")), publicBy("-inform", "DER")],
  [
    "DER, encrypted PKCS#8",
    () => of(der("pkcs8", "-topk8", "-in", EC_FILE(), ...secret), { passphrase: "secret" }),
    privateBy("-inform", "DER"),
  ],
  [
    "encrypted PKCS#8",
    () => of(run("pkey", "-in", EC_FILE(), "-aes256", ...secret), { passphrase: "secret" }),
    privateBy(),
  ],
  [
    "encrypted PKCS#8 by scrypt",
    () => of(run("pkcs8", "-topk8", "-scrypt", "-in", EC_FILE(), ...secret), { passphrase: "secret" }),
    privateBy(),
  ],
  [
    "encrypted PKCS#8 by PBES1 and 3DES",
    () => of(run("pkcs8", "-topk8", "-v1", "PBE-SHA1-3DES", "-in", RSA_FILE(), ...secret), { passphrase: "secret" }),
    privateBy(),
  ],
  [
    "encrypted PKCS#1",
    () => of(run("rsa", "-in", RSA_FILE(), "-traditional", "-aes128", ...secret), { passphrase: "secret" }),
    privateBy(),
  ],
  [
    "encrypted SEC1 by 3DES",
    () => of(run("ec", "-in", EC_FILE(), "-des3", ...secret), { passphrase: "secret" }),
    privateBy(),
  ],
  [
    "an encrypted key and a passphrase that Windows wrote",
    () => of(run("pkey", "-in", EC_FILE(), "-aes256", ...secret), { passphrase: "secret\r" }),
    privateBy(),
  ],
  [
    "an encrypted key whose passphrase ends in a carriage return",
    () =>
      of(run("pkey", "-in", EC_FILE(), "-aes256", "-passout", `file:${secretFile("secret\r\n")}`), {
        passphrase: "secret\r",
      }),
    isEc,
  ],
  ["a certificate", () => of(selfSigned(EC_FILE())), certificateBy, [SELF]],
  [
    "a certificate with its text",
    () => of(run("x509", "-in", secretFile(selfSigned(EC_FILE())), "-text")),
    certificateBy,
    [SELF],
  ],
  [
    "a trusted certificate",
    () => of(run("x509", "-in", secretFile(selfSigned(EC_FILE())), "-trustout")),
    certificateBy,
    [SELF],
  ],
  [
    "a certificate by its older label",
    () => of(selfSigned(EC_FILE()).replaceAll("CERTIFICATE", "X509 CERTIFICATE")),
    isEcPublic,
    [SELF],
  ],
  ["DER, a certificate", () => of(der("x509", "-in", secretFile(selfSigned(EC_FILE())))), certificateBy, [SELF]],
  ["a chain", () => of(certificates().host + certificates().middle + certificates().root), certificateBy, [HOST]],
  [
    "a chain that begins with the authority",
    () => of(certificates().root + certificates().middle + certificates().host),
    isEcPublic,
    [HOST],
  ],
  [
    "a chain without the middle",
    () => of(certificates().root + certificates().host + certificates().root),
    () =>
      line(
        `has 2 keys that can be used, by kid: ${ofPem(RSA())} (CN=root), ${ofPem(EC())} (C=DE, O=Example, CN=host)`,
        CHOOSE,
      ),
  ],
  [
    "a certificate of an unrelated chain that --kid names",
    () => of(certificates().root + certificates().host, { kid: ofPem(EC()) }),
    isEcPublic,
    [HOST],
  ],
  [
    "a chain in disorder, in which one is there twice",
    () => of(certificates().middle + certificates().host + certificates().root + certificates().host),
    isEcPublic,
    [HOST],
  ],
  [
    "the authorities of a chain without its leaf",
    () => of(certificates().root + certificates().middle),
    () => `public ${ofPem(run("x509", "-in", secretFile(certificates().middle), "-noout", "-pubkey"))}`,
    [
      "the key is that of the certificate of CN=middle",
      "warning: this certificate is that of a certificate authority, not of a user or a host",
    ],
  ],
  ["a key with its chain", () => of(certificates().host + certificates().root + EC()), privateBy()],
  [
    "PKCS#12 that openssl wrote as PEM",
    () => of(run("pkcs12", "-in", pkcs12(), "-noenc", "-passin", "pass:secret")),
    isEc,
  ],
  ["lines that end as on Windows", () => of(EC().replaceAll("\n", "\r\n")), privateBy()],
  ["lines that end as on old Macs", () => of(EC().replaceAll("\n", "\r")), isEc],
  ["indented PEM", () => of(EC().replaceAll(/^/gm, "    ")), isEc],
  ["PEM in YAML", () => of(`key: |\n${EC().replaceAll(/^/gm, "\t  ")}`), isEc],
  ["PEM with literal \\n", () => of(EC().replaceAll("\n", String.raw`\n`)), isEc],
  ["PEM in quotes with literal \\r\\n", () => of(`KEY="${EC().replaceAll("\n", String.raw`\r\n`)}"\n`), isEc],
  ["PEM whose lines a shell joined", () => of(EC().replaceAll("\n", " ")), isEc],
  [
    "PEM in one long line",
    () =>
      of(
        EC()
          .replaceAll(/\n(?!-)/g, "")
          .replace("KEY-----", "KEY-----\n"),
      ),
    isEc,
  ],
  ["PEM after a byte order mark", () => of(`\ufeff${EC()}`), isEc],
  ["UTF-16, little end first", () => of(Buffer.from(`\ufeff${EC()}`, "utf16le")), isEc],
  ["UTF-16, big end first", () => of(Buffer.from(`\ufeff${EC()} `, "utf16le").swap16()), isEc],
  ["UTF-16 without a byte order mark", () => of(Buffer.from(EC(), "utf16le")), isEc],
  ["base64 of PEM", () => of(Buffer.from(EC()).toString("base64")), isEc],
  ["base64 of DER, in lines", () => of(EC().replaceAll(/^-.*\n/gm, "")), isEc],
  ["a pair in two blocks", () => of(run("pkey", "-in", EC_FILE(), "-pubout") + EC()), isEc],
  ["the same public key twice", () => of(run("pkey", "-in", EC_FILE(), "-pubout").repeat(2)), isEcPublic],
  ["two keys and the thumbprint of one", () => of(EC() + RSA(), { kid: ofPem(EC()) }), isEc],
  ["an Ed25519 key and one that encrypts", () => of(run("genpkey", "-algorithm", "ED25519") + EC()), isEc],
];

function pkcs12(): string {
  const out = join(temporaryFolder(), "p12");
  const certificate = secretFile(selfSigned(EC_FILE()));
  run("pkcs12", "-export", "-inkey", EC_FILE(), "-in", certificate, "-out", out, ...secret);
  return out;
}

for (const [name, file, says, notes = []] of OPENSSL) {
  testWith(openssl, "openssl", `takes what openssl reads or wrote: ${name}`, async () => {
    const made = file();
    assert.equal(await outcome(made), { is: says(made.content), notes });
  });
}

/** A certificate for other days than now. */
function certificateFor(start: string, end: string): string {
  const folder = temporaryFolder();
  const policy = "policy = p\n[p]\ncommonName = supplied\n";
  const ca = `database = ${folder}/index\nnew_certs_dir = ${folder}\nrand_serial = yes\ndefault_md = sha256\n${policy}`;
  writeFileSync(join(folder, "index"), "");
  const config = secretFile(`[ca]\ndefault_ca = c\n[c]\n${ca}`);
  const subject = secretFile(run("req", "-new", "-key", EC_FILE(), "-subj", "/CN=self"));
  const dates = ["-startdate", start, "-enddate", end];
  return run(
    "ca",
    "-config",
    config,
    "-batch",
    "-selfsign",
    "-notext",
    "-keyfile",
    EC_FILE(),
    "-in",
    subject,
    ...dates,
  );
}

for (const [name, start, end, warning] of [
  ["expired", "20200101000000Z", "20210101000000Z", "warning: this certificate expired on Jan  1 00:00:00 2021 GMT"],
  [
    "is not valid yet",
    "20990101000000Z",
    "21000101000000Z",
    "warning: this certificate is valid only from Jan  1 00:00:00 2099 GMT",
  ],
] as const) {
  testWith(openssl, "openssl", `takes a certificate that ${name}, and warns`, async () =>
    assert.equal(await outcome(of(certificateFor(start, end))), { is: isEcPublic(), notes: [SELF, warning] }),
  );
}

// ssh-keygen

/** A file of ssh-keygen's, and the file with its public line. */
function sshKey(...args: readonly string[]): { readonly file: string; readonly line: string } {
  const path = join(temporaryFolder(), "key");
  use(sshKeygen ?? "", ["-q", "-N", "", "-C", "me@example.org", ...args, "-f", path]);
  return { file: readFileSync(path, "utf8"), line: readFileSync(`${path}.pub`, "utf8") };
}

const sshSays = (publicLine: string): string =>
  ofPem(use(sshKeygen ?? "", ["-e", "-m", "PKCS8", "-f", secretFile(publicLine)]));
const sshRsa = once(() => sshKey("-t", "rsa", "-b", "2048"));
const ssh256 = once(() => sshKey("-t", "ecdsa", "-b", "256"));
const ssh384 = once(() => sshKey("-t", "ecdsa", "-b", "384"));
const ssh521 = once(() => sshKey("-t", "ecdsa", "-b", "521"));
const sshEd = once(() => sshKey("-t", "ed25519"));
const isSshRsa = (): string => `public ${sshSays(sshRsa().line)}`;

const OPENSSH: readonly (readonly [name: string, file: () => string, says: () => string])[] = [
  ["id_rsa", () => sshRsa().file, () => `private ${sshSays(sshRsa().line)}`],
  ["id_ecdsa, P-256", () => ssh256().file, () => `private ${sshSays(ssh256().line)}`],
  ["id_ecdsa, P-384", () => ssh384().file, () => `private ${sshSays(ssh384().line)}`],
  ["id_ecdsa, P-521", () => ssh521().file, () => `private ${sshSays(ssh521().line)}`],
  ["id_rsa.pub", () => sshRsa().line, isSshRsa],
  ["id_ecdsa.pub, P-256", () => ssh256().line, () => `public ${sshSays(ssh256().line)}`],
  ["id_ecdsa.pub, P-384", () => ssh384().line, () => `public ${sshSays(ssh384().line)}`],
  ["id_ecdsa.pub, P-521", () => ssh521().line, () => `public ${sshSays(ssh521().line)}`],
  ["a line without a comment", () => sshRsa().line.split(" ").slice(0, 2).join(" "), isSshRsa],
  [
    "a line of authorized_keys with options",
    () => `# me\n\nno-pty,command="echo a b",from="*.example.org" ${sshRsa().line}`,
    isSshRsa,
  ],
  ["a line of known_hosts", () => `example.org,192.0.2.1 ${ssh256().line}`, () => `public ${sshSays(ssh256().line)}`],
  ["lines of which one can be used, as GitHub gives them", () => sshEd().line + sshRsa().line, isSshRsa],
  ["a line that Windows wrote", () => `\ufeff${sshRsa().line.replace("\n", "\r\n")}`, isSshRsa],
  ["an RSA key as PEM", () => sshKey("-t", "rsa", "-b", "2048", "-m", "PEM").file, () => ""],
  ["an ECDSA key as PKCS#8", () => sshKey("-t", "ecdsa", "-m", "PKCS8").file, () => ""],
  [
    "two lines",
    () => ssh256().line + sshRsa().line,
    () =>
      line(
        `has 2 keys that can be used, by kid: ${sshSays(ssh256().line)} (me@example.org), ${sshSays(sshRsa().line)} (me@example.org)`,
        CHOOSE,
      ),
  ],
  ["id_ed25519", () => sshEd().file, () => line("is an Ed25519 key, which signs and cannot encrypt", MAKE)],
  ["id_ed25519.pub", () => sshEd().line, () => line("is an Ed25519 key, which signs and cannot encrypt", MAKE)],
  [
    "an encrypted id_ed25519, whose passphrase is not asked for",
    () => sshKey("-t", "ed25519", "-N", "secret").file,
    () => line("is an Ed25519 key, which signs and cannot encrypt", MAKE),
  ],
  [
    "a line of a DSA key",
    () => sshKey("-t", "dsa").line,
    () => line("is a DSA key, which signs and cannot encrypt", MAKE),
  ],
  [
    "a line of a FIDO token",
    () => skLine(),
    () => line("is a key of a FIDO token, which signs and cannot encrypt", MAKE),
  ],
  [
    "an OpenSSH certificate",
    () => sshCertificate(),
    () => line("is an OpenSSH certificate", "name the public key that it is for: the file without -cert"),
  ],
  [
    "a damaged line",
    () => sshRsa().line.replace("AAAAB3", "AAAAC3"),
    () => line("is an OpenSSH key that is damaged", DAMAGED),
  ],
  ["a line that was cut", () => sshRsa().line.slice(0, 120), () => line("is an OpenSSH key that is damaged", DAMAGED)],
  [
    "an RSA key of 1,024 bits",
    () => sshKey("-t", "rsa", "-b", "1024").line,
    () =>
      line(
        "is an RSA key of 1024 bits, not of 2048 to 8192",
        "ocicrypt-keystore keygen NAME --type rsa makes one that fits",
      ),
  ],
];

function skLine(): string {
  const name = "sk-ecdsa-sha2-nistp256@openssh.com";
  return `${name} ${Buffer.concat([Buffer.of(0, 0, 0, name.length), Buffer.from(name), Buffer.alloc(40)]).toString("base64")} token\n`;
}

function sshCertificate(): string {
  const folder = temporaryFolder();
  const [ca, user] = [join(folder, "ca"), join(folder, "user")];
  for (const path of [ca, user]) use(sshKeygen ?? "", ["-q", "-N", "", "-t", "ecdsa", "-f", path]);
  use(sshKeygen ?? "", ["-q", "-s", ca, "-I", "me", `${user}.pub`]);
  return readFileSync(`${user}-cert.pub`, "utf8");
}

for (const [name, file, says] of OPENSSH) {
  testWith(sshKeygen, "ssh-keygen", `takes or refuses what ssh-keygen writes: ${name}`, async () => {
    const content = file();
    const expected = says();
    assert.is((await outcome(of(content))).is, expected === "" ? `private ${opensslSays(content)}` : expected);
  });
}

// JWK: jose, WebCrypto, and what others document

const joseSays = (jwk: string): string => use(jose ?? "", ["jwk", "thp", "-i", "-", "-a", "S256"], jwk).trim();

for (const [name, template] of [
  ["EC", '{"alg":"ECDH-ES+A256KW"}'],
  ["P-521", '{"kty":"EC","crv":"P-521"}'],
  ["RSA", '{"kty":"RSA","bits":2048}'],
] as const) {
  testWith(jose, "jose", `takes what jose writes: ${name}, private and public`, async () => {
    const jwk = use(jose ?? "", ["jwk", "gen", "-i", template]);
    assert.is((await outcome(of(jwk))).is, `private ${joseSays(jwk)}`);
    const open = use(jose ?? "", ["jwk", "pub", "-i", "-"], jwk);
    assert.is((await outcome(of(open))).is, `public ${joseSays(jwk)}`);
    const set = use(jose ?? "", ["jwk", "pub", "-s", "-i", "-"], jwk);
    assert.is((await outcome(of(set))).is, `public ${joseSays(jwk)}`);
  });
}

test("takes what WebCrypto exports: ECDH, RSA-OAEP and AES-KW, private and public", async () => {
  const { subtle } = webcrypto;
  const curve = { name: "ECDH", namedCurve: "P-256" };
  const rsa = { name: "RSA-OAEP", modulusLength: 2048, publicExponent: Uint8Array.of(1, 0, 1), hash: "SHA-256" };
  for (const pair of [
    await subtle.generateKey(curve, true, ["deriveBits"]),
    await subtle.generateKey(rsa, true, ["wrapKey", "unwrapKey"]),
  ]) {
    for (const key of [pair.privateKey, pair.publicKey]) {
      const jwk = await subtle.exportKey("jwk", key);
      assert.is((await outcome(of(JSON.stringify(jwk)))).is, `${key.type} ${thumbprint({ ...jwk })}`);
    }
  }
  const symmetric = await subtle.generateKey({ name: "AES-KW", length: 256 }, true, ["wrapKey", "unwrapKey"]);
  const jwk = await subtle.exportKey("jwk", symmetric);
  assert.is((await outcome(of(JSON.stringify(jwk)))).is, `symmetric ${String(jwk.k)}`);
});

const pair = (namedCurve = "P-256"): JsonWebKey =>
  generateKeyPairSync("ec", { namedCurve }).privateKey.export({ format: "jwk" });
const rsaPair = generateKeyPairSync("rsa", { modulusLength: 2048 });
const rsaPublic = rsaPair.publicKey.export({ format: "jwk" });
const mine = pair();
const { d: _d, ...minePublic } = mine;
const json = (value: unknown): KeyFile => of(JSON.stringify(value, null, 2));
const standard = (text = ""): string => Buffer.from(text, "base64url").toString("base64");
const MINE = `public ${thumbprint(mine)}`;
const MY_RSA = `public ${thumbprint(rsaPublic)}`;

/** Keycloak's certs endpoint: a key for signatures and one for encryption, each with its certificate. */
const keycloak = {
  keys: [
    {
      kid: "FJ86GcF3jTbNLOco4NvZkUCIUmfYCqoqtOQeMfbhNlE",
      kty: "RSA",
      alg: "RS256",
      use: "sig",
      ...rsaPublic,
      x5c: ["MIICmzCCAYMCBgF4"],
      x5t: "KW2LmPHbzEqR0JwyLZzvGpKvJyM",
    },
    {
      kid: "enc-1",
      kty: "RSA",
      alg: "RSA-OAEP",
      use: "enc",
      ...rsaPublic,
      x5c: ["MIICmzCCAYMCBgF5"],
      "x5t#S256": "yAG1xQ",
    },
  ],
};

/** `az keyvault key show`: each member that is not set is null. */
const azure = {
  crv: null,
  d: null,
  dp: null,
  dq: null,
  e: "AQAB",
  k: null,
  keyOps: ["encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"],
  kid: "https://vault.vault.azure.net/keys/app/1f2e",
  kty: "RSA-HSM",
  n: standard(rsaPublic.n),
  p: null,
  q: null,
  qi: null,
  t: null,
  x: null,
  y: null,
};

/** `step crypto jwk create --use enc`, and its private half under a password. */
const step = { use: "enc", kty: "EC", kid: "w0Gk", crv: "P-256", alg: "ECDH-ES", x: mine.x, y: mine.y };
const header = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
const stepEncrypted = {
  protected: header({ alg: "PBES2-HS256+A128KW", cty: "jwk+json", enc: "A256GCM", p2c: 600_000, p2s: "c2FsdA" }),
  encrypted_key: "a2V5",
  iv: "aXY",
  ciphertext: "Y2lwaGVy",
  tag: "dGFn",
};
const clevis = `${header({ alg: "ECDH-ES", clevis: { pin: "tang", tang: {} }, enc: "A256GCM", epk: {}, kid: "x" })}..aXY.Y2k.dGFn`;
const UNLOCK = "run ocicrypt-keystore unlock on the store that it comes from, which also unlocks removed keys";
const FORBIDDEN = "name a key that is for encryption, or remove that member if this key may encrypt";

const DOCUMENTED: readonly (readonly [name: string, file: KeyFile, is: string])[] = [
  ["Keycloak's signing and encryption keys", json(keycloak), MY_RSA],
  [
    "Keycloak's signing key, chosen",
    { ...json(keycloak), kid: "FJ86GcF3jTbNLOco4NvZkUCIUmfYCqoqtOQeMfbhNlE" },
    line('cannot be used here: its "use" is not "enc"', FORBIDDEN),
  ],
  [
    "only signing keys",
    json({ keys: [keycloak.keys[0], { ...keycloak.keys[0], kid: "other" }] }),
    line('has 2 keys, none of which can be used: the first cannot be used here: its "use" is not "enc"', FORBIDDEN),
  ],
  ["a set with a key of an unknown type", json({ keys: [{ kty: "XYZ" }, minePublic] }), MINE],
  ["a pair in a set", json({ keys: [minePublic, mine] }), `private ${thumbprint(mine)}`],
  ["a list of one", json([minePublic]), MINE],
  ["a set after a byte order mark", of(`\ufeff${JSON.stringify({ keys: [minePublic] })}`), MINE],
  ["a JWK in UTF-16", of(Buffer.from(`\ufeff${JSON.stringify(minePublic)}`, "utf16le")), MINE],
  ["base64 of a JWK", of(Buffer.from(JSON.stringify(minePublic)).toString("base64")), MINE],
  [
    "members that are null",
    json({ ...minePublic, d: null, kid: null, use: null, alg: null, key_ops: null, x5c: null }),
    MINE,
  ],
  ["members that are empty", json({ ...minePublic, kid: "", use: "", alg: "", key_ops: [] }), MINE],
  [
    "an RSA key whose private members are null",
    json({ ...rsaPublic, d: null, p: null, q: null, dp: null, dq: null, qi: null, oth: null }),
    MY_RSA,
  ],
  [
    "a kid that is not the key's",
    { ...json(mine), kid: "other" },
    line("has no key with that kid", `--kid can be ${thumbprint(mine)}`),
  ],
  ["the key of az keyvault key show", json(azure), MY_RSA],
  [
    "all of az keyvault key show",
    json({ attributes: { enabled: true }, key: azure, tags: null }),
    line("is JSON with a key inside", "run jq -r '.key' FILE | ocicrypt-keystore import NAME -"),
  ],
  [
    "a set of two keys with the same kid",
    json({
      keys: [
        { ...minePublic, kid: "a" },
        { ...rsaPublic, kid: "a" },
      ],
    }),
    line(`has 2 keys that can be used, by kid: ${thumbprint(mine)}, ${thumbprint(rsaPublic)}`, CHOOSE),
  ],
  [
    "step's public key",
    json(step),
    line('cannot be used here: its "alg" is not one that this provider uses with such a key', FORBIDDEN),
  ],
  [
    "step's encrypted private key",
    json(stepEncrypted),
    line(
      "is a JWE that a passphrase opens, as step writes it",
      "run step crypto jwe decrypt < FILE | ocicrypt-keystore import NAME -",
    ),
  ],
  [
    "the same in compact form",
    of([stepEncrypted.protected, "a2V5", "aXY", "Y2lwaGVy", "dGFn\n"].join(".")),
    line(
      "is a JWE that a passphrase opens, as step writes it",
      "run step crypto jwe decrypt < FILE | ocicrypt-keystore import NAME -",
    ),
  ],
  [
    "a JWE of clevis",
    of(clevis),
    line(
      "is a JWE that clevis or a key store wrote",
      `run clevis decrypt < FILE | ocicrypt-keystore import NAME -; if it is of a key store, ${UNLOCK}`,
    ),
  ],
  [
    "a JWE for a key",
    of(`${header({ alg: "RSA-OAEP", enc: "A256GCM" })}.a2V5.aXY.Y2k.dGFn`),
    line(
      "is a JWE, an encrypted file",
      "decrypt it first: jose jwe dec -i FILE -k KEY | ocicrypt-keystore import NAME -",
    ),
  ],
  [
    "a JWT",
    of(`${header({ alg: "RS256" })}.e30.c2ln`),
    line("is a JWT, a signed token", "name a file with a JWK or PEM"),
  ],
  [
    "an Ed25519 JWK",
    json({ kty: "OKP", crv: "Ed25519", x: "AA" }),
    line("is an Ed25519 key, which signs and cannot encrypt", MAKE),
  ],
  [
    "an X25519 JWK",
    json({ kty: "OKP", crv: "X25519", x: "AA" }),
    line("is an X25519 key, which ocicrypt's clients cannot use", MAKE),
  ],
  ["a secp256k1 JWK", json(pair("secp256k1")), line("is an EC key on secp256k1, not on P-256, P-384 or P-521", MAKE)],
  [
    "Azure's name of that curve",
    json({ ...minePublic, crv: "P-256K" }),
    line("is an EC key on secp256k1, not on P-256, P-384 or P-521", MAKE),
  ],
  [
    "JSON of another kind",
    json({ apiVersion: "v1", items: [] }),
    line("is JSON, but not a JWK: it has no kty", "name a file with a JWK or PEM"),
  ],
  [
    "a service account of Google",
    json({ type: "service_account", private_key: String(rsaPair.privateKey.export({ type: "pkcs8", format: "pem" })) }),
    line("is JSON with a key inside", "run jq -r '.private_key' FILE | ocicrypt-keystore import NAME -"),
  ],
  [
    "an answer of Vault",
    json({ data: { keys: { 1: { public_key: String(rsaPair.publicKey.export({ type: "spki", format: "pem" })) } } } }),
    line("is JSON with a key inside", `run jq -r '.data.keys["1"].public_key' FILE | ocicrypt-keystore import NAME -`),
  ],
  [
    "an answer of AWS",
    json({ KeyId: "x", PublicKey: rsaPair.publicKey.export({ type: "spki", format: "der" }).toString("base64") }),
    line("is JSON with a key inside", "run jq -r '.PublicKey' FILE | ocicrypt-keystore import NAME -"),
  ],
  [
    "what that command prints for AWS",
    of(`${rsaPair.publicKey.export({ type: "spki", format: "der" }).toString("base64")}\n`),
    MY_RSA,
  ],
];

for (const [name, file, is] of DOCUMENTED)
  test(`takes or refuses JSON as it is: ${name}`, async () => assert.is((await outcome(file)).is, is));

// What is told apart, and the command that converts it.

const pss = once(() => run("genpkey", "-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"));
const request = once(() => secretFile(run("req", "-new", "-key", EC_FILE(), "-subj", "/CN=x")));
const withKey = (command: string): string => `run ${command} FILE | ocicrypt-keystore import NAME -`;
const LEGACY = line(
  "is encrypted in a way that OpenSSL 3 no longer opens, such as RC2, DES or MD5",
  "run openssl pkey -provider legacy -provider default -in FILE -aes256 -out NEW, then import NEW",
);
const WRONG = line(
  "is encrypted, and this passphrase does not open it",
  "give the right one with --pem-passphrase-file FILE",
);

const REFUSED: readonly (readonly [name: string, file: () => KeyFile, is: string])[] = [
  [
    "PBES1 with MD5 and DES",
    () =>
      of(run("pkcs8", "-topk8", "-v1", "PBE-MD5-DES", "-in", RSA_FILE(), ...legacy, ...secret), {
        passphrase: "secret",
      }),
    LEGACY,
  ],
  [
    "PBES1 with RC2",
    () =>
      of(run("pkcs8", "-topk8", "-v1", "PBE-SHA1-RC2-40", "-in", EC_FILE(), ...legacy, ...secret), {
        passphrase: "secret",
      }),
    LEGACY,
  ],
  [
    "PBES2 with DES",
    () =>
      of(run("pkcs8", "-topk8", "-v2", "des-cbc", "-in", EC_FILE(), ...legacy, ...secret), { passphrase: "secret" }),
    LEGACY,
  ],
  [
    "PKCS#1 with DES",
    () => of(run("rsa", "-traditional", "-des", "-in", RSA_FILE(), ...legacy, ...secret), { passphrase: "secret" }),
    LEGACY,
  ],
  [
    "a wrong passphrase of PKCS#8",
    () => of(run("pkey", "-in", EC_FILE(), "-aes256", ...secret), { passphrase: "wrong" }),
    WRONG,
  ],
  [
    "a wrong passphrase of SEC1",
    () => of(run("ec", "-in", EC_FILE(), "-aes128", ...secret), { passphrase: "wrong\r" }),
    WRONG,
  ],
  [
    "Ed25519",
    () => of(run("genpkey", "-algorithm", "ED25519")),
    line("is an Ed25519 key, which signs and cannot encrypt", MAKE),
  ],
  [
    "Ed448",
    () => of(run("genpkey", "-algorithm", "ED448")),
    line("is an Ed448 key, which signs and cannot encrypt", MAKE),
  ],
  [
    "X25519",
    () => of(run("genpkey", "-algorithm", "X25519")),
    line("is an X25519 key, which ocicrypt's clients cannot use", MAKE),
  ],
  [
    "X448",
    () => of(run("genpkey", "-algorithm", "X448")),
    line("is an X448 key, which ocicrypt's clients cannot use", MAKE),
  ],
  [
    "DER, Ed25519",
    () => of(der("genpkey", "-algorithm", "ED25519")),
    line("is an Ed25519 key, which signs and cannot encrypt", MAKE),
  ],
  ["RSA-PSS", () => of(pss()), line("is an RSA-PSS key, which signs and cannot encrypt", MAKE)],
  [
    "RSA-PSS, public",
    () => of(use(openssl ?? "", ["pkey", "-pubout"], pss())),
    line("is an RSA-PSS key, which signs and cannot encrypt", MAKE),
  ],
  [
    "DSA",
    () => of(run("dsaparam", "-genkey", "-noout", "1024")),
    line("is a DSA key, which signs and cannot encrypt", MAKE),
  ],
  [
    "Diffie-Hellman",
    () => of(run("genpkey", "-algorithm", "DH", "-pkeyopt", "group:ffdhe2048")),
    line("is a Diffie-Hellman key, which ocicrypt's clients cannot use", MAKE),
  ],
  ["secp256k1", () => of(ecPem("secp256k1")), line("is an EC key on secp256k1, not on P-256, P-384 or P-521", MAKE)],
  [
    "brainpool",
    () => of(ecPem("brainpoolP256r1")),
    line("is an EC key on brainpoolP256r1, not on P-256, P-384 or P-521", MAKE),
  ],
  ["P-224", () => of(ecPem("P-224")), line("is an EC key on secp224r1, not on P-256, P-384 or P-521", MAKE)],
  [
    "a certificate of Ed25519",
    () => of(selfSigned(secretFile(run("genpkey", "-algorithm", "ED25519")))),
    line("is an Ed25519 key, which signs and cannot encrypt", MAKE),
  ],
  [
    "a certificate that is damaged",
    () => of(selfSigned(EC_FILE()).replace(/\n.{40}/, "\n")),
    line("has a certificate that is damaged", DAMAGED),
  ],
  [
    "a request",
    () => of(readFileSync(request())),
    line("is a certificate request", withKey("openssl req -noout -pubkey -in")),
  ],
  [
    "DER, a request",
    () => of(der("req", "-in", request())),
    line("is a certificate request", withKey("openssl req -noout -pubkey -inform DER -in")),
  ],
  [
    "PKCS#7",
    () => of(run("crl2pkcs7", "-nocrl", "-certfile", secretFile(certificates().host))),
    line("is PKCS#7", withKey("openssl pkcs7 -print_certs -in")),
  ],
  [
    "DER, PKCS#7",
    () => of(der("crl2pkcs7", "-nocrl", "-certfile", secretFile(certificates().host))),
    line("is PKCS#7", withKey("openssl pkcs7 -print_certs -inform DER -in")),
  ],
  ["PKCS#12", () => of(readFileSync(pkcs12())), line("is PKCS#12", withKey("openssl pkcs12 -nocerts -noenc -in"))],
  [
    "parameters",
    () => of(run("ecparam", "-name", "prime256v1")),
    line("has only parameters, no key", "name the file with the key"),
  ],
];

for (const [name, file, is] of REFUSED) {
  testWith(openssl, "openssl", `refuses by what it is, and tells what to do: ${name}`, async () => {
    const made = file();
    assert.is((await outcome(made)).is, is);
    const [, command] = /run (openssl .*) FILE \| ocicrypt-keystore import NAME -/.exec(is) ?? [];
    if (command === undefined) return;
    const shell = command.replace("openssl pkcs12", "openssl pkcs12 -passin pass:secret");
    const converted = use("/bin/sh", ["-c", `${shell} '${secretFile(made.content)}'`]);
    assert.match((await outcome(of(converted))).is, ofPem(EC()), "the command makes a file that is taken");
  });
}

testWith(openssl, "openssl", "the command for old encryption makes a file that is taken", async () => {
  const old = secretFile(run("pkcs8", "-topk8", "-v1", "PBE-MD5-DES", "-in", EC_FILE(), ...legacy, ...secret));
  const [, command = ""] = /run (.*), then import NEW/.exec(LEGACY) ?? [];
  const fresh = join(temporaryFolder(), "new");
  use("/bin/sh", [
    "-c",
    `${command.replace("FILE", `'${old}'`).replace("NEW", `'${fresh}'`)} -passin pass:secret -passout pass:secret`,
  ]);
  assert.is((await outcome(of(readFileSync(fresh), { passphrase: "secret" }))).is, isEc());
});

const pgp = (kind: string): string =>
  `-----BEGIN PGP ${kind} BLOCK-----\n\nmQENBF\n=abcd\n-----END PGP ${kind} BLOCK-----\n`;
const block = (label: string): string => `-----BEGIN ${label}-----\nAAAA\n-----END ${label}-----\n`;
const k = randomBytes(32);
const oct = (decoded: string): string =>
  `run printf '{"kty":"oct","k":"%s"}' "$(${decoded} | tr '+/' '-_' | tr -d '=\\n')" | ocicrypt-keystore import NAME -`;

const OTHERS: readonly (readonly [name: string, content: string | Buffer, what: string, hint: string])[] = [
  ["nothing", "", "is empty", "name a file with a key"],
  ["white space", " \n\n", "is empty", "name a file with a key"],
  [
    "PuTTY",
    "PuTTY-User-Key-File-3: ssh-rsa\nEncryption: none\nComment: me\nPublic-Lines: 6\nAAAAB3NzaC1yc2E\n",
    "is a key of PuTTY",
    withKey("puttygen -O private-openssh -o /dev/stdout"),
  ],
  [
    "RFC 4716",
    "---- BEGIN SSH2 PUBLIC KEY ----\nComment: me\nAAAAB3NzaC1yc2E\n---- END SSH2 PUBLIC KEY ----\n",
    "is a public key in RFC 4716 form",
    withKey("ssh-keygen -i -f"),
  ],
  [
    "ssh.com",
    "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\nP2/56wAAA\n---- END SSH2 ENCRYPTED PRIVATE KEY ----\n",
    "is a private key of ssh.com",
    "run ssh-keygen -i -f FILE > NEW, then import NEW",
  ],
  ["OpenPGP, public", pgp("PUBLIC KEY"), "is an OpenPGP key", OPENPGP],
  ["OpenPGP, private", pgp("PRIVATE KEY"), "is an OpenPGP key", OPENPGP],
  ["OpenPGP, binary", Buffer.from("99010d045f", "hex"), "is an OpenPGP key", OPENPGP],
  [
    "minisign",
    "untrusted comment: minisign public key 1234\nRWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\n",
    "is an Ed25519 key of minisign or signify, which signs and cannot encrypt",
    MAKE,
  ],
  [
    "minisign, the key alone",
    "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\n",
    "is an Ed25519 key of minisign or signify, which signs and cannot encrypt",
    MAKE,
  ],
  [
    "age, private",
    "# created: 2026-01-01T00:00:00Z\n# public key: age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p\nAGE-SECRET-KEY-1GFPYYSJZGFPYYSJ\n",
    "is an X25519 key of age, which ocicrypt's clients cannot use",
    MAKE,
  ],
  [
    "age, public",
    "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p\n",
    "is an X25519 key of age, which ocicrypt's clients cannot use",
    MAKE,
  ],
  [
    "a file that age encrypted",
    block("AGE ENCRYPTED FILE"),
    "is a file that age encrypted",
    "run age -d FILE | ocicrypt-keystore import NAME -",
  ],
  [
    "a TPM's key",
    block("TSS2 PRIVATE KEY"),
    "is a key that a TPM holds",
    "import its public key with --holder: see the README",
  ],
  ["cosign", block("ENCRYPTED SIGSTORE PRIVATE KEY"), "is a key of cosign, for signatures", MAKE],
  ["a list of revoked certificates", block("X509 CRL"), "is a list of revoked certificates", NAME_ONE],
  ["PEM of no kind that is known", block("SOMETHING"), "is PEM without a key or a certificate", NAME_ONE],
  ["PEM without its end", "-----BEGIN PRIVATE KEY-----\nAAAA\n", "is PEM without its end", DAMAGED],
  [
    "a Java keystore",
    Buffer.from("feedfeed00000002", "hex"),
    "is a Java keystore",
    "run keytool -importkeystore -srckeystore FILE -destkeystore NEW.p12 -deststoretype PKCS12, then openssl pkcs12 -nocerts -noenc -in NEW.p12 | ocicrypt-keystore import NAME -",
  ],
  [
    ".NET's XML",
    "<RSAKeyValue><Modulus>AAAA</Modulus></RSAKeyValue>",
    "is XML",
    "export it as PEM: .NET has ExportPkcs8PrivateKeyPem and ExportSubjectPublicKeyInfoPem",
  ],
  ["a web page", "<!DOCTYPE html><html></html>", "is a web page", "download the key itself"],
  [
    "a Kubernetes manifest",
    "apiVersion: v1\nkind: Secret\ndata:\n  tls.crt: LS0t\n",
    "is a Kubernetes manifest",
    String.raw`run kubectl get secret SECRET -o jsonpath='{.data.tls\.crt}' | base64 -d | ocicrypt-keystore import NAME -`,
  ],
  [
    "a symmetric key in hexadecimal",
    `${k.toString("hex")}\n`,
    "looks like a symmetric key in hexadecimal",
    oct("xxd -r -p FILE | base64 -w 0"),
  ],
  ["a symmetric key in base64", `${k.toString("base64")}\n`, "looks like a symmetric key in base64", oct("cat FILE")],
  ["a symmetric key in raw bytes", k, "looks like a symmetric key in raw bytes", oct("base64 -w 0 FILE")],
  [
    "text",
    "correct horse battery staple",
    "is in no format that is known here",
    "name a file with a JWK, PEM, DER, an OpenSSH key or a certificate",
  ],
];

for (const [name, content, what, hint] of OTHERS) {
  test(`refuses by what it is, and tells what to do: ${name}`, async () => {
    assert.is((await outcome(of(content))).is, line(what, hint));
    if (!hint.includes("printf") || (hint.includes("xxd") && tool("xxd") === undefined)) return;
    const command = hint.replace(/^run (.*) \| ocicrypt-keystore import NAME -$/, "$1");
    const converted = use("/bin/sh", ["-c", command.replace("FILE", `'${secretFile(content)}'`)]);
    assert.is((await outcome(of(converted))).is, `symmetric ${k.toString("base64url")}`);
  });
}

test.run();
