// Configurations of containerd as people have them, right and broken, and what real pulls with them do.
// test/clients/containerd.test.ts pulls with each; a check of configurations can hold itself to the same table.

import { mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { KEYS, PROVIDERS, TOML, type Machine, type Version } from "./containerd.ts";

/** What becomes of an image: it pulls, or the client or containerd's log says this. */
export type Outcome = "pulls" | RegExp;

/** What becomes of an image with gzip layers, and of one with zstd layers. */
export interface Outcomes {
  readonly gzip: Outcome;
  readonly zstd: Outcome;
}

/** A configuration: how it differs from what `config --client containerd` says. */
export interface Configuration {
  readonly name: string;
  readonly arrange: (machine: Machine) => void;
  readonly outcome: Readonly<Record<Version, Outcomes>>;
}

const both = (outcome: Outcome): Outcomes => ({ gzip: outcome, zstd: outcome });
const PULLS = both("pulls");
// A decoder that fails has written nothing. Now and then that is seen before its message is: the hash of nothing.
const fails = (says: RegExp): RegExp => new RegExp(`${says.source}|wrong diff id`);
const NOT_DECRYPTED = fails(/invalid tar header/);
const NO_PAYLOAD = fails(/read configFd|could not proto\.Unmarshal|could not UnmarshalAny/);
const NO_KEY = fails(/missing private key needed for decryption/);
const ONLY_GZIP: Outcomes = { gzip: "pulls", zstd: NOT_DECRYPTED };
const NEITHER: Outcomes = { gzip: NO_PAYLOAD, zstd: NOT_DECRYPTED };
const everywhere = (outcomes: Outcomes): Configuration["outcome"] => ({ "1.6": outcomes, "2.4": outcomes });
const DEFAULTS: Configuration["outcome"] = { "1.6": ONLY_GZIP, "2.4": NEITHER };
const NOT_LOCAL: Configuration["outcome"] = { "1.6": PULLS, "2.4": both(NO_PAYLOAD) };

// Changes a file's text. It must change: the text is what another module prints.
const edit =
  (path: string, ...changes: readonly (readonly [from: string | RegExp, to: string])[]) =>
  ({ etc }: Machine): void => {
    let text = readFileSync(join(etc, path), "utf8");
    for (const [from, to] of changes) {
      const changed = text.replace(from, to);
      if (changed === text) throw new Error(`nothing to change in ${path}: ${from}`);
      text = changed;
    }
    writeFileSync(join(etc, path), text);
  };
const toml = (...changes: Parameters<typeof edit> extends [string, ...infer Rest] ? Rest : never) =>
  edit(TOML, ...changes);
const written =
  (text: string) =>
  ({ etc }: Machine): void =>
    writeFileSync(join(etc, TOML), text);
const dropIn =
  (text: string) =>
  (machine: Machine): void => {
    mkdirSync(join(machine.etc, "containerd/conf.d"));
    renameSync(join(machine.etc, TOML), join(machine.etc, "containerd/conf.d/ocicrypt.toml"));
    written(text)(machine);
  };

const LOCAL_PULL = /\[plugins\.'io\.containerd\.cri\.v1\.images'\]\n\s*use_local_image_pull = true\n/;

export const CONFIGURATIONS: readonly Configuration[] = [
  { name: "what config prints", arrange: () => undefined, outcome: everywhere(PULLS) },
  { name: "no config.toml", arrange: ({ etc }) => rmSync(join(etc, TOML)), outcome: DEFAULTS },
  { name: "an empty config.toml", arrange: written(""), outcome: DEFAULTS },
  { name: "version = 2 alone", arrange: written("version = 2\n"), outcome: DEFAULTS },
  { name: "version = 3 alone", arrange: written("version = 3\n"), outcome: DEFAULTS },
  { name: "version = 4 alone", arrange: written("version = 4\n"), outcome: DEFAULTS },
  { name: "no version", arrange: toml([/version = 2\n/, ""]), outcome: everywhere(PULLS) },
  { name: "version = 4", arrange: toml(["version = 2", "version = 4"]), outcome: everywhere(PULLS) },
  { name: "no use_local_image_pull", arrange: toml([LOCAL_PULL, ""]), outcome: NOT_LOCAL },
  { name: "use_local_image_pull = false", arrange: toml(["= true", "= false"]), outcome: NOT_LOCAL },
  { name: "use_local_image_pull in a comment", arrange: toml(["  use_local", "  # use_local"]), outcome: NOT_LOCAL },
  {
    name: "use_local_image_pull in the table of CRI before 2.0",
    arrange: toml(["io.containerd.cri.v1.images", "io.containerd.grpc.v1.cri"]),
    outcome: NOT_LOCAL,
  },
  {
    name: "use_local_image_pull in the table of containerd 2 with version = 3",
    arrange: toml(["version = 2", "version = 3"]),
    outcome: everywhere(PULLS),
  },
  {
    name: "another option that makes 2.x pull locally",
    arrange: toml(["use_local_image_pull = true", "max_concurrent_downloads = 4"]),
    outcome: everywhere(PULLS),
  },
  {
    name: "only use_local_image_pull, with the stream processors of the default configuration",
    arrange: toml([/\[stream_processors[^]*/, ""]),
    outcome: everywhere(ONLY_GZIP),
  },
  {
    name: "a stream processor of its own for zstd beside the default ones",
    arrange: toml(
      ["decoder.v1.tar.gzip", "decoder.v1.tar.zstd"],
      [/tar\+gzip\+encrypted", "[^]*(tar\+zstd)/, "$1"],
      [/tar\+gzip"/, 'tar+zstd"'],
    ),
    outcome: everywhere({ gzip: "pulls", zstd: NO_PAYLOAD }),
  },
  {
    name: "zstd left out of accepts",
    arrange: toml([/, "application\/vnd.oci.image.layer.v1.tar\+zstd\+encrypted"/, ""]),
    outcome: everywhere(ONLY_GZIP),
  },
  {
    name: "zstd in a stream processor of any other id",
    arrange: toml(["io.containerd.ocicrypt.decoder.v1.tar.gzip", "my.decoder"], [/"[^"]*tar\+gzip\+encrypted", /, ""]),
    outcome: everywhere({ gzip: "pulls", zstd: NO_PAYLOAD }),
  },
  { name: "a drop-in without imports", arrange: dropIn("version = 2\n"), outcome: DEFAULTS },
  {
    name: "a drop-in with imports",
    arrange: dropIn('version = 2\nimports = ["/etc/containerd/conf.d/*.toml"]\n'),
    outcome: everywhere(PULLS),
  },
  {
    name: "a drop-in with imports of another folder",
    arrange: dropIn('version = 2\nimports = ["/etc/containerd/config.d/*.toml"]\n'),
    outcome: DEFAULTS,
  },
  {
    name: "a drop-in with imports, and the main file without version",
    arrange: dropIn('imports = ["/etc/containerd/conf.d/*.toml"]\n'),
    outcome: everywhere(PULLS),
  },
  {
    name: "a table twice",
    arrange: toml([/$/, "\n[plugins.'io.containerd.cri.v1.images']\n  snapshotter = \"overlayfs\"\n"]),
    outcome: everywhere(both(/duplicated tables|already exists/)),
  },
  {
    name: "no folder of keys",
    arrange: ({ etc }) => rmSync(join(etc, KEYS), { recursive: true }),
    outcome: everywhere(both(fails(/no such file or directory/))),
  },
  {
    name: "a symlink in the folder of keys",
    arrange: ({ etc }) => symlinkSync("nothing", join(etc, KEYS, "key.pem")),
    outcome: everywhere(both(fails(/Symbolic links not supported/))),
  },
  {
    name: "a folder of keys that is a symlink",
    arrange: ({ etc }) => {
      renameSync(join(etc, KEYS), join(etc, "keys"));
      symlinkSync("/etc/keys", join(etc, KEYS));
    },
    outcome: everywhere(both(fails(/Symbolic links not supported/))),
  },
  {
    name: "a stream processor without --decryption-keys-path and without the folder",
    arrange: (machine) => {
      toml([/args = .*/, "args = []"])(machine);
      rmSync(join(machine.etc, KEYS), { recursive: true });
    },
    outcome: everywhere(PULLS),
  },
  {
    name: "no ctd-decoder",
    arrange: ({ bin }) => rmSync(join(bin, "ctd-decoder")),
    outcome: everywhere(both(/executable file not found|failed to get stream processor/)),
  },
  {
    name: "ctd-decoder elsewhere than its path says",
    arrange: toml(['path = "ctd-decoder"', 'path = "/opt/ctd-decoder"']),
    outcome: everywhere(both(/no such file or directory/)),
  },
  { name: "no provider file", arrange: ({ etc }) => rmSync(join(etc, PROVIDERS)), outcome: everywhere(both(NO_KEY)) },
  {
    name: "a provider file that the stream processor names elsewhere",
    arrange: toml(["ocicrypt_keyprovider.conf", "other.conf"]),
    outcome: everywhere(both(NO_KEY)),
  },
  {
    name: "a stream processor without env",
    arrange: toml([/\s*env = .*/, ""]),
    outcome: everywhere(both(NO_KEY)),
  },
  {
    name: "a provider by another name than the image's",
    arrange: edit(PROVIDERS, ['"keystore":', '"simplecrypt":']),
    outcome: everywhere(both(NO_KEY)),
  },
  {
    name: "a provider whose program is not there",
    arrange: edit(PROVIDERS, [/("path": ").*(")/, "$1/usr/lib/nothing$2"]),
    outcome: everywhere(both(NO_KEY)),
  },
  {
    name: "a provider with a store that is not there",
    arrange: edit(PROVIDERS, [/("--keystore",\s*").*(")/, "$1/nonexistent$2"]),
    outcome: everywhere(both(NO_KEY)),
  },
  {
    name: "another key model, in the table of CRI before 2.0",
    arrange: toml([/(?=\[stream)/, '[plugins."io.containerd.grpc.v1.cri".image_decryption]\n  key_model = ""\n']),
    outcome: everywhere(both(NO_PAYLOAD)),
  },
  {
    name: "another key model, in the table of containerd 2",
    arrange: toml([/(?=\[stream)/, "[plugins.'io.containerd.cri.v1.images'.image_decryption]\n  key_model = \"\"\n"]),
    outcome: NOT_LOCAL,
  },
];
