// doctor and what containerd needs below /etc, which a mount namespace replaces here.

import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { assertCheck, checksIn, problems, programs, type Check } from "../support/checks.ts";
import { temporaryFolder } from "../support/folders.ts";
import { mountNamespace, testWith } from "../support/parts.ts";
import { BINARY, succeed } from "../support/program.ts";
import { makeStore } from "../support/stores.ts";

const dir = makeStore("alice");

const unshare = mountNamespace();

const CONF = "ocicrypt/ocicrypt_keyprovider.conf";
const PRINTED = /^version = 2[^]*?(?=\n# 4)/m.exec(succeed(["config", "--client", "containerd"]))?.[0] ?? "";
const KEY_MODEL = `[plugins.'io.containerd.cri.v1.images'.image_decryption]\n  key_model = "node"\n`;
const TOML = `${PRINTED.replace("version = 2", "version = 3")}\n${KEY_MODEL}`;

/** What doctor says where `arrange` changed a folder that is /etc/containerd, in order at first, and one that is on a service's PATH. */
function containerd(args: readonly string[], arrange: (etc: string, bin: string) => void): Check[] {
  const [root, bin] = [temporaryFolder(), programs("ctd-decoder", "")];
  const etc = join(root, "containerd");
  mkdirSync(join(etc, "ocicrypt/keys"), { recursive: true });
  writeFileSync(join(etc, CONF), succeed(["config", "--keystore", dir]));
  writeFileSync(join(etc, "config.toml"), TOML);
  arrange(etc, bin);
  const script = 'mount --bind "$1" /usr/local/sbin && mount --bind "$2" /etc && shift 2 && exec env -i "$@"';
  const { status, stdout, stderr } = spawnSync(
    "unshare",
    [...args, "sh", "-c", script, "sh", bin, root, BINARY, "doctor", "--json", "--keystore", dir],
    { encoding: "utf8" },
  );
  return checksIn({ code: status, stdout, stderr });
}

testWith(
  unshare,
  "root, or mount namespaces",
  "finds nothing to say of a containerd set up as config --client says",
  (args) => {
    const checks = containerd(args, () => undefined);
    assert.equal(problems(checks), []);
    assertCheck(
      checks,
      "config.variable",
      "ok",
      /is not set; containerd takes \/etc\/containerd\/ocicrypt\/ocicrypt_keyprovider.conf/,
    );
    assertCheck(checks, "containerd.provider", "ok", /names this program/);
    assertCheck(checks, "containerd.decoder", "ok", /^\/usr\/local\/sbin\/ctd-decoder; /);
  },
);

const toml = (from: string | RegExp, to: string) => (etc: string) =>
  writeFileSync(join(etc, "config.toml"), TOML.replace(from, to));
for (const [what, id, message, arrange] of [
  [
    "no ctd-decoder",
    "decoder",
    /ctd-decoder is not there for containerd to start.*install/,
    (_: string, bin: string) => rmSync(join(bin, "ctd-decoder")),
  ],
  [
    "a ctd-decoder that the configuration looks for elsewhere",
    "decoder",
    /\/opt\/ctd-decoder is not there/,
    toml('"ctd-decoder"', '"/opt/ctd-decoder"'),
  ],
  [
    "no folder of keys",
    "keys",
    /ocicrypt\/keys is not there.*mkdir -p/,
    (etc: string) => rmSync(join(etc, "ocicrypt/keys"), { recursive: true }),
  ],
  [
    "a folder of keys that holds a symlink",
    "keys",
    /is or holds a symlink/,
    (etc: string) => symlinkSync("x", join(etc, "ocicrypt/keys/a")),
  ],
  [
    "a folder of keys that is a symlink",
    "keys",
    /is or holds a symlink/,
    (etc: string) => (
      rmSync(join(etc, "ocicrypt/keys"), { recursive: true }),
      symlinkSync(".", join(etc, "ocicrypt/keys"))
    ),
  ],
  [
    "no provider file",
    "provider",
    /there is no \S+: containerd's decoder knows no provider/,
    (etc: string) => rmSync(join(etc, CONF)),
  ],
  [
    "a provider file without this program",
    "provider",
    /no provider of \S+ is this program/,
    (etc: string) => writeFileSync(join(etc, CONF), "{}"),
  ],
  [
    "a provider file that the configuration names elsewhere",
    "provider",
    /there is no \/etc\/x.conf/,
    toml(/(_CONFIG=)[^"]*/, "$1/etc/x.conf"),
  ],
  [
    "no stream processor for zstd",
    "zstd",
    /encrypted zstd layers have no stream processor.*--client containerd/,
    toml(/accepts/, "#"),
  ],
  [
    "no configuration at all, so none for zstd",
    "zstd",
    /no stream processor/,
    (etc: string) => writeFileSync(join(etc, "config.toml"), ""),
  ],
  [
    "another key model",
    "key-model",
    /key_model is "": CRI does not decrypt; set key_model = "node"/,
    toml('"node"', '""'),
  ],
  ["the transfer service", "pull", /set use_local_image_pull = true/, toml("= true", "= false")],
  ["a setting that is commented out", "pull", /set use_local_image_pull = true/, toml("use_local", "# use_local")],
] as const) {
  testWith(unshare, "root, or mount namespaces", `warns of ${what}`, (args) => {
    assertCheck(containerd(args, arrange), `containerd.${id}`, "warn", message);
  });
}

testWith(
  unshare,
  "root, or mount namespaces",
  "does not ask version 2 for use_local_image_pull, reads conf.d, and looks at nothing without containerd",
  (args) => {
    assertCheck(
      containerd(args, toml(/version = 3/, "version = 2")),
      "containerd.pull",
      "ok",
      /not needed by version 2/,
    );
    const split = containerd(args, (etc) => {
      mkdirSync(join(etc, "conf.d"));
      copyFileSync(join(etc, "config.toml"), join(etc, "conf.d/a.toml"));
      writeFileSync(join(etc, "config.toml"), "version = 3\n");
    });
    assert.equal(problems(split), []);
    const none = containerd(args, (etc) => rmSync(etc, { recursive: true }));
    const ids = none.map(({ id }) => id).filter((id) => id.startsWith("containerd."));
    assert.is(ids.length, 6);
    for (const id of ids) assertCheck(none, id, "skip", /no containerd here/);
    const unversioned = containerd(args, toml("version = 3", ""));
    assertCheck(unversioned, "containerd.pull", "skip", /no version in \/etc\/containerd\/config\.toml/);
  },
);

test.run();
