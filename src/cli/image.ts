// IMAGE on the command line: oci:DIR[:TAG], oci-archive:FILE[:TAG] or docker://REFERENCE.

import { existsSync } from "node:fs";
import { KeystoreError, printable } from "../errors.ts";
import { openArchive } from "../image/archive.ts";
import type { ImageStore } from "../image/image.ts";
import { openLayout } from "../image/layout.ts";
import { openRegistry } from "../image/registry.ts";

/** What --help says of IMAGE. */
export const IMAGE = "oci:DIR[:TAG], oci-archive:FILE[:TAG] or docker://HOST/PATH[:TAG]";

/** Opens an image. @throws KeystoreError `usage` if the text names none, `image` if it is not there */
export async function openImage(text: string, tlsVerify: boolean): Promise<ImageStore> {
  const [, transport = "", rest = ""] = /^(oci|oci-archive|docker):(.+)$/s.exec(text) ?? [];
  if (transport === "docker" && rest.startsWith("//")) return await openRegistry(rest.slice(2), tlsVerify);
  if (transport === "oci") return openLayout(...pathAndTag(rest));
  if (transport === "oci-archive") return await openArchive(...pathAndTag(rest));
  throw new KeystoreError("usage", `"${printable(text, 128)}" is no image`, `use ${IMAGE}`);
}

/** skopeo's rule: what follows the first colon is the tag. A path with a colon that is there is taken as it is. */
function pathAndTag(text: string): [path: string, tag: string | undefined] {
  const colon = text.indexOf(":");
  return colon === -1 || existsSync(text) ? [text, undefined] : [text.slice(0, colon), text.slice(colon + 1)];
}
