// Certificates (RFC 5280): the key of the one that a chain is for.

import { X509Certificate } from "node:crypto";
import { printable } from "../../errors.ts";
import { checkJwk } from "../../jwk/jwk.ts";
import { candidate, type Candidate } from "./candidate.ts";
import { refused, unusableCurve, unusableKind } from "./refusal.ts";

/**
 * The keys of the certificates that issued no other certificate of the file: of a chain that is one, in whatever order
 * it is written.
 */
export function readCertificates(pems: readonly string[]): readonly Candidate[] {
  const all = new Map<string, X509Certificate>();
  for (const pem of pems) {
    const certificate = parse(pem);
    all.set(certificate.fingerprint256, certificate);
  }
  const chain = [...all.values()];
  const leaves = chain.filter((one) => !chain.some((other) => other !== one && other.checkIssued(one)));
  return (leaves.length > 0 ? leaves : chain).map((certificate) =>
    candidate(() => ({
      jwk: checkJwk(publicKey(certificate), (reason) => refused(reason)),
      notes: notes(certificate),
      label: subjectOf(certificate),
    })),
  );
}

function parse(pem: string): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch {
    throw refused("has a certificate that is damaged");
  }
}

function publicKey({ publicKey: key }: X509Certificate): unknown {
  const { asymmetricKeyType: type = "", asymmetricKeyDetails: details } = key;
  const error = unusableKind(type);
  if (error !== undefined) throw error;
  try {
    return key.export({ format: "jwk" });
  } catch {
    throw type === "ec" ? unusableCurve(details?.namedCurve) : refused(`is a key of the type ${type}, not RSA or EC`);
  }
}

function notes(certificate: X509Certificate): string[] {
  const { validFrom, validTo, validFromDate, validToDate } = certificate;
  const isCa = certificate.ca && !certificate.checkIssued(certificate); // openssl makes self-signed ones CAs
  return [
    `the key is that of the certificate of ${subjectOf(certificate)}`,
    ...(Date.now() > validToDate.getTime() ? [`warning: this certificate expired on ${validTo}`] : []),
    ...(Date.now() < validFromDate.getTime() ? [`warning: this certificate is valid only from ${validFrom}`] : []),
    ...(isCa ? ["warning: this certificate is that of a certificate authority, not of a user or a host"] : []),
  ];
}

function subjectOf({ subject, serialNumber }: X509Certificate): string {
  const names = subject.split("\n").filter((line) => line !== "");
  return names.length > 0 ? printable(names.join(", "), 256) : `serial number ${serialNumber}`;
}
