// IMAGE on the command line. A new kind of source is a file beside this one and a row here.

import { existsSync } from "node:fs";
import { printable, usageError, type KeystoreError } from "../../errors.ts";
import { openArchive } from "./archive.ts";
import { openLayout } from "./layout.ts";
import { openRegistry, READ_ONLY, type RegistryAccess } from "./registry.ts";
import type { ImageSource } from "./source.ts";

/** A kind of source. */
interface Transport {
  /** What IMAGE starts with. */
  readonly prefix: string;
  /** What follows the prefix, as help shows it. */
  readonly form: string;
  readonly open: (rest: string, access: RegistryAccess) => ImageSource | Promise<ImageSource>;
}

const MAX_NAME = 8192; // characters: a path may have 4,096 bytes, and a tag follows

const TRANSPORTS: readonly Transport[] = [
  { prefix: "oci:", form: "DIR[:TAG]", open: (rest) => openLayout(...pathAndTag(rest)) },
  { prefix: "oci-archive:", form: "FILE[:TAG]", open: async (rest) => await openArchive(...pathAndTag(rest)) },
  { prefix: "docker://", form: "HOST/PATH[:TAG]", open: openRegistry },
];

/** skopeo's other transports, and what is to be said of them. */
const ELSEWHERE: readonly (readonly [prefix: string, reason: string])[] = [
  ["docker-archive:", "is a docker archive, which cannot hold encrypted layers"],
  ["docker-daemon:", "is an image of a Docker daemon, which does not keep encrypted layers"],
  ["containers-storage:", "is an image of podman's or buildah's storage, where layers are unpacked"],
  ["dir:", "is a folder in skopeo's own format"],
  ["sif:", "is a Singularity image, which cannot hold encrypted layers"],
  ["ostree:", "is an image in an OSTree repository, where layers are unpacked"],
];

/** What --help says of IMAGE. */
export const IMAGE = TRANSPORTS.map(({ prefix, form }) => prefix + form)
  .join(", ")
  .replace(/, (?!.*, )/, " or ");

/** Opens an image. @throws KeystoreError `usage` if the text names none, `image` if it is not there */
export async function openImage(text: string, access: RegistryAccess = READ_ONLY): Promise<ImageSource> {
  if (text.length > MAX_NAME) throw usageError(`an image's name has at most ${MAX_NAME} characters`, `use ${IMAGE}`);
  const transport = TRANSPORTS.find(({ prefix }) => text.startsWith(prefix) && text.length > prefix.length);
  if (transport !== undefined) return await transport.open(text.slice(transport.prefix.length), access);
  const elsewhere = ELSEWHERE.find(([prefix]) => text.startsWith(prefix));
  if (elsewhere !== undefined) throw elsewhereError(text, elsewhere[1]);
  throw usageError(`"${printable(text, 128)}" is no image`, `use ${IMAGE}`);
}

function elsewhereError(text: string, reason: string): KeystoreError {
  const shown = printable(text, 512);
  return usageError(`${shown} ${reason}`, `copy it first: skopeo copy ${shown} oci:DIR, and use oci:DIR`);
}

/** skopeo's rule: the tag follows the first colon. A path with a colon is taken as it is if only that exists. */
function pathAndTag(text: string): [path: string, tag: string | undefined] {
  const colon = text.indexOf(":");
  const [path, tag] = [text.slice(0, colon), text.slice(colon + 1)];
  return colon === -1 || (existsSync(text) && !existsSync(path)) ? [text, undefined] : [path, tag || undefined];
}
