// What the image tests share: the real skopeo with this binary as its provider, and hand-made manifests.

import { createHash } from "node:crypto";
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { temporaryFolder } from "./folders.ts";
import { layerDigests } from "./images.ts";
import { succeed, throughBundles } from "./program.ts";
import { wrapRequest } from "./requests.ts";
import { findSkopeo, type Skopeo } from "./skopeo.ts";

/** The real skopeo, where there is one. */
export const skopeo = findSkopeo({ download: false, say: () => undefined });

const configurations = new Map<string, string>();

/** An ocicrypt.conf that names a store's binary, made once for each store. */
function configurationOf(store: string): string {
  const conf = configurations.get(store) ?? join(temporaryFolder(), "ocicrypt.conf");
  if (!configurations.has(store)) writeFileSync(conf, succeed(["config", "--keystore", store]));
  configurations.set(store, conf);
  return conf;
}

/** Runs skopeo with a store's binary as the provider `keystore`; its output must tell of no failure. */
export function copy({ command }: Skopeo, store: string, ...args: readonly string[]): { ok: boolean; stderr: string } {
  const [file = "", ...prefix] = command;
  const env = { PATH: process.env["PATH"], OCICRYPT_KEYPROVIDER_CONFIG: configurationOf(store) };
  const { status, stderr } = spawnSync(file, [...prefix, "copy", "-q", ...args], { env, encoding: "utf8" });
  return { ok: status === 0, stderr };
}

/** Asserts that skopeo decrypts an image with these keys to the original's layers. */
export function assertDecrypts(
  tool: Skopeo,
  store: string,
  image: string,
  original: string,
  ...args: readonly string[]
): void {
  const target = join(temporaryFolder(), "plain");
  const { ok, stderr } = copy(tool, store, ...args, image, `oci:${target}:latest`);
  assert.ok(ok, stderr);
  assert.equal(layerDigests(target), layerDigests(original));
}

/** A store with some of another one's private keys only: who is one of several recipients. */
export function onlyPrivate(store: string, ...kids: readonly string[]): string {
  const dir = join(temporaryFolder(), "store");
  cpSync(store, dir, { recursive: true });
  rmSync(join(dir, "private"), { recursive: true });
  mkdirSync(join(dir, "private"), { mode: 0o700 });
  for (const kid of kids) cpSync(join(store, "private", `${kid}.jwk`), join(dir, "private", `${kid}.jwk`));
  return dir;
}

const sha256 = (text: string): string => `sha256:${createHash("sha256").update(text).digest("hex")}`;

/** An OCI layout written by hand: documents as text, so that every byte of them is the test's own. */
export class HandMade {
  readonly dir = join(temporaryFolder(), "image");

  constructor() {
    mkdirSync(join(this.dir, "blobs/sha256"), { recursive: true });
    writeFileSync(join(this.dir, "oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
  }

  /** Adds a document or a layer; returns the members `"digest":…,"size":…` of its descriptor. */
  blob(text: string): string {
    writeFileSync(join(this.dir, "blobs", sha256(text).replace(":", "/")), text);
    return `"digest":"${sha256(text)}","size":${Buffer.byteLength(text)}`;
  }

  index(text: string): string {
    writeFileSync(join(this.dir, "index.json"), text);
    return `oci:${this.dir}`;
  }

  /** The text of index.json, and of the document a digest names. */
  read(digest?: string): string {
    return readFileSync(
      digest === undefined ? join(this.dir, "index.json") : join(this.dir, "blobs", digest.replace(":", "/")),
      "utf8",
    );
  }
}

export const MANIFEST = "application/vnd.oci.image.manifest.v1+json";
export const INDEX = "application/vnd.oci.image.index.v1+json";

/** An index's entry of a blob, with more members; and one of them, the tag. */
export const entry = (descriptor: string, more = "", mediaType = MANIFEST): string =>
  `{"mediaType":"${mediaType}",${descriptor}${more}}`;
export const tag = (name: string): string => `,"annotations":{"org.opencontainers.image.ref.name":"${name}"}`;

export const index = (...entries: readonly string[]): string => `{"manifests":[${entries.join(",")}]}`;

/** A layout with one manifest. */
export function single(manifest: string, more = ""): { image: HandMade; reference: string } {
  const image = new HandMade();
  return { image, reference: image.index(index(entry(image.blob(manifest), more))) };
}

/** A layer with an annotation of another scheme beside its own. */
export const second = (layer: string, scheme: string, value: string): string =>
  layer.replace(
    '"org.opencontainers.image.enc.pubopts"',
    `"org.opencontainers.image.enc.keys.${scheme}":"${value}",$&`,
  );

/** An encrypted layer's descriptor, its key wrapped for recipients of a store. No blob is behind it: nobody may read it. */
export function encryptedLayer(store: string, recipients: readonly string[], scheme = "provider.keystore"): string {
  const answer = throughBundles(() => succeed(["--keystore", store], { input: wrapRequest(recipients) }));
  const value = (JSON.parse(answer) as { keywrapresults: { annotation: string } }).keywrapresults.annotation;
  const digest = sha256(value);
  return `{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip+encrypted","digest":"${digest}","size":123,"annotations":{"org.opencontainers.image.enc.keys.${scheme}":"${value}","org.opencontainers.image.enc.pubopts":"e30="}}`;
}
