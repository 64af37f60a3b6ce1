// Media types of images (image-spec, docker, ocicrypt): what a document is, and who decrypts which layers.

const OCI = "application/vnd.oci.image.";
const DOCKER = "application/vnd.docker.";

export const OCI_INDEX = `${OCI}index.v1+json`;
export const OCI_MANIFEST = `${OCI}manifest.v1+json`;
export const DOCKER_INDEX = `${DOCKER}distribution.manifest.list.v2+json`;
export const DOCKER_MANIFEST = `${DOCKER}distribution.manifest.v2+json`;

const INDEXES: readonly string[] = [OCI_INDEX, DOCKER_INDEX];
const DOCUMENTS: readonly string[] = [...INDEXES, OCI_MANIFEST, DOCKER_MANIFEST];
const CONFIGS: readonly string[] = [`${OCI}config.v1+json`, `${DOCKER}container.image.v1+json`];

/** Whether a media type is that of an index. */
export function isIndexType(mediaType: string): boolean {
  return INDEXES.includes(mediaType);
}

/** Whether a media type is that of an index or a manifest. An entry without one is what its content says. */
export function isDocumentType(mediaType: string): boolean {
  return mediaType === "" || DOCUMENTS.includes(mediaType);
}

/** Whether a media type is that of an image's configuration. */
export function isConfigType(mediaType: string): boolean {
  return CONFIGS.includes(mediaType);
}
