// Whom a connection to a registry trusts, and what it shows: the system's authorities as Go finds them, and certs.d.

import { X509Certificate } from "node:crypto";
import { existsSync, readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { join } from "node:path";
import { createSecureContext, type SecureContext } from "node:tls";
import { errorCode, imageError, usageError } from "../../errors.ts";
import { homeFolder } from "./home.ts";

// crypto/x509's places on Linux: the first file that can be read, and every folder.
const FILES = [
  "/etc/ssl/certs/ca-certificates.crt",
  "/etc/pki/tls/certs/ca-bundle.crt",
  "/etc/ssl/ca-bundle.pem",
  "/etc/pki/tls/cacert.pem",
  "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
  "/etc/ssl/cert.pem",
];
const FOLDERS = ["/etc/ssl/certs", "/etc/pki/tls/certs"];
const PEM = /-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----/g;

/**
 * The certificates for connections to a host. No variable of Node's counts.
 *
 * @param host with its port
 * @param folder instead of the host's folder in certs.d
 */
export function secureContextFor(host: string, folder: string | undefined): SecureContext {
  if (folder !== undefined && !existsSync(folder)) throw usageError(`there is no folder ${folder}`, "fix --cert-dir");
  const found = folder ?? certsFolder(host);
  const { authorities, pairs } = found === undefined ? { authorities: [], pairs: [] } : readCertsFolder(found);
  return createSecureContext({
    ca: [...new Set([...systemAuthorities(), ...authorities].flatMap(certificates))].filter(isReadable),
    cert: pairs.map(({ cert }) => cert),
    key: pairs.map(({ key }) => key),
    allowPartialTrustChain: true, // Go trusts whatever is in the list, a root or not
  });
}

/** The folders that may have certificates for a host, in their order: the first that exists counts alone. */
export function certsFolders(host: string): string[] {
  const places = [join(homeFolder(), ".config/containers"), "/etc/containers", "/etc/docker"];
  return places.map((place) => join(place, "certs.d", host));
}

function certsFolder(host: string): string | undefined {
  return certsFolders(host).find((folder) => existsSync(folder));
}

/** The texts of the files that may have authorities. */
function systemAuthorities(): string[] {
  const { SSL_CERT_FILE = "", SSL_CERT_DIR = "" } = process.env;
  const file = (SSL_CERT_FILE === "" ? FILES : [SSL_CERT_FILE]).map(readIfPossible).find((text) => text !== undefined);
  const folders = SSL_CERT_DIR === "" ? FOLDERS : SSL_CERT_DIR.split(":");
  const texts = [
    file ?? "",
    ...folders.flatMap((folder) => listUnique(folder).map((path) => readIfPossible(path) ?? "")),
  ];
  return texts;
}

function certificates(text: string): string[] {
  return text.match(PEM) ?? [];
}

/** Go leaves a certificate out that it cannot read. */
function isReadable(certificate: string): boolean {
  try {
    return new X509Certificate(certificate).raw.length > 0;
  } catch {
    return false;
  }
}

/** A folder's files without the links to other names in it, which OpenSSL makes for each certificate. */
function listUnique(folder: string): string[] {
  try {
    const entries = readdirSync(folder, { withFileTypes: true });
    const paths = entries.filter((entry) => {
      return !entry.isDirectory() && !(entry.isSymbolicLink() && !readlinkSync(join(folder, entry.name)).includes("/"));
    });
    return paths.map(({ name }) => join(folder, name));
  } catch {
    return [];
  }
}

function readIfPossible(path: string): string | undefined {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return undefined;
  }
}

interface Certs {
  /** Texts with certificates. */
  readonly authorities: readonly string[];
  readonly pairs: readonly { readonly cert: string; readonly key: string }[];
}

/** *.crt are authorities, and *.cert with *.key of the same name show who this client is. */
function readCertsFolder(folder: string): Certs {
  const names = list(folder);
  const read = (name: string): string => {
    const text = readIfPossible(join(folder, name));
    if (text === undefined) throw imageError(`cannot read ${join(folder, name)}`, "let this user read it (see ls -l)");
    return text;
  };
  // skopeo leaves out an authority that is a link to nothing, such as RHEL's before it is registered.
  const authorities = names.filter((name) => name.endsWith(".crt") && !isDangling(join(folder, name))).map(read);
  const pairs = names.flatMap((name) => {
    const [, base = "", kind = ""] = /^(.*)\.(cert|key)$/s.exec(name) ?? [];
    if (kind === "") return [];
    const other = `${base}.${kind === "cert" ? "key" : "cert"}`;
    if (!names.includes(other)) {
      const hint = "a client's certificate NAME.cert and its key NAME.key stand together; authorities are NAME.crt";
      throw imageError(`${join(folder, name)} is there without ${other}`, hint);
    }
    if (kind === "key") return [];
    const pair = { cert: read(name), key: read(other) };
    try {
      createSecureContext(pair);
    } catch {
      throw imageError(`${join(folder, name)} and ${other} are no certificate and its key`, "replace them");
    }
    return [pair];
  });
  return { authorities, pairs };
}

function isDangling(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false }) === undefined;
  } catch {
    return false; // to be told when it is read
  }
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder).toSorted();
  } catch (error) {
    const code = errorCode(error) ?? "unknown error";
    if (code === "EACCES" || code === "EPERM") return []; // skopeo goes on without it
    throw imageError(`cannot read ${folder}: ${code}`, "put a folder with certificates there, or remove it");
  }
}
