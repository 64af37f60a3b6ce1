// Keys that openssl writes, and what editors, shells and other systems make of them.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { secretFile, temporaryFolder } from "../../support/folders.ts";
import {
  DAMAGED,
  MAKE,
  of,
  outcome,
  line,
  ofPem,
  run,
  der,
  ecPem,
  once,
  EC,
  RSA,
  EC_FILE,
  RSA_FILE,
  PASSOUT,
  selfSigned,
  withKey,
  privateBy,
  publicBy,
  isEc,
  isEcPublic,
  takes,
  refuses,
} from "../../support/key-imports.ts";
import { testWith, tool, use } from "../../support/parts.ts";

const pkcs1 = (): string => run("rsa", "-in", RSA_FILE(), "-traditional");
const labelled = (label: string, pem: string): string =>
  pem.replaceAll(/-----(BEGIN|END) [A-Z ]+ KEY-----/g, `-----$1 ${label} KEY-----`);

takes([
  ["PKCS#8, EC", () => of(EC()), privateBy()],
  ["PKCS#8, P-384", () => of(ecPem("P-384")), privateBy()],
  ["PKCS#8, P-521", () => of(ecPem("P-521")), privateBy()],
  ["PKCS#8, RSA", () => of(RSA()), privateBy()],
  ["PKCS#1", () => of(pkcs1()), privateBy()],
  ["SEC1", () => of(run("ec", "-in", EC_FILE())), privateBy()],
  ["SEC1 after its parameters", () => of(run("ecparam", "-name", "secp521r1", "-genkey")), privateBy()],
  ["SEC1, compressed", () => of(run("ec", "-in", EC_FILE(), "-conv_form", "compressed")), privateBy()],
  ["SEC1 without its point", () => of(run("ec", "-in", EC_FILE(), "-no_public")), privateBy()],
  ["SEC1, a curve by its parameters", () => of(run("ec", "-in", EC_FILE(), "-param_enc", "explicit")), privateBy()],
  ["PKCS#1 that is labelled as PKCS#8", () => of(labelled("PRIVATE", pkcs1())), privateBy()],
  ["SEC1 that is labelled as PKCS#8", () => of(labelled("PRIVATE", run("ec", "-in", EC_FILE()))), privateBy()],
  ["PKCS#8 with a label of an application", () => of(labelled("ANY PRIVATE", EC())), isEc],
  [
    "PKCS#1, public, that is labelled as SPKI",
    () => of(labelled("PUBLIC", run("rsa", "-in", RSA_FILE(), "-RSAPublicKey_out"))),
    publicBy(),
  ],
  [
    "SPKI that is labelled as PKCS#1",
    () => of(labelled("RSA PUBLIC", run("pkey", "-in", RSA_FILE(), "-pubout"))),
    publicBy(),
  ],
  ["SPKI with a label of EC", () => of(labelled("EC PUBLIC", run("pkey", "-in", EC_FILE(), "-pubout"))), isEcPublic],
  ["PEM as a JSON string", () => of(JSON.stringify(EC())), isEc],
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
    () => of(der("pkcs8", "-topk8", "-in", EC_FILE(), ...PASSOUT), { passphrase: "secret" }),
    privateBy("-inform", "DER"),
  ],
  [
    "encrypted PKCS#8",
    () => of(run("pkey", "-in", EC_FILE(), "-aes256", ...PASSOUT), { passphrase: "secret" }),
    privateBy(),
  ],
  [
    "encrypted PKCS#8 by scrypt",
    () => of(run("pkcs8", "-topk8", "-scrypt", "-in", EC_FILE(), ...PASSOUT), { passphrase: "secret" }),
    privateBy(),
  ],
  [
    "encrypted PKCS#8 by PBES1 and 3DES",
    () => of(run("pkcs8", "-topk8", "-v1", "PBE-SHA1-3DES", "-in", RSA_FILE(), ...PASSOUT), { passphrase: "secret" }),
    privateBy(),
  ],
  [
    "encrypted PKCS#1",
    () => of(run("rsa", "-in", RSA_FILE(), "-traditional", "-aes128", ...PASSOUT), { passphrase: "secret" }),
    privateBy(),
  ],
  [
    "encrypted SEC1 by 3DES",
    () => of(run("ec", "-in", EC_FILE(), "-des3", ...PASSOUT), { passphrase: "secret" }),
    privateBy(),
  ],
  [
    "an encrypted key and a passphrase that Windows wrote",
    () => of(run("pkey", "-in", EC_FILE(), "-aes256", ...PASSOUT), { passphrase: "secret\r" }),
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
  ["a key with its chain", () => of(selfSigned(EC_FILE()) + selfSigned(RSA_FILE()) + EC()), privateBy()],
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
]);

function pkcs12(...more: readonly string[]): string {
  const out = join(temporaryFolder(), "p12");
  const certificate = secretFile(selfSigned(EC_FILE()));
  run("pkcs12", "-export", "-inkey", EC_FILE(), "-in", certificate, "-out", out, ...more, ...PASSOUT);
  return out;
}

const pss = once(() => run("genpkey", "-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"));
const request = once(() => secretFile(run("req", "-new", "-key", EC_FILE(), "-subj", "/CN=x")));
const legacy = ["-provider", "legacy", "-provider", "default"];
const LEGACY = line(
  "is encrypted in a way that OpenSSL 3 no longer opens, such as RC2, DES or MD5",
  "run openssl pkey -provider legacy -provider default -in FILE -aes256 -out NEW, then import NEW",
);
const WRONG = line(
  "is encrypted, and this passphrase does not open it",
  "give the right one with --pem-passphrase-file FILE",
);

refuses([
  [
    "PBES1 with MD5 and DES",
    () =>
      of(run("pkcs8", "-topk8", "-v1", "PBE-MD5-DES", "-in", RSA_FILE(), ...legacy, ...PASSOUT), {
        passphrase: "secret",
      }),
    LEGACY,
  ],
  [
    "PBES1 with RC2",
    () =>
      of(run("pkcs8", "-topk8", "-v1", "PBE-SHA1-RC2-40", "-in", EC_FILE(), ...legacy, ...PASSOUT), {
        passphrase: "secret",
      }),
    LEGACY,
  ],
  [
    "PBES2 with DES",
    () =>
      of(run("pkcs8", "-topk8", "-v2", "des-cbc", "-in", EC_FILE(), ...legacy, ...PASSOUT), { passphrase: "secret" }),
    LEGACY,
  ],
  [
    "PKCS#1 with DES",
    () => of(run("rsa", "-traditional", "-des", "-in", RSA_FILE(), ...legacy, ...PASSOUT), { passphrase: "secret" }),
    LEGACY,
  ],
  [
    "a wrong passphrase of PKCS#8",
    () => of(run("pkey", "-in", EC_FILE(), "-aes256", ...PASSOUT), { passphrase: "wrong" }),
    WRONG,
  ],
  [
    "a wrong passphrase of SEC1",
    () => of(run("ec", "-in", EC_FILE(), "-aes128", ...PASSOUT), { passphrase: "wrong\r" }),
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
    () => of(use("openssl", ["pkey", "-pubout"], pss())),
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
    "PKCS#12 of Windows",
    () => of(readFileSync(pkcs12("-legacy"))),
    line("is PKCS#12", withKey("openssl pkcs12 -legacy -noenc -in")),
  ],
  [
    "DER that was cut",
    () => of(der("pkey", "-in", RSA_FILE(), "-pubout").subarray(0, 200)),
    line("is DER that is cut, or has something after its end", DAMAGED),
  ],
  ["PKCS#12", () => of(readFileSync(pkcs12())), line("is PKCS#12", withKey("openssl pkcs12 -noenc -in"))],
  [
    "parameters",
    () => of(run("ecparam", "-name", "prime256v1")),
    line("has only parameters, no key", "name the file with the key"),
  ],
]);

testWith(tool("openssl"), "openssl", "the command for old encryption makes a file that is taken", async () => {
  const old = secretFile(run("pkcs8", "-topk8", "-v1", "PBE-MD5-DES", "-in", EC_FILE(), ...legacy, ...PASSOUT));
  const [, command = ""] = /run (.*), then import NEW/.exec(LEGACY) ?? [];
  const fresh = join(temporaryFolder(), "new");
  use("/bin/sh", [
    "-c",
    `${command.replace("FILE", `'${old}'`).replace("NEW", `'${fresh}'`)} -passin pass:secret -passout pass:secret`,
  ]);
  assert.is((await outcome(of(readFileSync(fresh), { passphrase: "secret" }))).is, isEc());
});

test.run();
