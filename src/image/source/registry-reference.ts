// The name of an image in a registry: HOST[:PORT]/PATH[:TAG|@DIGEST], in the grammar of docker and skopeo.

import { printable, usageError } from "../../errors.ts";
import { isDigest } from "../documents.ts";

/** An image in a registry. One of tag and digest is there. */
export interface Reference {
  /** With its port, where it has one; an IPv6 address has its brackets. */
  readonly host: string;
  readonly path: string;
  readonly tag: string | undefined;
  readonly digest: string | undefined;
}

/** The host that docker and skopeo give a name without a host. */
export const DOCKER_HUB = "docker.io";
const MAX_NAME = 255; // characters of host and path

const COMPONENT = /[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*/.source;
const LABEL = /(?:[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9])/.source;
const HOST = new RegExp(String.raw`^(?:${LABEL}(?:\.${LABEL})*|\[[0-9A-Fa-f:.]+\])(?::[0-9]+)?$`);
const PATH = new RegExp(`^${COMPONENT}(?:/${COMPONENT})*$`);
const TAG = /^\w[\w.-]{0,127}$/;
const HEX_ID = /^[a-f0-9]{64}$/;

/** Whether a text can be a registry's host and port. */
export function isHost(text: string): boolean {
  return HOST.test(text) && URL.canParse(`https://${text}/`);
}

/** The whole name, as the entries of registries.conf are compared with it. */
export function referenceText(reference: Reference): string {
  const { tag, digest } = reference;
  return `${repositoryOf(reference)}${tag === undefined ? "" : `:${tag}`}${digest === undefined ? "" : `@${digest}`}`;
}

/** Host and path. */
export function repositoryOf({ host, path }: Reference): string {
  return `${host}/${path}`;
}

/** @throws KeystoreError `usage` if skopeo would not take the name either */
export function parseReference(text: string): Reference {
  const read = readReference(text);
  if (typeof read !== "string") return read;
  const shown = printable(text.replace(/^[^/]*:[^/]*@/, "…@"), 128); // a user and a password do not belong into a log
  throw usageError(`"docker://${shown}" is no image reference: ${read}`, "use docker://HOST[:PORT]/PATH[:TAG|@DIGEST]");
}

/** The image that a name means, or why it means none. */
export function readReference(text: string): Reference | string {
  if (HEX_ID.test(text)) return "it is an image's ID";
  const slash = text.indexOf("/");
  const first = text.slice(0, Math.max(slash, 0));
  const hasHost = slash !== -1 && (/[.:]/.test(first) || first === "localhost");
  const host = hasHost && first !== "index.docker.io" ? first : DOCKER_HUB;
  const rest = hasHost ? text.slice(slash + 1) : text;
  // Docker Hub keeps names of one part below library/.
  const full = host === DOCKER_HUB && !rest.includes("/") ? `library/${rest}` : rest;
  const [, path = "", tag, digest] = /^([^:@]*)(?::([^@]*))?(?:@(.*))?$/s.exec(full) ?? [];
  if (!isHost(host)) return "its host is not valid";
  if (path !== path.toLowerCase()) return "a repository has lower case letters only";
  if (!PATH.test(path)) return "its repository is not valid";
  if (host.length + 1 + path.length > MAX_NAME) return `it is longer than ${MAX_NAME} characters`;
  if (tag !== undefined && !TAG.test(tag)) return "its tag is not valid";
  if (digest !== undefined && !isDigest(digest)) return "its digest is not valid";
  if (tag !== undefined && digest !== undefined) return "it has both a tag and a digest";
  return { host, path, tag: tag ?? (digest === undefined ? "latest" : undefined), digest };
}
