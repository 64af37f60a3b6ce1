// Formats that are not read: what a file is, and the command that makes a key of it that can be read.

import type { KeystoreError } from "../../errors.ts";
import { convertible, notForEncryption, refused } from "./refusal.ts";

type Row = readonly [what: RegExp, error: () => KeystoreError];

const symmetric = (decoded: string): string =>
  `printf '{"kty":"oct","k":"%s"}' "$(${decoded} | tr '+/' '-_' | tr -d '=\\n')" | ocicrypt-keystore import NAME -`;

const openpgp = (): KeystoreError =>
  refused(
    "is an OpenPGP key",
    "import it into gpg, and run gpg --export-ssh-key KEYID | ocicrypt-keystore import NAME - " +
      "for its RSA or NIST public key",
  );

const encrypted = (by: string, command: string): KeystoreError =>
  refused(`is a file that ${by} encrypted`, `run ${command} FILE | ocicrypt-keystore import NAME -`);

const pkcs12 = (legacy = ""): KeystoreError => convertible("is PKCS#12", `openssl pkcs12 ${legacy}-noenc -in`);

/** Kinds of PEM, by the label. */
const LABELS: readonly Row[] = [
  [/^(NEW )?CERTIFICATE REQUEST$/, () => convertible("is a certificate request", "openssl req -noout -pubkey -in")],
  [/^(PKCS7|PKCS #7 SIGNED DATA|CMS)$/, () => convertible("is PKCS#7", "openssl pkcs7 -print_certs -in")],
  [
    /^DER CERTIFICATE REQUEST$/,
    () => convertible("is a certificate request", "openssl req -noout -pubkey -inform DER -in"),
  ],
  [/^DER PKCS7$/, () => convertible("is PKCS#7", "openssl pkcs7 -print_certs -inform DER -in")],
  [/^DER PKCS12 BY RC2$/, () => pkcs12("-legacy ")],
  [/^(DER )?PKCS12$/, () => pkcs12()],
  [/^PGP MESSAGE$/, () => encrypted("gpg", "gpg -d")],
  [/^PGP /, openpgp],
  [
    /^TSS2 PRIVATE KEY$/,
    () => refused("is a key that a TPM holds", "import its public key with --holder: see the README"),
  ],
  [/^ENCRYPTED (SIGSTORE|COSIGN) PRIVATE KEY$/, () => notForEncryption("is a key of cosign, for signatures")],
  [/^AGE ENCRYPTED FILE$/, () => encrypted("age", "age -d")],
  [/^(DER )?X509 CRL$/, () => refused("is a list of revoked certificates", "name a file with a key or a certificate")],
  [/^(EC|DH|DSA|X9\.42 DH) PARAMETERS$/, () => refused("has only parameters, no key", "name the file with the key")],
];

/** The error for PEM without a key that can be read. */
export function pemOfAnotherKind(labels: readonly string[]): KeystoreError {
  for (const label of labels) {
    const row = LABELS.find(([pattern]) => pattern.test(label));
    if (row !== undefined) return row[1]();
  }
  return refused("is PEM without a key or a certificate", "name a file with a key or a certificate");
}

/** Kinds of text, and of binary files by their first bytes (in Latin-1). */
const KINDS: readonly Row[] = [
  [/^$/, () => refused("is empty", "name a file with a key")],
  [/^PuTTY-User-Key-File-/, () => convertible("is a key of PuTTY", "puttygen -O private-openssh -o /dev/stdout")],
  [/^---- BEGIN SSH2 PUBLIC KEY ----/, () => convertible("is a public key in RFC 4716 form", "ssh-keygen -i -f")],
  [
    /^---- BEGIN SSH2 /,
    () => refused("is a private key of ssh.com", "run ssh-keygen -i -f FILE > NEW, then import NEW"),
  ],
  [
    /^(untrusted comment:|RW[QRT][A-Za-z0-9+/]{53}\s*$)/,
    () => notForEncryption("is an Ed25519 key of minisign or signify, which signs and cannot encrypt"),
  ],
  [
    /^(AGE-SECRET-KEY-|age1|# created: .*\n# public key: age1)/m,
    () => notForEncryption("is an X25519 key of age, which ocicrypt's clients cannot use"),
  ],
  [
    /^\xfe\xed\xfe\xed|^\xce\xce\xce\xce/,
    () =>
      refused(
        "is a Java keystore",
        "run keytool -importkeystore -srckeystore FILE -destkeystore NEW.p12 -deststoretype PKCS12, " +
          "then openssl pkcs12 -nocerts -noenc -in NEW.p12 | ocicrypt-keystore import NAME -",
      ),
  ],
  [/^[\x94\x95\x98\x99\xc5\xc6]/, openpgp],
  [/^[\x84\x85\x8c\xc1\xc3]/, () => encrypted("gpg", "gpg -d")], // RFC 4880, sections 5.1 and 5.3
  [/^age-encryption\.org\//, () => encrypted("age", "age -d")],
  [/^\$ANSIBLE_VAULT;/, () => encrypted("ansible-vault", "ansible-vault view")],
  [
    /^(Salted__|U2FsdGVkX1)/,
    () =>
      refused("is a file that openssl enc encrypted", "decrypt it with the openssl enc -d that fits, then import it"),
  ],
  [/^0\x80\W\t\*/, () => convertible("is PKCS#7", "openssl pkcs7 -print_certs -inform DER -in")], // BER: an OID
  [/^0\x80/, () => pkcs12()], // BER, as NSS and Apple write it
  [
    /^(<\?xml|<RSAKeyValue|<ECDSAKeyValue|<ECKeyValue)/,
    () => refused("is XML", "export it as PEM: .NET has ExportPkcs8PrivateKeyPem and ExportSubjectPublicKeyInfoPem"),
  ],
  [/^0[\x81-\x83]/, () => refused("is DER that is cut, or has something after its end")],
  [/^<(!doctype|html)/i, () => refused("is a web page", "download the key itself")],
  [
    /^(apiVersion|kind): /m,
    () =>
      refused(
        "is a Kubernetes manifest",
        `run kubectl get secret SECRET -o jsonpath='{.data.tls\\.crt}' | base64 -d | ocicrypt-keystore import NAME -`,
      ),
  ],
  [
    /^[0-9a-f]{64}\s*$|^[0-9a-f]{48}\s*$|^[0-9a-f]{32}\s*$/i,
    () => refused("looks like a symmetric key in hexadecimal", `run ${symmetric("xxd -r -p FILE | base64 -w 0")}`),
  ],
  [
    /^[A-Za-z0-9+/]{43}=\s*$|^[A-Za-z0-9+/]{32}\s*$|^[A-Za-z0-9+/]{22}==\s*$/,
    () => refused("looks like a symmetric key in base64", `run ${symmetric("cat FILE")}`),
  ],
];

/** The error for bytes that are none of the formats that are read. */
export function otherKind(bytes: Buffer): KeystoreError {
  const text = bytes.toString("latin1");
  if ([16, 24, 32].includes(bytes.length) && !/^[\x20-\x7e\s]*$/.test(text))
    return refused("looks like a symmetric key in raw bytes", `run ${symmetric("base64 -w 0 FILE")}`);
  const row = KINDS.find(([pattern]) => pattern.test(text.trimStart()));
  if (row !== undefined) return row[1]();
  return refused(
    "is in no format that is known here",
    "name a file with a JWK, PEM, DER, an OpenSSH key or a certificate",
  );
}
