// An image in a registry: docker://HOST[:PORT]/PATH[:TAG|@DIGEST], by the OCI distribution API. Manifests only.

import { getCACertificates, setDefaultCACertificates } from "node:tls";
import { imageError, KeystoreError, printable, usageError } from "../../errors.ts";
import { isObject, member, parseJson } from "../../json.ts";
import { changedMeanwhile, damaged, digestOf, isDigest, LIMITS, parseDocument, type Descriptor, type Document } from "../documents.ts";
import { credentialsFor, type Credentials } from "./credentials.ts";
import type { ImageSource } from "./source.ts";

const TIMEOUT = 30_000; // ms for one request and its answer
const THIS_MACHINE = /^(localhost|127\.\d+\.\d+\.\d+)(:|$)/;
const ACCEPT = [
  "application/vnd.oci.image.index.v1+json",
  "application/vnd.oci.image.manifest.v1+json",
  "application/vnd.docker.distribution.manifest.list.v2+json",
  "application/vnd.docker.distribution.manifest.v2+json",
].join(", ");

interface Reference {
  readonly host: string;
  readonly path: string;
  /** A tag, or a digest. */
  readonly reference: string;
}

/** distribution's grammar of names, as docker reads it: without a host it is Docker Hub. @throws KeystoreError `usage` */
function parseReference(text: string): Reference {
  const [, name = "", tag, digest] = /^([^@]+?)(?::([A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@(.+))?$/.exec(text) ?? [];
  const [first = "", ...rest] = name.split("/");
  const hasHost = rest.length > 0 && (/[.:]/.test(first) || first === "localhost");
  const path = hasHost ? rest.join("/") : rest.length === 0 ? `library/${first}` : name;
  const host = hasHost ? first : "docker.io";
  const valid = /^[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:\/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*$/.test(path) && /^[A-Za-z0-9.-]+(?::\d{1,5})?$/.test(host);
  if (!valid || (digest !== undefined && !isDigest(digest))) {
    const shown = text.replace(/^[^/]*:[^/]*@/, "…@"); // a user and a password do not belong there, nor into a log
    throw usageError(`"docker://${printable(shown, 128)}" is no image reference`, "use docker://HOST[:PORT]/PATH[:TAG]");
  }
  return { host, path, reference: digest ?? tag ?? "latest" };
}

/**
 * Opens an image in a registry.
 *
 * @param tlsVerify false: without TLS, which only a registry on this machine is trusted with
 */
export async function openRegistry(text: string, tlsVerify: boolean): Promise<ImageSource> {
  const { host, path, reference } = parseReference(text);
  if (!tlsVerify && !THIS_MACHINE.test(host)) {
    throw usageError(`${host} is not this machine`, "--tls-verify=false is for a registry on localhost");
  }
  // Node knows its own authorities; skopeo and docker trust the system's, where a company puts its own.
  if (tlsVerify) setDefaultCACertificates([...getCACertificates("default"), ...getCACertificates("system")]);
  const base = `${tlsVerify ? "https" : "http"}://${host === "docker.io" ? "registry-1.docker.io" : host}/v2/${path}`;
  const send = authorized(host, path);
  const top = await fetchManifest(send, base, reference, host);
  const parseTop = (): Document => {
    if (isDigest(reference) && digestOf(top.bytes, reference.split(":")[0]) !== reference) {
      throw damaged(`docker://${text}`, `is not what its digest ${reference} says`);
    }
    return parseDocument(top.bytes, `docker://${text}`);
  };
  return {
    digest: top.digest,
    root: async () => {
      const document = parseTop();
      return { document, selected: document.kind === "index" ? [...document.manifests.keys()] : [] };
    },
    read: async (descriptor) => (isDocument(descriptor) ? (await fetchManifest(send, base, descriptor.digest, host)).bytes : await fetchBlob(send, base, descriptor, host)),
    write: async (documents, newRoot) => {
      for (const { digest, mediaType, bytes } of documents) await putManifest(send, base, digest, mediaType, bytes, host);
      const bytes = Buffer.from(newRoot);
      // Registries know no condition on a PUT: this leaves an instant where a move of the tag is still undone.
      if (!isDigest(reference) && (await fetchManifest(send, base, reference, host)).digest !== top.digest) throw changedMeanwhile(`docker://${text}`);
      const target = isDigest(reference) ? digestOf(bytes, reference.split(":")[0]) : reference;
      await putManifest(send, base, target, parseTop().mediaType ?? top.mediaType, bytes, host);
    },
  };
}

interface Outgoing {
  readonly method?: "PUT";
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array<ArrayBuffer>;
}

type Send = (url: string, outgoing: Outgoing) => Promise<Response>;

function isDocument({ mediaType }: Descriptor): boolean {
  return ACCEPT.includes(mediaType) && mediaType !== "";
}

async function fetchManifest(send: Send, base: string, reference: string, host: string): Promise<{ bytes: Buffer; digest: string; mediaType: string }> {
  const response = await send(`${base}/manifests/${reference}`, { headers: { accept: ACCEPT } });
  if (response.status === 404) {
    await response.body?.cancel();
    throw imageError(`no image ${reference} at ${base}`, "check the name, the tag and who may see it");
  }
  const bytes = await body(response, host);
  return { bytes, digest: digestOf(bytes), mediaType: response.headers.get("content-type") ?? "" };
}

async function fetchBlob(send: Send, base: string, { digest }: Descriptor, host: string): Promise<Buffer> {
  return await body(await send(`${base}/blobs/${digest}`, {}), host);
}

async function putManifest(send: Send, base: string, reference: string, mediaType: string, bytes: Buffer, host: string): Promise<void> {
  const response = await send(`${base}/manifests/${reference}`, { method: "PUT", headers: { "content-type": mediaType }, body: new Uint8Array(bytes) });
  await response.body?.cancel();
  expectStatus(response, 201, host);
}

function expectStatus(response: Response, status: number, host: string): void {
  if (response.status === status) return;
  if (response.status === 401 || response.status === 403) {
    throw imageError(`${host} refuses these credentials (HTTP ${response.status})`, `log in with skopeo login ${host}, or podman or docker login`);
  }
  throw imageError(`${host} answered HTTP ${response.status}`, "see the registry's log");
}

/** The body of a successful answer, at most 4 MiB. */
async function body(response: Response, host: string): Promise<Buffer> {
  if (response.status !== 200) await response.body?.cancel();
  expectStatus(response, 200, host);
  const chunks: Uint8Array[] = [];
  let length = 0;
  try {
    for await (const chunk of response.body ?? []) {
      length += chunk.length;
      if (length > LIMITS.documentBytes) throw damaged(`a document of ${host}`, "is larger than 4 MiB");
      chunks.push(chunk);
    }
  } catch (error) {
    throw error instanceof KeystoreError ? error : unreachable(error, host);
  }
  return Buffer.concat(chunks);
}

/** Sends with the credentials that the registry asks for (distribution-spec; RFC 7617, docker's token authentication). */
function authorized(host: string, path: string): Send {
  let authorization: string | undefined;
  return async (url, outgoing) => {
    const attempt = async (): Promise<Response> =>
      await request(url, { ...outgoing, headers: { ...outgoing.headers, ...(authorization === undefined ? {} : { authorization }) } }, host);
    const first = await attempt();
    const challenge = first.headers.get("www-authenticate");
    if (first.status !== 401 || challenge === null) return first;
    await first.body?.cancel();
    const scope = `repository:${path}:${outgoing.method === "PUT" ? "pull,push" : "pull"}`;
    authorization = await answerChallenge(challenge, credentialsFor(host, path), scope, host, url.startsWith("http:"));
    return authorization === undefined ? first : await attempt();
  };
}

async function request(url: string, outgoing: Outgoing, host: string): Promise<Response> {
  try {
    // Blobs are often elsewhere; fetch takes no Authorization along to another host. What is written goes where it was sent.
    const response = await fetch(url, { ...outgoing, redirect: outgoing.method === "PUT" ? "manual" : "follow", signal: AbortSignal.timeout(TIMEOUT) });
    if (!url.startsWith("https:") || response.url.startsWith("https:")) return response;
    await response.body?.cancel();
  } catch (error) {
    throw unreachable(error, host);
  }
  throw new KeystoreError("image", `${host} leads to an address without TLS`, "see the registry's configuration");
}

function unreachable(error: unknown, host: string): KeystoreError {
  const { name, cause } = error instanceof Error ? error : {};
  const why = cause instanceof Error && "code" in cause ? String(cause.code) : name === "TimeoutError" ? `no whole answer within ${TIMEOUT / 1000} s` : "no whole answer";
  return imageError(`cannot reach ${host}: ${printable(why, 64)}`, "check the name, the network and its certificate; a registry on localhost may need --tls-verify=false");
}

async function answerChallenge(challenge: string, credentials: Credentials | undefined, scope: string, host: string, plain: boolean): Promise<string | undefined> {
  const basic = credentials && `Basic ${Buffer.from(`${credentials.username}:${credentials.password}`).toString("base64")}`;
  if (/^basic\b/i.test(challenge)) return basic;
  const parameter = (name: string): string | undefined => new RegExp(`${name}="([^"]*)"`, "i").exec(challenge)?.[1];
  const realm = parameter("realm");
  if (!/^bearer\b/i.test(challenge) || realm === undefined || !URL.canParse(realm)) return undefined;
  const url = new URL(realm);
  if (url.protocol !== "https:" && !(plain && url.protocol === "http:" && THIS_MACHINE.test(url.host))) {
    throw imageError(`${host} sends credentials to ${printable(url.origin, 128)}, which has no TLS`, "nothing was sent there; see the registry's token realm");
  }
  const service = parameter("service");
  if (service !== undefined) url.searchParams.set("service", service);
  url.searchParams.set("scope", scope);
  const response = await request(url.href, { headers: basic === undefined ? {} : { authorization: basic } }, host);
  const answer = parseJson(await body(response, host), 8, (reason) => damaged(`the token of ${host}`, reason));
  const token = isObject(answer) ? (member(answer, "token") ?? member(answer, "access_token")) : undefined;
  return typeof token === "string" ? `Bearer ${token}` : undefined;
}
