// inspect IMAGE: shows who can open which layer, and what everybody can read.

import { count, imageError, KeystoreError, printable } from "../errors.ts";
import { shownKid } from "../image/annotations.ts";
import {
  countLayers,
  foreignTypes,
  inspectImage,
  type ForeignType,
  type LayerReport,
  type ManifestReport,
} from "../image/inspect.ts";
import { namesByKid } from "../keystore/listing.ts";
import { IMAGE, openImage } from "../image/source/open.ts";
import { cliStore } from "./secrets.ts";
import { REGISTRY_OPTIONS, registryAccess } from "./registry.ts";
import { print, printJson, tell, type Cli } from "./shared.ts";

const MAX_LINE = 64 * 1024; // characters: most of them come from the image, which is not trusted

/** Adds the command. */
export function inspect(cli: Cli): void {
  cli.command(
    "inspect IMAGE",
    "Show who can open which layer of an image",
    (yargs) =>
      yargs
        .positional("IMAGE", { type: "string", demandOption: true, describe: IMAGE })
        .option("verify", { type: "boolean", default: false, describe: "Try to open each layer's key with this store" })
        .option("require-encrypted", {
          type: "boolean",
          default: false,
          describe: "Fail if a layer is not encrypted (attestations do not count)",
        })
        .options(REGISTRY_OPTIONS)
        .option("json", { type: "boolean", default: false, describe: "As JSON, for programs" })
        .example("$0 inspect oci:encrypted", "Show an image in an OCI layout")
        .example("$0 inspect docker://example.org/app:1 --require-encrypted", "Check an image in a pipeline"),
    async ({ keystore, IMAGE: image, verify, requireEncrypted, tlsVerify, certDir, json, ...secrets }) => {
      const store = cliStore({ keystore, ...secrets });
      const names = namesByKid(store);
      const manifests = await inspectImage(await openImage(image, registryAccess({ tlsVerify, certDir }, false)), {
        nameOf: (kid) => names.get(kid),
        verifyWith: verify ? store : undefined,
      });
      if (json) printJson({ image, manifests });
      else print([image, ...manifests.flatMap(manifestLines)].map((line) => printable(line, MAX_LINE)).join("\n"));
      for (const type of foreignTypes(manifests)) tell(foreignLine(image, type));
      if (!requireEncrypted) return;
      const hidden = manifests.filter(({ absent, disguised }) => absent === true || disguised === true);
      if (hidden.length > 0) throw hiddenError(image, hidden);
      const { encrypted, plain, untold } = countLayers(manifests);
      if (plain.length > 0) {
        const layers = count(plain.length, `layer of ${image} is`, `layers of ${image} are`);
        const message = `${layers} not encrypted, the first is ${plain[0]?.digest ?? ""}`;
        throw imageError(message, "encrypt the image again, or leave --require-encrypted out");
      }
      if (untold.length > 0) throw untoldError(image, untold);
      if (encrypted.length > 0) return;
      throw imageError(`${image} has no encrypted layer`, "check the image's name, or leave --require-encrypted out");
    },
  );
}

function foreignLine(image: string, { mediaType, layers, notDecryptedBy, fixable }: ForeignType): string {
  const which = count(layers, "layer has", "layers have");
  const fix = fixable ? `; ocicrypt-keystore rewrap ${printable(image, 512)} --fix-media-types gives OCI's` : "";
  const clients = notDecryptedBy.join(", ");
  return `warning: ${which} the media type ${printable(mediaType, 128)}, not decrypted by ${clients}${fix}`;
}

/** Nobody can tell from here what is in a manifest that is absent, or that only some clients take for one. */
function hiddenError(image: string, hidden: readonly ManifestReport[]): KeystoreError {
  const [first] = hidden;
  const names = hidden.map(({ platform, digest }) => platform ?? digest);
  const shown = printable(`${names.slice(0, 4).join(", ")}${names.length > 4 ? ", …" : ""}`, 512);
  if (first?.absent === true) {
    const hint = "fetch the whole image, as with skopeo copy --all, or leave --require-encrypted out";
    return imageError(`cannot tell whether ${image} is encrypted: it does not have ${shown}`, hint);
  }
  const message = `cannot tell whether ${image} is encrypted: some clients take ${shown} for an image`;
  return imageError(message, `its media type is ${printable(first?.mediaType ?? "", 128)}: remove it from the index`);
}

function untoldError(image: string, layers: readonly LayerReport[]): KeystoreError {
  const schemes = new Set(layers.flatMap(({ annotations }) => annotations.map(({ scheme }) => printable(scheme, 64))));
  return imageError(
    `${count(layers.length, `layer of ${image} has`, `layers of ${image} have`)} no readable recipients ` +
      `(${[...schemes].slice(0, 4).join(", ")}), the first is ${layers[0]?.digest ?? ""}`,
    "only annotations of jwe and provider:NAME have them: encrypt for such a key, or leave --require-encrypted out",
  );
}

function manifestLines(report: ManifestReport): string[] {
  const { name, digest, platform = "manifest", absent, other, mediaType = "", layers, readable } = report;
  const named = name === undefined ? "" : `  :${name}`;
  if (absent === true) return [`  ${platform}  not in this image  ${digest}${named}`];
  if (other === true) return [`  other  ${digest}  ${mediaType}${named}`];
  const lines = [`  ${platform}  ${digest}${named}`, ...layers.flatMap(layerLines)];
  if (readable === undefined) return lines;
  const { env, labels } = readable;
  const names = [
    ...(env.length > 0 ? [`env ${env.join(", ")}`] : []),
    ...(labels.length > 0 ? [`labels ${labels.join(", ")}`] : []),
    "command",
    "digests of the unpacked layers",
  ];
  return [...lines, `    readable by everybody: ${names.join("; ")}`];
}

function layerLines({ digest, size, mediaType, encrypted, annotations, attestation }: LayerReport): string[] {
  const state = encrypted ? "encrypted" : attestation === undefined ? "PLAIN" : "attestation, never encrypted";
  const lines = [`    ${digest}  ${size} bytes  ${mediaType}  ${state}`];
  for (const { scheme, parts } of annotations) {
    for (const { recipients, opens } of parts) {
      const list = recipients.map(({ alg, kid, name }) => {
        return `${name ?? (kid === undefined ? "unnamed" : shownKid(kid))} (${alg})`;
      });
      const shown = list.length === 0 ? "recipients not readable" : list.join(", ");
      lines.push(`      ${scheme}: ${shown}${opens === undefined ? "" : opens ? " - opens" : " - does not open"}`);
    }
  }
  return lines;
}
