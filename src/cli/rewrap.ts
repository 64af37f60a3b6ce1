// rewrap IMAGE: changes who can open an image, without touching its layers.

import { asKeystoreError, imageError, keyError, KeystoreError, printable, usageError } from "../errors.ts";
import { isJweScheme, mustBeJweScheme, shownKid } from "../image/annotations.ts";
import type { PartRecipient } from "../image/parts.ts";
import { planRewrap, type RewrapPlan, type RewrapRequest } from "../image/rewrap.ts";
import { parseKey } from "../keys/import.ts";
import { IMAGE, openImage } from "../image/source/open.ts";
import type { ImageSource } from "../image/source/source.ts";
import { unreferenced, type LeftEntry } from "../image/tree.ts";
import type { PrivateKeys, Recipient } from "../jwe/key.ts";
import { isPrivate, kidOf } from "../jwk/jwk.ts";
import type { Store } from "../keystore/store.ts";
import { namesByKid } from "../keystore/listing.ts";
import { memoryKey } from "../keys/memory.ts";
import type { KeyStore } from "../keystore/keystore.ts";
import { isKid } from "../keystore/paths.ts";
import { readKeyFile } from "./import.ts";
import { REGISTRY_OPTIONS, registryAccess } from "./registry.ts";
import { cliStore } from "./secrets.ts";
import { printTable, tell, type Cli } from "./shared.ts";

/** Adds the command. */
export function rewrap(cli: Cli): void {
  const names = { type: "string", array: true, requiresArg: true } as const;
  cli.command(
    "rewrap IMAGE",
    "Change who can open an image, without touching its layers",
    (yargs) =>
      yargs
        .positional("IMAGE", { type: "string", demandOption: true, describe: IMAGE })
        .option("to", {
          ...names,
          conflicts: ["add", "remove"],
          describe: "The recipients from now on (may be repeated)",
        })
        .option("add", { ...names, describe: "More recipients" })
        .option("remove", { ...names, describe: "Recipients to remove: a name (with its retired keys), or a kid" })
        .option("from", {
          type: "string",
          requiresArg: true,
          describe: "The scheme to open: jwe or provider:NAME (default: every scheme that opens)",
        })
        .option("as", {
          type: "string",
          requiresArg: true,
          describe: "The scheme to write: jwe or provider:NAME (default: each annotation keeps its scheme)",
        })
        .option("key", {
          type: "string",
          requiresArg: true,
          describe: "A file with a private key to open with, besides the store's",
        })
        .option("fix-media-types", {
          type: "boolean",
          default: false,
          describe: "Give layers with docker's media types OCI's, which more clients decrypt; works alone, too",
        })
        .option("prune", { type: "boolean", default: false, describe: "Delete the old manifests" })
        .option("dry-run", { type: "boolean", default: false, describe: "Print the table and write nothing" })
        .options(REGISTRY_OPTIONS)
        .example("$0 rewrap oci:encrypted --to alice", "After rotate alice: the retired key no longer opens it")
        .example(
          "$0 rewrap docker://example.org/app:1 --from jwe --as provider:keystore --to alice",
          "Take over an image of the built-in jwe",
        ),
    async ({
      keystore,
      IMAGE: image,
      to,
      add = [],
      remove = [],
      from,
      as,
      key,
      fixMediaTypes,
      prune,
      dryRun,
      tlsVerify,
      certDir,
      ...secrets
    }) => {
      const rewraps = to !== undefined || add.length > 0 || remove.length > 0;
      if (!rewraps && !fixMediaTypes) throw usageError("there is nothing to change", "give --to, --add or --remove");
      const store = cliStore({ keystore, ...secrets });
      const request: RewrapRequest = {
        to: to && (await recipients(store, to)),
        add: await recipients(store, add),
        remove: new Set(split(remove).flatMap((one) => kidsOf(store, one))),
        from: from === undefined ? undefined : mustBeJweScheme(from),
        as: as === undefined ? undefined : mustBeJweScheme(as),
        fixMediaTypes,
      };
      const access = registryAccess({ tlsVerify, certDir }, true);
      const opened = await openImage(image, access);
      if (prune && opened.prune === undefined)
        throw usageError(
          "--prune does not work in a registry",
          "leave --prune out, and delete the old manifests in the registry",
        );
      const keys = key === undefined ? store : await withKeyFile(store, key);
      const planned = planRewrap(opened, request, keys);
      const plan = await (dryRun ? planned : planned.catch(rethrowUnwritten));
      const unchanged = plan.renamed.size + plan.documents.length === 0;
      if (!dryRun && !unchanged) await opened.write(plan.documents, plan.root);
      for (const entry of plan.left) tell(leftLine(entry));
      for (const [before, after] of plan.retyped) tell(`${printable(before, 128)} becomes ${after}`);
      if (plan.changes.length > 0) report(plan, namesByKid(store));
      if (unchanged) return tell(nothingLine(plan, rewraps));
      if (dryRun) return tell("this was a dry run: without --dry-run the image is changed");
      if (prune) await pruneOld(await openImage(image, access), [...plan.renamed.keys()]);
      const kept = new Set(plan.changes.flatMap((change) => (change.kept ? [printable(change.scheme, 128)] : [])));
      if (kept.size > 0) {
        const schemes = [...kept].join(", ");
        tell(`the annotations of ${schemes} were not opened and stay: whoever could open the image by them still can`);
      }
      for (const [before, after] of plan.renamed) tell(`${before} is now ${after}`);
      return tell("signatures and referrers point to the old digests: sign the image again");
    },
  );
}

/** What is said if the image is what it should be. */
function nothingLine({ changes }: RewrapPlan, rewraps: boolean): string {
  if (!rewraps) return "nothing to change: no encrypted layer has a media type of docker's";
  return changes.length === 0 ? "nothing to change: no layer is encrypted" : "nothing to change";
}

/** What is said of an entry that stays as it is. */
function leftLine({ state, descriptor: { digest, platform, mediaType } }: LeftEntry): string {
  const why = state === "absent" ? "not in this image" : `of the media type ${printable(mediaType, 128)}`;
  return `${platform === undefined ? "" : `${platform} `}${digest} is ${why}: its entry stays as it is`;
}

/** Adds to an error of planning that nothing was written. */
function rethrowUnwritten(error: unknown): never {
  const { code, message, hint } = asKeystoreError(error);
  throw new KeystoreError(code, message, `nothing was written; ${hint}`);
}

/** Deletes the old manifests that no other tag needs. */
async function pruneOld(written: ImageSource, digests: readonly string[]): Promise<void> {
  try {
    await written.prune?.(await unreferenced(written, digests));
  } catch (error) {
    const message = `the image is rewrapped, but its old manifests are still there: ${asKeystoreError(error).message}`;
    throw imageError(message, "fix that, and delete them by hand");
  }
}

/** Splits `a:b`, which names several recipients, as for the provider. */
function split(names: readonly string[]): string[] {
  return names.flatMap((one) => one.split(":"));
}

async function recipients(store: KeyStore, names: readonly string[]): Promise<Recipient[]> {
  const found = [];
  for (const name of split(names)) found.push(await store.recipient(name));
  return found;
}

function kidsOf(store: Store, nameOrKid: string): string[] {
  const kids = store.kidsOf(nameOrKid);
  if (kids !== undefined) return kids;
  if (isKid(nameOrKid) && nameOrKid.length >= 22) return [nameOrKid]; // the shortest kids have 128 bits
  throw store.noKey(nameOrKid);
}

async function withKeyFile(store: KeyStore, file: string): Promise<PrivateKeys> {
  const jwk = await parseKey(readKeyFile(file), async () => {
    throw usageError(`${file} is encrypted`, "import it with ocicrypt-keystore import, which asks for its passphrase");
  });
  if (!isPrivate(jwk))
    throw keyError(`${file} holds no private key`, "name a file with the private key that opens the image");
  const fromFile = memoryKey(kidOf(jwk), jwk);
  return {
    privateKey: async (kid) => (kid === fromFile.kid ? fromFile : await store.privateKey(kid)),
    privateKids: async () => [fromFile.kid, ...(await store.privateKids().catch(() => []))],
  };
}

function report({ changes }: RewrapPlan, names: ReadonlyMap<string, string>): void {
  const shown = (scheme: string, list: readonly PartRecipient[]): string => {
    const each = list.map(({ alg, kid }) =>
      kid === undefined ? `unnamed (${alg})` : (names.get(kid) ?? shownKid(kid)),
    );
    return each.join(", ") || (isJweScheme(scheme) ? "-" : "not readable");
  };
  printTable(
    ["LAYER", "SCHEME", "BEFORE", "AFTER"],
    changes.map(({ layer, scheme, before, after }) => {
      return [layer.slice(0, 19), printable(scheme, 128), shown(scheme, before), shown(scheme, after)];
    }),
  );
}
