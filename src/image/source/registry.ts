// An image in a registry: docker://HOST[:PORT]/PATH[:TAG|@DIGEST], by the OCI distribution API. Manifests only.

import { getCACertificates, setDefaultCACertificates } from "node:tls";
import { imageError, printable, usageError } from "../../errors.ts";
import { changedMeanwhile, damagedImage, digestOf, isDigest, parseDocument, type Document } from "../documents.ts";
import { DOCKER_INDEX, DOCKER_MANIFEST, isDocumentType, isIndexType, OCI_INDEX, OCI_MANIFEST } from "../media-types.ts";
import { authorized, body, expectStatus, isThisMachine, type Send } from "./registry-http.ts";
import type { ImageSource } from "./source.ts";

const ACCEPT = [OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST].join(", ");

const PATH = /^[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:\/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*$/;
const HOST = /^[A-Za-z0-9.-]+(?::\d{1,5})?$/;

interface Reference {
  readonly host: string;
  readonly path: string;
  /** A tag, or a digest. */
  readonly reference: string;
}

/**
 * distribution's grammar of names, as docker reads it: without a host it is Docker Hub.
 *
 * @throws KeystoreError `usage`
 */
function parseReference(text: string): Reference {
  const [, name = "", tag, digest] = /^([^@]+?)(?::([A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@(.+))?$/.exec(text) ?? [];
  const [first = "", ...rest] = name.split("/");
  const hasHost = rest.length > 0 && (/[.:]/.test(first) || first === "localhost");
  const host = hasHost && first !== "index.docker.io" ? first : "docker.io";
  const named = hasHost ? rest.join("/") : name;
  const path = host === "docker.io" && !named.includes("/") ? `library/${named}` : named;
  const valid = PATH.test(path) && HOST.test(host) && (digest === undefined || isDigest(digest));
  if (valid) return { host, path, reference: digest ?? tag ?? "latest" };
  const shown = printable(text.replace(/^[^/]*:[^/]*@/, "…@"), 128); // a user and a password do not belong into a log
  throw usageError(`"docker://${shown}" is no image reference`, "use docker://HOST[:PORT]/PATH[:TAG]");
}

/**
 * Opens an image in a registry.
 *
 * @param tlsVerify false: without TLS, which only a registry on this machine is trusted with
 */
export async function openRegistry(text: string, tlsVerify: boolean): Promise<ImageSource> {
  const { host, path, reference } = parseReference(text);
  if (!tlsVerify && !isThisMachine(host)) {
    const hint = "--tls-verify=false is for a registry on localhost";
    throw usageError(`${host} is not this machine`, hint);
  }
  // Node knows its own authorities; skopeo and docker trust the system's, where a company puts its own.
  if (tlsVerify) setDefaultCACertificates([...getCACertificates("default"), ...getCACertificates("system")]);
  const base = `${tlsVerify ? "https" : "http"}://${host === "docker.io" ? "registry-1.docker.io" : host}/v2/${path}`;
  const send = authorized(host, path);
  const top = await fetchManifest(send, base, reference, host);
  const parseTop = (): Document => {
    if (isDigest(reference) && digestOf(top.bytes, reference.split(":")[0]) !== reference) {
      throw damagedImage(`docker://${text}`, `is not what its digest ${reference} says`);
    }
    return parseDocument(top.bytes, `docker://${text}`);
  };
  return {
    digest: top.digest,
    root: async () => {
      const document = parseTop();
      return { document, selected: document.kind === "index" ? [...document.manifests.keys()] : [] };
    },
    read: async (descriptor) => {
      const kind = isDocumentType(descriptor.mediaType) ? "manifests" : "blobs";
      const response = await send(`${base}/${kind}/${descriptor.digest}`, { headers: { accept: ACCEPT } });
      // 406: it is there in another media type only
      if (response.status !== 404 && response.status !== 406) return await body(response, host);
      await response.body?.cancel();
      return undefined;
    },
    write: async (documents, newRoot) => {
      for (const { digest, mediaType, bytes } of documents) {
        await putManifest(send, base, digest, { mediaType, bytes }, host);
      }
      const bytes = Buffer.from(newRoot);
      // Registries know no condition on a PUT: this leaves an instant where a move of the tag is still undone.
      const now = isDigest(reference) ? top : await fetchManifest(send, base, reference, host);
      if (now.digest !== top.digest) throw changedMeanwhile(`docker://${text}`);
      const target = isDigest(reference) ? digestOf(bytes, reference.split(":")[0]) : reference;
      const mediaType = parseDocument(bytes, `docker://${text}`).mediaType ?? top.mediaType;
      await putManifest(send, base, target, { mediaType, bytes }, host);
    },
  };
}

/** A manifest or an index, as it is sent. */
interface Sent {
  readonly bytes: Buffer;
  readonly mediaType: string;
}

async function fetchManifest(
  send: Send,
  base: string,
  reference: string,
  host: string,
): Promise<Sent & { readonly digest: string }> {
  const response = await send(`${base}/manifests/${reference}`, { headers: { accept: ACCEPT } });
  if (response.status === 404) {
    await response.body?.cancel();
    throw imageError(`no image ${reference} at ${base}`, "check the name, the tag and who may see it");
  }
  const bytes = await body(response, host);
  return { bytes, digest: digestOf(bytes), mediaType: response.headers.get("content-type") ?? "" };
}

async function putManifest(send: Send, base: string, reference: string, sent: Sent, host: string): Promise<void> {
  const response = await send(`${base}/manifests/${reference}`, {
    method: "PUT",
    headers: { "content-type": sent.mediaType },
    body: new Uint8Array(sent.bytes),
  });
  await response.body?.cancel();
  if ([400, 404].includes(response.status) && isIndexType(sent.mediaType)) {
    const hint = "most registries refuse one that names a manifest they lack: push those platforms again";
    throw imageError(`${host} refuses the new index (HTTP ${response.status}), the old one is as it was`, hint);
  }
  expectStatus(response, 201, host);
}
