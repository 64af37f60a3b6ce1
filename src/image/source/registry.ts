// An image in a registry: docker://HOST[:PORT]/PATH[:TAG|@DIGEST], by the OCI distribution API. Manifests only.

import { asKeystoreError, imageError, usageError, type KeystoreError } from "../../errors.ts";
import { changedMeanwhile, damagedImage, digestOf, parseDocument, type Document } from "../documents.ts";
import { DOCKER_INDEX, DOCKER_MANIFEST, isDocumentType, isIndexType, OCI_INDEX, OCI_MANIFEST } from "../media-types.ts";
import {
  findRegistry,
  pullSources,
  readRegistriesConf,
  type PullSource,
  type RegistriesConf,
} from "./registries-conf.ts";
import { connect, type Access, type Client } from "./registry-client.ts";
import { parseReference, referenceText, repositoryOf, type Reference } from "./registry-reference.ts";
import type { ImageSource } from "./source.ts";

const ACCEPT = [OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST].join(", ");

const ACCEPTED = 202; // older Quay says so of what it has written

/** How a registry's image is opened. */
export interface RegistryAccess extends Access {
  /** To read only: then mirrors and other locations of registries.conf count. What is changed is read where it is. */
  readonly change: boolean;
}

/** As registries.conf says it, without changing anything. */
export const READ_ONLY: RegistryAccess = { tlsVerify: undefined, certDir: undefined, change: false };

/** Opens an image in a registry. @throws KeystoreError `usage` if the text names none, `image` if it is not there */
export async function openRegistry(text: string, access: RegistryAccess): Promise<ImageSource> {
  const named = parseReference(text);
  const conf = readRegistriesConf();
  const { client, reference, top } = await openFirst(placesFor(named, conf, access.change), named, conf, access);
  const pinned = reference.digest;
  const place = pinned ?? reference.tag ?? "";
  const parseTop = (): Document => {
    if (pinned !== undefined && digestOf(top.bytes, pinned.split(":")[0]) !== pinned) {
      throw damagedImage(`docker://${text}`, `is not what its digest ${pinned} says`);
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
      const answer = await client.send(`${kind}/${descriptor.digest}`, { headers: { accept: ACCEPT } });
      if (answer.status === 404 || answer.status === 406) return undefined; // 406: there in another media type only
      client.expect(answer, 200);
      return answer.body;
    },
    write: async (documents, newRoot) => {
      if (!access.change) throw usageError(`docker://${text} was opened to be read`, "please report it");
      for (const { digest, mediaType, bytes } of documents) await putManifest(client, digest, { mediaType, bytes });
      const bytes = Buffer.from(newRoot);
      const mediaType = parseDocument(bytes, `docker://${text}`).mediaType ?? top.mediaType;
      if (pinned !== undefined) {
        return await putManifest(client, digestOf(bytes, pinned.split(":")[0]), { mediaType, bytes });
      }
      // Few registries heed a condition on a PUT. For all others, this leaves an instant where a move is undone.
      const now = await fetchManifest(client, place);
      if (now.digest !== top.digest) throw changedMeanwhile(`docker://${text}`);
      await putManifest(client, place, { mediaType, bytes }, now.etag, changedMeanwhile(`docker://${text}`));
    },
  };
}

function placesFor(named: Reference, conf: RegistriesConf, change: boolean): PullSource[] {
  if (!change) return pullSources(conf, named);
  // As skopeo writes: to the host that the name has, wherever it would read.
  return [{ reference: named, insecure: findRegistry(conf, named)?.insecure === true }];
}

interface Opened {
  readonly client: Client;
  readonly reference: Reference;
  readonly top: Manifest;
}

/** The image at the first place that has it. Where none has, the last place's failure counts: it is no mirror. */
async function openFirst(
  places: readonly PullSource[],
  named: Reference,
  conf: RegistriesConf,
  access: RegistryAccess,
): Promise<Opened> {
  const failures: KeystoreError[] = [];
  for (const { reference, insecure } of places) {
    try {
      const client = await connect(reference, conf, access, insecure);
      return { client, reference, top: await fetchManifest(client, reference.digest ?? reference.tag ?? "") };
    } catch (error) {
      failures.push(asKeystoreError(error));
    }
  }
  const last = failures.at(-1);
  if (last === undefined) throw imageError(`no image ${referenceText(named)}`, "check the name");
  const mirrors = failures.slice(0, -1).map(({ message }) => message);
  const elsewhere = access.change ? pullSources(conf, named).map(({ reference }) => repositoryOf(reference)) : [];
  const other = elsewhere.find((one) => one !== repositoryOf(named));
  const also = mirrors.length === 0 ? "" : ` (mirrors failed too: ${mirrors.join("; ")})`;
  if (other === undefined && also === "") throw last;
  const hint = other === undefined ? "" : `; registries.conf reads it from ${other}: name that to change it there`;
  throw imageError(`${last.message}${also}`, `${last.hint}${hint}`);
}

/** A manifest or an index, as it is sent. */
interface Sent {
  readonly bytes: Buffer;
  readonly mediaType: string;
}

/** A manifest or an index, as it was received. */
interface Manifest extends Sent {
  readonly digest: string;
  /** For If-Match, if the registry gives one. */
  readonly etag: string | undefined;
}

async function fetchManifest(client: Client, reference: string): Promise<Manifest> {
  const answer = await client.send(`manifests/${reference}`, { headers: { accept: ACCEPT } });
  if (answer.status === 404) {
    throw imageError(`no image ${reference} at ${client.base}`, "check the name, the tag and who may see it");
  }
  client.expect(answer, 200);
  const etag = answer.header("etag");
  const mediaType = answer.header("content-type") ?? "";
  if (/^text\/html\b/i.test(mediaType)) {
    const hint = "check the host and the port, or the login page of a proxy in between";
    throw imageError(`${client.host} answers with a web page, as no registry does`, hint);
  }
  return {
    bytes: answer.body,
    digest: digestOf(answer.body),
    mediaType,
    etag: etag !== undefined && /^"[\x21\x23-\x7e]*"$/.test(etag) ? etag : undefined, // a weak one never matches
  };
}

/** @param etag of what is replaced @param changed what to throw if that is no longer there */
async function putManifest(
  client: Client,
  reference: string,
  { bytes, mediaType }: Sent,
  etag?: string,
  changed?: KeystoreError,
): Promise<void> {
  const headers = { "content-type": mediaType, ...(etag === undefined ? {} : { "if-match": etag }) };
  const answer = await client.send(`manifests/${reference}`, { method: "PUT", headers, body: bytes });
  if (answer.status === 412 && changed !== undefined) throw changed;
  if ([400, 404].includes(answer.status) && isIndexType(mediaType)) {
    const hint = "most registries refuse one that names a manifest they lack: push those platforms again";
    throw imageError(`${client.host} refuses the new index (HTTP ${answer.status}), the old one is as it was`, hint);
  }
  if (answer.status !== ACCEPTED) client.expect(answer, 201);
}
