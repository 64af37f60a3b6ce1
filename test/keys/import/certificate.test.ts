// Certificates and chains that openssl writes: the key of the one that a chain is for.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { secretFile, temporaryFolder } from "../../support/folders.ts";
import {
  MAKE,
  DAMAGED,
  CHOOSE,
  of,
  outcome,
  ofPem,
  run,
  der,
  ecPem,
  once,
  EC,
  RSA,
  EC_FILE,
  RSA_FILE,
  selfSigned,
  withKey,
  isEcPublic,
  takes,
  refuses,
  line,
} from "../../support/key-imports.ts";
import { testWith, tool } from "../../support/parts.ts";

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

const HOST = "the key is that of the certificate of C=DE, O=Example, CN=host";
const SELF = "the key is that of the certificate of CN=self";

const certificateBy = (content: string | Buffer): string =>
  `public ${ofPem(run("x509", "-in", secretFile(content), "-noout", "-pubkey"))}`;

takes([
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
]);

refuses([
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
    "PKCS#7",
    () => of(run("crl2pkcs7", "-nocrl", "-certfile", secretFile(certificates().host))),
    line("is PKCS#7", withKey("openssl pkcs7 -print_certs -in")),
  ],
  [
    "DER, PKCS#7",
    () => of(der("crl2pkcs7", "-nocrl", "-certfile", secretFile(certificates().host))),
    line("is PKCS#7", withKey("openssl pkcs7 -print_certs -inform DER -in")),
  ],
]);

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
  testWith(tool("openssl"), "openssl", `takes a certificate that ${name}, and warns`, async () =>
    assert.equal(await outcome(of(certificateFor(start, end))), { is: isEcPublic(), notes: [SELF, warning] }),
  );
}

test.run();
