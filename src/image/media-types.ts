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

/** Whether a media type is that of docker's first manifests, which have no media types of layers: they are not encrypted. */
export function isOldManifestType(mediaType: string): boolean {
  return mediaType.startsWith(`${DOCKER}distribution.manifest.v1+`);
}

/** Whether a media type is that of an image's configuration. */
export function isConfigType(mediaType: string): boolean {
  return CONFIGS.includes(mediaType);
}

const ENCRYPTED = "+encrypted";
const TAR = String.raw`v1\.tar(\+gzip|\+zstd)?\+encrypted$`;
const PLAIN_LAYER = new RegExp(String.raw`^application/vnd\.oci\.image\.layer\.${TAR}`);
const ANY_OCI_LAYER = new RegExp(String.raw`^application/vnd\.oci\.image\.layer\.(nondistributable\.)?${TAR}`);

/** Which encrypted layers clients take, by their sources: others stay encrypted, or the image is refused. */
const CLIENTS: readonly {
  readonly name: string;
  readonly decrypts: (layerType: string, manifestType: string) => boolean;
}[] = [
  // containers/image: any media type, but not in a docker manifest
  { name: "skopeo, podman, buildah, CRI-O", decrypts: (_, manifestType) => manifestType !== DOCKER_MANIFEST },
  // imgcrypt
  { name: "containerd, nerdctl", decrypts: (layerType) => PLAIN_LAYER.test(layerType) },
  // image-rs
  { name: "the guests of Kata and Confidential Containers", decrypts: (layerType) => ANY_OCI_LAYER.test(layerType) },
];

/** The clients that do not decrypt a layer of this media type in a manifest of that one. */
export function notDecryptedBy(layerType: string, manifestType: string): string[] {
  return CLIENTS.filter(({ decrypts }) => !decrypts(layerType, manifestType)).map(({ name }) => name);
}

/** docker's media types, and OCI's for the same bytes. */
const SAME_BYTES = new Map([
  [DOCKER_INDEX, OCI_INDEX],
  [DOCKER_MANIFEST, OCI_MANIFEST],
  [`${DOCKER}container.image.v1+json`, `${OCI}config.v1+json`],
  [`${DOCKER}image.rootfs.diff.tar`, `${OCI}layer.v1.tar`],
  [`${DOCKER}image.rootfs.diff.tar.gzip`, `${OCI}layer.v1.tar+gzip`],
  [`${DOCKER}image.rootfs.diff.tar.zstd`, `${OCI}layer.v1.tar+zstd`],
  [`${DOCKER}image.rootfs.foreign.diff.tar`, `${OCI}layer.nondistributable.v1.tar`],
  [`${DOCKER}image.rootfs.foreign.diff.tar.gzip`, `${OCI}layer.nondistributable.v1.tar+gzip`],
]);

/** OCI's media type for the same bytes, undefined if it is not one of docker's. */
export function ociType(mediaType: string): string | undefined {
  if (!mediaType.endsWith(ENCRYPTED)) return SAME_BYTES.get(mediaType);
  const plain = SAME_BYTES.get(mediaType.slice(0, -ENCRYPTED.length));
  return plain === undefined ? undefined : plain + ENCRYPTED;
}
