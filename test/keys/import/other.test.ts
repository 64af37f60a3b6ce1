// Files in other formats: each is refused by what it is, with the command that converts it.

import { randomBytes } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { secretFile } from "../../support/folders.ts";
import { MAKE, DAMAGED, NAME_ONE, of, outcome, withKey, line } from "../../support/key-imports.ts";
import { tool, use } from "../../support/parts.ts";

const OPENPGP =
  "import it into gpg, and run gpg --export-ssh-key KEYID | ocicrypt-keystore import NAME - for its RSA or NIST public key";

const ENC = "decrypt it with the openssl enc -d that fits, then import it";
const SOPS = "run sops -d FILE, and import the key that this prints";
const pgp = (kind: string): string =>
  `-----BEGIN PGP ${kind} BLOCK-----\n\nmQENBF\n=abcd\n-----END PGP ${kind} BLOCK-----\n`;
const block = (label: string): string => `-----BEGIN ${label}-----\nAAAA\n-----END ${label}-----\n`;
const k = Buffer.concat([Buffer.of(0xe5), randomBytes(31)]); // in hexadecimal, it is base64 of { and more, too
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
  [
    "a file that gpg encrypted",
    "-----BEGIN PGP MESSAGE-----\n\nhQEMA\n=abcd\n-----END PGP MESSAGE-----\n",
    "is a file that gpg encrypted",
    withKey("gpg -d"),
  ],
  ["the same in binary", Buffer.from("85010c03", "hex"), "is a file that gpg encrypted", withKey("gpg -d")],
  ["a binary file of age", "age-encryption.org/v1\n-> X25519 x\n", "is a file that age encrypted", withKey("age -d")],
  [
    "a file of ansible-vault",
    "$ANSIBLE_VAULT;1.1;AES256\n6162\n",
    "is a file that ansible-vault encrypted",
    withKey("ansible-vault view"),
  ],
  ["openssl enc", "Salted__\u0001\u0002", "is a file that openssl enc encrypted", ENC],
  ["openssl enc -a", "U2FsdGVkX18BAgMEBQYHCA==\n", "is a file that openssl enc encrypted", ENC],
  [
    "PKCS#12 in BER, as NSS writes it",
    Buffer.from("30800201033080", "hex"),
    "is PKCS#12",
    withKey("openssl pkcs12 -noenc -in"),
  ],
  [
    "PKCS#7 in BER",
    Buffer.from("308006092a864886f70d010702a080", "hex"),
    "is PKCS#7",
    withKey("openssl pkcs7 -print_certs -inform DER -in"),
  ],
  ["sops", '{"data":"ENC[AES256_GCM,data:x]","sops":{}}', "is a file that sops encrypted", SOPS],
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
