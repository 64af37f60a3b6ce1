// doctor and containerd: folders of configurations, first those of which real pulls tell whether they decrypt
// (test/clients/containerd.test.ts). In the last test the binary looks at /etc itself, which a mount namespace replaces.

import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { secretFiles } from "../../src/at-rest/secret-files.ts";
import { runCheck, type Finding } from "../../src/doctor/check.ts";
import { readContainerds } from "../../src/doctor/containerd-config.ts";
import { newContext } from "../../src/doctor/context.ts";
import { openStore } from "../../src/keystore/store.ts";
import { assertCheck, checksBelow, checksIn, entry, problems } from "../support/checks.ts";
import { CONFIGURATIONS } from "../support/containerd-configurations.ts";
import { CONTAINERD_NEEDS, findContainerd, printedToml, VERSIONS } from "../support/containerd.ts";
import { sharedFolder, temporaryFolder, withoutRoot, withUmask } from "../support/folders.ts";
import { mountNamespace, testWith } from "../support/parts.ts";
import { BINARY, succeed } from "../support/program.ts";
import { makeStore } from "../support/stores.ts";

process.execPath = BINARY; // doctor knows itself by its path, and need not look into the file
const dir = makeStore("alice");

const ETC = "etc/containerd";
const CONF = `${ETC}/ocicrypt/ocicrypt_keyprovider.conf`;
const CONFIG = `${ETC}/config.toml`;
const DROP_IN = `${ETC}/conf.d/ocicrypt.toml`;
const PROGRAM = "usr/bin/containerd";
const PRINTED = printedToml();
const PROVIDERS = succeed(["config", "--keystore", dir]);
const [STANZA = ""] = /^\[stream_processors[^]*/m.exec(PRINTED) ?? [];
const LOCAL = "[plugins.'io.containerd.cri.v1.images']\n  use_local_image_pull = true\n";
const NEWEST = "github.com/containerd/containerd/v2/core use_local_image_pull";
const OLDEST = "github.com/containerd/containerd/core";
const SEVEN = `${OLDEST} containerd config version is not supported, the max version is 2`;
const ZSTD = '"application/vnd.oci.image.layer.v1.tar+zstd+encrypted"';

type Files = Record<string, string | undefined>;

/** A root with containerd in order, where some files differ: without content, they are missing. */
function root(files: Files, made = temporaryFolder()): string {
  mkdirSync(join(made, ETC, "ocicrypt/keys"), { recursive: true });
  const usual = { [CONF]: PROVIDERS, [CONFIG]: PRINTED, [PROGRAM]: NEWEST, "usr/bin/ctd-decoder": "" };
  for (const [path, content] of Object.entries<string | undefined>({ ...usual, ...files })) {
    if (content === undefined) continue;
    mkdirSync(dirname(join(made, path)), { recursive: true });
    writeFileSync(join(made, path), content, { mode: 0o755 });
  }
  return made;
}

/** What the checks find: ID with its message and hint. */
async function findings(folder: string): Promise<Finding[]> {
  const context = { ...newContext(openStore(dir, secretFiles({})), {}, folder), failed: () => false };
  const found = [];
  for (const check of checksBelow("containerd.")) found.push(...(await runCheck(check, context)));
  return found;
}

async function warnings(folder: string): Promise<string[]> {
  const found = await findings(folder);
  return found.flatMap(({ id, status, message, hint }) => (status === "warn" ? `${id}: ${message}; ${hint}` : []));
}

const v3 = PRINTED.replace("version = 2", "version = 3");
const rancherOf = (unit: string): string => `var/lib/rancher/${unit.split("-")[0]}/agent/etc/containerd`;
const rancher = rancherOf("k3s");

for (const version of VERSIONS) {
  for (const { name, arrange, outcome } of CONFIGURATIONS) {
    const { gzip, zstd } = outcome[version];
    const pulls = gzip === "pulls" && zstd === "pulls";
    test(`${pulls ? "has nothing to say" : "warns"} of containerd ${version}, ${name}`, async () => {
      const folder = root({ [PROGRAM]: version === "1.6" ? OLDEST : NEWEST, "usr/bin/ctd-decoder": undefined });
      const machine = { etc: join(folder, "etc"), bin: join(folder, "usr/local/bin") };
      mkdirSync(machine.bin, { recursive: true });
      writeFileSync(join(machine.bin, "ctd-decoder"), "", { mode: 0o755 });
      arrange(machine);
      // The file that another client reads: then containerd's own file is tried.
      if (name.startsWith("a provider")) process.env["OCICRYPT_KEYPROVIDER_CONFIG"] = "/none.conf";
      const found = await warnings(folder).finally(() => delete process.env["OCICRYPT_KEYPROVIDER_CONFIG"]);
      assert.is(found.length === 0, pulls, found.join("\n"));
      // It names the compression where one of the two is pulled.
      if (gzip === "pulls" && zstd !== "pulls") assert.ok(found.some((line) => line.startsWith("zstd: ")));
      if (gzip === "pulls") assert.ok(!found.some((line) => line.startsWith("gzip: ")), found.join("\n"));
    });
  }
}

const real = findContainerd();
testWith(real, CONTAINERD_NEEDS, "knows a containerd's version by what is in its program", ({ containerd }) => {
  for (const [version, generation] of [
    ["1.6", "1.6"],
    ["2.4", "2.1 or later"],
  ] as const) {
    const folder = root({ [PROGRAM]: undefined });
    symlinkSync(containerd[version], join(folder, PROGRAM));
    assert.is(readContainerds(folder)[0]?.generation, generation);
  }
});

// Pulls decrypt with these.
for (const [what, files] of [
  ["what config --client containerd prints", {}],
  ["the same before 2.1", { [PROGRAM]: OLDEST }],
  ["version 3", { [CONFIG]: v3 }],
  ["a file without a version", { [CONFIG]: PRINTED.replace("version = 2\n", "") }],
  [
    "the old table for the key model",
    { [CONFIG]: `${PRINTED}\n[plugins."io.containerd.grpc.v1.cri".image_decryption]\nkey_model = "node"` },
  ],
  [
    "an inline table",
    { [CONFIG]: `version = 3\nplugins = {"io.containerd.cri.v1.images" = {use_local_image_pull = true}}\n${STANZA}` },
  ],
  [
    "a drop-in that is imported",
    { [CONFIG]: `version = 3\nimports = ["/etc/containerd/conf.d/*.toml"]\n`, [DROP_IN]: v3 },
  ],
  [
    "a drop-in that is imported by a relative path",
    { [CONFIG]: `version = 3\nimports = ["conf.d/ocicrypt.toml"]\n`, [DROP_IN]: v3 },
  ],
  [
    "a drop-in for the setting alone",
    {
      [CONFIG]: `version = 2\nimports = ["/etc/containerd/conf.d/*.toml"]\n${STANZA}`,
      [DROP_IN]: `version = 2\n${LOCAL}`,
    },
  ],
  ["a drop-in that has nothing to do with it and is not read", { [`${ETC}/conf.d/other.toml`]: "version = 2\n" }],
  [
    "a registry mirror, which makes it pull by itself",
    { [CONFIG]: `version = 2\n[plugins."io.containerd.grpc.v1.cri".registry.mirrors.x]\nendpoint = []\n${STANZA}` },
  ],
  [
    "max_concurrent_downloads, which does so too",
    { [CONFIG]: `version = 3\n[plugins."io.containerd.cri.v1.images"]\nmax_concurrent_downloads = 5\n${STANZA}` },
  ],
  ["a server", { [CONF]: '{"key-providers":{"keystore":{"grpc":"unix:///none/socket"}}}' }],
  ["no configuration before 2.1, but for zstd", { [CONFIG]: `version = 2\n${STANZA}`, [PROGRAM]: OLDEST }],
  ["a stanza with an absolute path", { [CONFIG]: PRINTED.replace('"ctd-decoder"', '"/opt/decode"'), "opt/decode": "" }],
  ["CRI off, as Docker's package has it", { [CONFIG]: `version = 2\ndisabled_plugins = ["cri"]\n${STANZA}` }],
  [
    "the variable in the unit",
    {
      [CONFIG]: PRINTED.replace(/ {2}env = .*/, "  env = []"),
      "etc/systemd/system/containerd.service.d/x.conf": `[Service]\nEnvironment=OCICRYPT_KEYPROVIDER_CONFIG=/${CONF}\n`,
    },
  ],
  ...(
    [
      ["k3s-agent", "etc/systemd/system", "etc/default/k3s-agent", "/etc/default/%N"],
      [
        "rke2-server",
        "usr/local/lib/systemd/system",
        "usr/local/lib/systemd/system/rke2-server.env",
        "/usr/local/lib/systemd/system/%N.env",
      ],
    ] as const
  ).map(
    ([unit, folder, file, named]) =>
      [
        `the variable in a file of the unit ${unit}`,
        {
          [CONFIG]: undefined,
          [PROGRAM]: undefined,
          [`${rancherOf(unit)}/config.toml`]: v3.replace(/ {2}env = .*/, "  env = []"),
          [`${rancherOf(unit)}/config-v3.toml.tmpl`]: `{{ template "base" . }}\n${LOCAL}${STANZA}`,
          [`${folder}/${unit}.service`]: `[Service]\nEnvironmentFile=-${named}\n`,
          [file]: `OCICRYPT_KEYPROVIDER_CONFIG=/${CONF}\n`,
        },
      ] as const,
  ),
  [
    "k3s with a template",
    {
      [CONFIG]: undefined,
      [PROGRAM]: undefined,
      [`${rancher}/config.toml`]: v3,
      [`${rancher}/config-v3.toml.tmpl`]: `{{ template "base" . }}\n${LOCAL}${STANZA}`,
      "var/lib/rancher/k3s/data/current/bin/containerd": NEWEST,
    },
  ],
] as const) {
  test(`has nothing to say of ${what}`, async () => {
    assert.equal(await warnings(root(files)), []);
  });
}

// Pulls do not decrypt with these, or containerd does not start.
for (const [what, id, message, files] of [
  [
    "no config.toml",
    "pull",
    /transfer service, which does not decrypt.*set use_local_image_pull/,
    { [CONFIG]: undefined },
  ],
  ["no config.toml, for zstd", "zstd", /zstd layers have no stream processor/, { [CONFIG]: undefined }],
  ["a file without version and setting", "pull", /transfer service/, { [CONFIG]: STANZA }],
  ["version 2 without the setting", "pull", /transfer service/, { [CONFIG]: `version = 2\n${STANZA}` }],
  ["version 3 without the setting", "pull", /transfer service/, { [CONFIG]: `version = 3\n${STANZA}` }],
  ["version 4 without the setting", "pull", /transfer service/, { [CONFIG]: `version = 4\n${STANZA}` }],
  ["the setting with false", "pull", /transfer service/, { [CONFIG]: PRINTED.replace("= true", "= false") }],
  ["the setting as a string", "pull", /transfer service/, { [CONFIG]: PRINTED.replace("= true", '= "true"') }],
  ["the setting in a comment", "pull", /transfer service/, { [CONFIG]: PRINTED.replace("use_local", "# use_local") }],
  [
    "the setting in the old table",
    "pull",
    /transfer service/,
    { [CONFIG]: PRINTED.replace("io.containerd.cri.v1.images", "io.containerd.grpc.v1.cri") },
  ],
  [
    "the setting in the table of the runtime",
    "pull",
    /transfer service/,
    { [CONFIG]: v3.replace("cri.v1.images", "cri.v1.runtime") },
  ],
  [
    "the setting above all tables",
    "pull",
    /transfer service/,
    { [CONFIG]: `version = 3\nuse_local_image_pull = true\n${STANZA}` },
  ],
  [
    "the setting missing, of a containerd that is not here",
    "pull",
    /containerd 2\.1 and later/,
    { [CONFIG]: `version = 2\n${STANZA}`, [PROGRAM]: undefined },
  ],
  [
    "a drop-in without imports",
    "config",
    /conf\.d\/ocicrypt\.toml is not read: \S+config\.toml does not import it; add imports/,
    { [CONFIG]: "version = 3\n", [DROP_IN]: v3 },
  ],
  [
    "a drop-in without config.toml",
    "config",
    /is not read: there is no \S+config\.toml/,
    { [CONFIG]: undefined, [DROP_IN]: v3 },
  ],
  [
    "a drop-in of a higher version",
    "config",
    /version 3, which is higher than the version 2/,
    { [CONFIG]: `version = 2\nimports = ["/etc/containerd/conf.d/*.toml"]\n`, [DROP_IN]: v3 },
  ],
  [
    "an import that is not there",
    "config",
    /is imported, and not there: containerd does not start/,
    { [CONFIG]: PRINTED.replace("version = 2", 'version = 2\nimports = ["/etc/none.toml"]') },
  ],
  [
    "a drop-in that is not TOML",
    "config",
    /ocicrypt\.toml is not valid TOML/,
    { [CONFIG]: `imports = ["/etc/containerd/conf.d/*.toml"]\n${PRINTED}`, [DROP_IN]: "x = \n" },
  ],
  [
    "a table that is there twice",
    "config",
    /is not valid TOML.*does not start; (merge|correct)/,
    { [CONFIG]: `${PRINTED}\n${STANZA}` },
  ],
  [
    "imports below a table",
    "config",
    /is not read/,
    { [CONFIG]: `version = 3\n[debug]\nimports = ["/etc/containerd/conf.d/*.toml"]\n`, [DROP_IN]: v3 },
  ],
  ["version 3 with 1.7", "config", /containerd 1\.7 knows 2 as the highest/, { [CONFIG]: v3, [PROGRAM]: SEVEN }],
  [
    "a stanza of its own for zstd",
    "zstd",
    /go to the stream processor \S+tar\.zstd, which gets no keys/,
    {
      [CONFIG]: `${PRINTED.replace(`, ${ZSTD}`, "")}\n${STANZA.replace("tar.gzip", "tar.zstd").replace(/accepts = .*/, `accepts = [${ZSTD}]`)}`,
    },
  ],
  [
    "a stanza that accepts zstd no more",
    "zstd",
    /have no stream processor/,
    { [CONFIG]: PRINTED.replace(`, ${ZSTD}`, "") },
  ],
  [
    "a gzip stanza that accepts zstd only",
    "gzip",
    /gzip layers have no stream processor/,
    { [CONFIG]: PRINTED.replace(/accepts = .*/, `accepts = [${ZSTD}]`) },
  ],
  [
    "an id that imgcrypt does not know",
    "gzip",
    /stream processor my\.decoder, which gets no keys/,
    { [CONFIG]: `${PRINTED}\n${STANZA.replace(/"io[^"]*"\]/, '"my.decoder"]')}` },
  ],
  [
    "no ctd-decoder",
    "decoder",
    /ctd-decoder is not there for containerd to start.*install/,
    { "usr/bin/ctd-decoder": undefined },
  ],
  [
    "a ctd-decoder elsewhere",
    "decoder",
    /\/opt\/ctd-decoder is not there/,
    { [CONFIG]: PRINTED.replace('"ctd-decoder"', '"/opt/ctd-decoder"') },
  ],
  [
    "another folder of keys",
    "keys",
    /\/etc\/none is not there.*mkdir -p/,
    { [CONFIG]: PRINTED.replace("/etc/containerd/ocicrypt/keys", "/etc/none") },
  ],
  ["no provider file", "provider", /there is no \S+: containerd's decoder knows no provider/, { [CONF]: undefined }],
  ["a provider file that names none", "provider", /names no provider/, { [CONF]: "{}" }],
  [
    "a provider file that is not JSON",
    "provider",
    /is not JSON: containerd's decoder knows no provider/,
    { [CONF]: "key-providers:" },
  ],
  [
    "a provider file that clients refuse",
    "provider",
    /args that are not a list/,
    { [CONF]: '{"key-providers":{"k":{"cmd":{"path":"/x","args":"y"}}}}' },
  ],
  [
    "an entry without cmd",
    "provider",
    /has no entry with a cmd or grpc/,
    { [CONF]: `{"key-providers":{"k":{"path":"${BINARY}"}}}` },
  ],
  [
    "a provider file elsewhere",
    "provider",
    /there is no \/etc\/x\.conf/,
    { [CONFIG]: PRINTED.replace(/(_CONFIG=)[^"]*/, "$1/etc/x.conf") },
  ],
  [
    "no env",
    "provider",
    /tar\.gzip has no OCICRYPT_KEYPROVIDER_CONFIG/,
    { [CONFIG]: PRINTED.replace(/ {2}env = .*/, "") },
  ],
  [
    "another key model",
    "key-model",
    /key_model is "": CRI does not decrypt; set key_model = "node"/,
    { [CONFIG]: `${PRINTED}\n[plugins."io.containerd.cri.v1.images".image_decryption]\nkey_model = ""` },
  ],
  [
    "another key model in the old table",
    "key-model",
    /key_model is ""/,
    { [CONFIG]: `${PRINTED}\n[plugins."io.containerd.grpc.v1.cri".image_decryption]\nkey_model = ""` },
  ],
  [
    "another key model before 2.0",
    "key-model",
    /key_model is ""/,
    {
      [CONFIG]: `${PRINTED}\n[plugins."io.containerd.grpc.v1.cri".image_decryption]\nkey_model = ""`,
      [PROGRAM]: OLDEST,
    },
  ],
  [
    "k3s without the setting",
    "pull",
    /of the template beside \S+rancher\S+config\.toml; see ocicrypt-keystore config --client k3s/,
    {
      [`${rancher}/config.toml`]: `version = 3\n${STANZA}`,
      [`${rancher}/config-v3.toml.tmpl`]: STANZA,
      "var/lib/rancher/k3s/data/current/bin/containerd": NEWEST,
    },
  ],
  [
    "k3s without a decoder for zstd",
    "zstd",
    /see ocicrypt-keystore config --client k3s$/,
    { [`${rancher}/config.toml`]: "version = 3\n" },
  ],
  [
    "a drop-in that k3s does not import",
    "config",
    /is not read: .*; write what it has into the template beside \S+rancher/,
    { [`${rancher}/config.toml`]: "version = 3\n", [`${rancher}/conf.d/x.toml`]: `version = 3\n${LOCAL}` },
  ],
  [
    "k3s with settings that no template has",
    "config",
    /makes it again at each start; write them into \S+config-v3\.toml\.tmpl/,
    { [`${rancher}/config.toml`]: v3 },
  ],
  [
    "k3s with a template that was not read",
    "config",
    /was not made from \S+; restart k3s/,
    { [`${rancher}/config.toml`]: "version = 3\n", [`${rancher}/config-v3.toml.tmpl`]: v3 },
  ],
] as const) {
  test(`warns of ${what}`, async () => {
    const found = await warnings(root(files));
    assert.ok(
      found.some((line) => line.startsWith(`${id}: `) && message.test(line)),
      found.join("\n"),
    );
  });
}

test("warns of a folder of keys that is missing, is a symlink or holds one", async () => {
  const keys = (folder: string): string => join(folder, ETC, "ocicrypt/keys");
  for (const [arrange, message] of [
    [(path: string) => rmSync(path, { recursive: true }), /ocicrypt\/keys is not there: ctd-decoder fails without it/],
    [(path: string) => symlinkSync("x", join(path, "a")), /is or holds a symlink, which ctd-decoder refuses/],
    [(path: string) => (rmSync(path, { recursive: true }), symlinkSync(".", path)), /is or holds a symlink/],
  ] as const) {
    const folder = root({});
    arrange(keys(folder));
    const [line, ...more] = await warnings(folder);
    assert.match(line ?? "", message);
    assert.equal(more, []);
  }
});

test("tries the providers of the file that only containerd reads", async () => {
  process.env["OCICRYPT_KEYPROVIDER_CONFIG"] = "/none.conf";
  try {
    assert.equal(await warnings(root({})), []);
    for (const [providers, message] of [
      [
        { keystore: { grpc: "unix:///none/socket" } },
        /provider: provider keystore at unix:\/\/\/none\/socket: no server answers/,
      ],
      [{ keystore: entry([], "/none/x") }, /provider: the program of provider keystore of \S+ is not there/],
      [{ keystore: entry([], "/bin/true") }, /provider: provider keystore: \/bin\/true gave an answer that is empty/],
      [{ keystore: entry(["--keystore", "/none"]) }, /provider: .+ failed \(exit code 1\): no key store at \/none/],
    ] as const) {
      const found = await warnings(root({ [CONF]: JSON.stringify({ "key-providers": providers }) }));
      assert.match(found.join("\n"), message);
    }
  } finally {
    delete process.env["OCICRYPT_KEYPROVIDER_CONFIG"];
  }
});

test("says one thing of a configuration that this user may not read, and nothing of what it may hold", async () => {
  const drop = { [CONFIG]: 'version = 2\nimports = ["/etc/containerd/conf.d/*.toml"]\n', [DROP_IN]: PRINTED };
  for (const [files, secret] of [
    [{}, CONFIG],
    [drop, DROP_IN],
  ] as const) {
    const folder = withUmask(0o022, () => root(files, sharedFolder()));
    chmodSync(join(folder, secret), process.geteuid?.() === 0 ? 0o600 : 0);
    assert.equal(await withoutRoot(async () => await warnings(folder)), [
      `config: /${secret} cannot be read by this user; run doctor as root`,
    ]);
  }
});

test("skips all where there is no containerd", async () => {
  const found = await findings(temporaryFolder());
  for (const { id, status, message } of found) assert.is(`${id} ${status} ${message}`, `${id} skip no containerd here`);
});

testWith(mountNamespace(), "root, or mount namespaces", "looks at this machine's /etc", (args) => {
  const folder = root({ "etc/containerd/config.toml": PRINTED });
  const script = 'mount --bind "$1" /usr/local/sbin && mount --bind "$2" /etc && shift 2 && exec env -i "$@"';
  const paths = [join(folder, "usr/bin"), join(folder, "etc")];
  const command = ["sh", "-c", script, "sh", ...paths, BINARY, "doctor", "--json", "--keystore", dir];
  const { status, stdout, stderr } = spawnSync("unshare", [...args, ...command], { encoding: "utf8" });
  const checks = checksIn({ code: status, stdout, stderr });
  assert.equal(problems(checks), []);
  assertCheck(
    checks,
    "config.variable",
    "ok",
    /is not set; this node's service takes \/etc\/containerd\/ocicrypt\/\S+conf/,
  );
  assertCheck(checks, "containerd.provider", "ok", /names this program as keystore/);
  assertCheck(checks, "containerd.decoder", "ok", /^\/usr\/local\/sbin\/ctd-decoder; /);
  assertCheck(checks, "containerd.pull", "ok", /use_local_image_pull is set/);
});

test.run();
