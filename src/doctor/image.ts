// The check of one image: the one reason why this machine cannot open it. An image's layer keys are unwrapped through
// the providers that the configuration names, as a client does it.

import { count, KeystoreError, printable } from "../errors.ts";
import { isEncrypted, isJweScheme, keyAnnotations, type KeyAnnotation } from "../image/annotations.ts";
import type { Descriptor } from "../image/documents.ts";
import { foreignTypes, typesIn } from "../image/inspect.ts";
import { partRecipients } from "../image/parts.ts";
import { openImage } from "../image/source/open.ts";
import type { RegistryAccess } from "../image/source/registry.ts";
import { loadTree, manifestEntries, type LeftEntry, type ManifestEntry } from "../image/tree.ts";
import { open } from "../jwe/open.ts";
import { runCheck, type Finding, type Outcome, type Report } from "./check.ts";
import { start, StartError } from "./command.ts";
import { SETTING } from "./config-file.ts";
import type { Context } from "./context.ts";
import { unwrapRequest } from "./exchange.ts";
import { findProgram } from "./programs.ts";
import { patienceWith, storeOf } from "./round-trip.ts";

/** The exit code that a reason means: 3 if no usable key here opens the image. */
type Exit = 0 | 1 | 3;

type Entry = ManifestEntry | LeftEntry;

/** Why a layer does not open. */
interface Reason {
  readonly message: string;
  readonly hint: string;
  readonly exit: Exit;
}

/** What doctor says of an image, and the exit code. */
export interface ImageFindings {
  readonly findings: readonly Finding[];
  readonly exitCode: Exit;
}

/** The programs of clients, and how {@link foreignTypes} names them. */
const PROGRAMS = ["skopeo", "podman", "buildah", "crio", "containerd", "nerdctl"] as const;
const shownClient = (program: string): string => (program === "crio" ? "CRI-O" : program);

const ARCHITECTURES: Partial<Record<string, string>> = { x64: "amd64" };

/**
 * Finds the one reason why this machine cannot open an image.
 *
 * @throws KeystoreError if the image cannot be read
 */
export async function examineImage(image: string, context: Context, access?: RegistryAccess): Promise<ImageFindings> {
  const entries = forThisMachine(manifestEntries(await loadTree(await openImage(image, access))));
  const present = entries.filter((entry) => entry.state === "present");
  let exitCode: Exit = 1; // if an annotation is damaged
  const findings = await runCheck(
    {
      id: "image",
      run: async (_, report) => {
        if (present.length === 0) {
          const platforms = entries.flatMap(({ descriptor }) => descriptor?.platform ?? []).join(", ");
          report.fail(
            `${printable(image, 512)} lacks its manifest for ${printable(platforms, 128) || "any platform"}`,
            "copy the image again, with this platform",
          );
          return "";
        }
        const [outcome, exit] = await examineEntries(printable(image, 512), present, context, report);
        exitCode = exit;
        return outcome;
      },
    },
    context,
  );
  return { findings, exitCode };
}

/** A client takes what is for its platform. */
function forThisMachine(entries: readonly Entry[]): readonly Entry[] {
  const platform = `linux/${ARCHITECTURES[process.arch] ?? process.arch}`;
  const fitting = entries.filter(({ descriptor }) => `${descriptor?.platform ?? ""}/`.startsWith(`${platform}/`));
  return fitting.length === 0 ? entries : fitting;
}

async function examineEntries(
  image: string,
  entries: readonly ManifestEntry[],
  context: Context,
  { warn, fail }: Report,
): Promise<[Outcome, Exit]> {
  const layers = entries.flatMap(({ document }) => document.layers).filter(isEncrypted);
  if (layers.length === 0) {
    warn(`${image} has no encrypted layer: it needs no key`, "encrypt it, or check the image's name");
    return ["", 0];
  }
  const schemes = new Set<string>();
  for (const layer of layers) {
    const opened = await openLayer(image, layer, context);
    if (typeof opened !== "string") {
      fail(opened.message, opened.hint);
      return ["", opened.exit];
    }
    schemes.add(opened);
  }
  const flags = [...schemes].map((scheme) => `--decryption-key ${scheme}`).join(" ");
  const [odd] = foreignTypes(entries.map(typesIn));
  if (odd !== undefined) {
    const { mediaType, notDecryptedBy: unable, fixable } = odd;
    const able = PROGRAMS.some((name) => findProgram(name) !== undefined && !unable.includes(shownClient(name)));
    const message = `${image} has a layer of the media type ${printable(mediaType, 128)}`;
    const rewrap = fixable ? `run ocicrypt-keystore rewrap ${image} --fix-media-types` : "encrypt the image again";
    (able ? warn : fail)(
      `${message}, which ${unable.join(", ")} do not decrypt; its keys open`,
      `${rewrap}, or use another client`,
    );
    return ["", able ? 0 : 1];
  }
  const opens = count(layers.length, "encrypted layer opens", "encrypted layers open");
  return [`${image}: ${opens} through ${[...schemes].join(" and ")}; skopeo, podman and buildah need ${flags}`, 0];
}

/** Opens a layer's key as a client does: the scheme that it opened by, or why it does not. */
async function openLayer(image: string, layer: Descriptor, context: Context): Promise<string | Reason> {
  const annotations = keyAnnotations(layer);
  const { config } = context;
  const named = new Set(config?.names.map((name) => `provider:${name}`));
  let refused: Reason | undefined;
  for (const { scheme, parts } of annotations.filter((one) => named.has(one.scheme))) {
    for (const part of parts) {
      const failure = await openThroughProvider(scheme, part, context);
      if (failure === undefined) return scheme;
      refused ??= failure;
    }
  }
  const byStore = await openByStore(annotations, context);
  if (typeof byStore !== "string") return refused ?? byStore ?? noReadableKey(image, layer, annotations);
  if (refused !== undefined) return refused;
  return notNamed(image, byStore, annotations, context);
}

/** Why a provider of the configuration does not open a part; undefined if it does. */
async function openThroughProvider(scheme: string, part: Buffer, context: Context): Promise<Reason | undefined> {
  const { config } = context;
  const name = scheme.replace(/^provider:/, "");
  const provider = config?.providers.find((one) => one.name === name);
  const server = config?.servers.find((one) => one.name === name);
  try {
    if (provider !== undefined) {
      if (provider.own && provider.options === undefined) {
        const message = `this program does not accept the args of provider ${name} in ${config?.path}`;
        return { message, hint: "write it as ocicrypt-keystore config prints it", exit: 1 };
      }
      const store = provider.own ? storeOf(provider, context) : context.store; // another may be a wrapper of this one
      start(provider, unwrapRequest(part), "keyunwrapresults", patienceWith(store));
    } else if (server !== undefined) {
      const { unwrapByServer } = await import("./grpc.ts");
      await unwrapByServer(server, part);
    } else {
      const message = `provider ${name} of ${config?.path} ${config?.unusable.get(name)}`;
      return { message, hint: "write it as ocicrypt-keystore config prints it", exit: 1 };
    }
    return undefined;
  } catch (error) {
    if (!(error instanceof KeystoreError)) throw error;
    const exit = error instanceof StartError && error.status === 3 ? 3 : 1;
    return { message: `provider ${name} of ${config?.path}: ${error.message}`, hint: error.hint, exit };
  }
}

/** The scheme of a part that the store opens, or why it opens none; undefined if no part can be one of ours. */
async function openByStore(
  annotations: readonly KeyAnnotation[],
  { store }: Context,
): Promise<string | Reason | undefined> {
  let first: Reason | undefined;
  for (const { scheme, parts } of annotations.filter((one) => isJweScheme(one.scheme))) {
    for (const part of parts) {
      try {
        await open(part, store);
        return scheme;
      } catch (error) {
        if (!(error instanceof KeystoreError)) throw error;
        const { message, hint, exitCode } = error;
        const reason = { message: `${scheme}: ${message}`, hint, exit: exitCode === 3 ? 3 : 1 } as const;
        if (first === undefined || (first.exit === 1 && reason.exit === 3)) first = reason;
      }
    }
  }
  return first;
}

function noReadableKey(image: string, { digest }: Descriptor, annotations: readonly KeyAnnotation[]): Reason {
  if (annotations.length === 0) {
    const message = `layer ${digest} of ${image} is encrypted and has no wrapped key: nobody can open it`;
    return { message, hint: "encrypt the image again", exit: 1 };
  }
  const schemes = annotations.map(({ scheme }) => printable(scheme, 64)).join(", ");
  const message = `layer ${digest} of ${image} is encrypted for ${schemes}, which no key provider opens`;
  return { message, hint: "give the client a key of that kind with --decryption-key", exit: 3 };
}

/** Why clients do not open what the store opens. */
function notNamed(image: string, scheme: string, annotations: readonly KeyAnnotation[], context: Context): Reason {
  const { config, store } = context;
  const parts = annotations.find((one) => one.scheme === scheme)?.parts ?? [];
  const kids = parts.flatMap((part) => partRecipients(part).flatMap(({ kid }) => kid ?? []));
  const key = kids.flatMap((kid) => store.namesOf(kid))[0] ?? "NAME";
  const provider = [...(config?.names ?? [])][0];
  const rewrap = (to: string): string =>
    `ocicrypt-keystore rewrap ${image} --from ${scheme} --as provider:${to} --to ${key}`;
  const says = '("missing private key needed for decryption")';
  if (scheme === "jwe") {
    const message = `${image} is encrypted with ocicrypt's built-in jwe, for which clients ask no provider ${says}`;
    const file = `ocicrypt-keystore export ${key} --private --format pem -o FILE, and --decryption-key FILE`;
    return { message, hint: `give clients a key file: ${file}; or run ${rewrap(provider ?? "keystore")}`, exit: 1 };
  }
  const name = scheme.replace(/^provider:/, "");
  // The image says it, and hints are pasted into shells.
  if (!/^[\w.-]+$/.test(name)) {
    const shown = JSON.stringify(printable(name, 64));
    const message = `${image} is encrypted under the provider ${shown}, whose name cannot be typed`;
    return { message, hint: "encrypt the image again under another name", exit: 1 };
  }
  if (config === undefined) {
    const message = `the key of ${image} is here, but ${SETTING} is not set: clients know no provider ${says}`;
    return {
      message,
      hint: `run ocicrypt-keystore config --provider ${name} > FILE and export ${SETTING}=FILE`,
      exit: 1,
    };
  }
  if (provider === undefined) {
    const message = `the key of ${image} is here, but clients find no provider in ${config.path} ${says}`;
    return { message, hint: `write it with ocicrypt-keystore config --provider ${name} > ${config.path}`, exit: 1 };
  }
  const names = config.names.join(", ");
  const message = `${image} is encrypted under the provider ${name}, but ${config.path} names ${names} ${says}`;
  return { message, hint: `give an entry of that file the name ${name}, or run ${rewrap(provider)}`, exit: 1 };
}
