// doctor and CRI-O: folders of units and configurations, as CRI-O 1.37 and systemd read them.

import { chmodSync, existsSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { secretFiles } from "../../src/at-rest/secret-files.ts";
import { runCheck } from "../../src/doctor/check.ts";
import { configVariable } from "../../src/doctor/config.ts";
import { newContext } from "../../src/doctor/context.ts";
import { openStore } from "../../src/keystore/store.ts";
import { checksBelow, entry } from "../support/checks.ts";
import { sharedFolder, temporaryFolder, withoutRoot, withUmask } from "../support/folders.ts";
import { BINARY, succeed } from "../support/program.ts";
import { makeStore } from "../support/stores.ts";

const dir = makeStore("alice");
const CRIO_CHECKS = [{ id: "variable", run: configVariable }, ...checksBelow("crio.")];

const PRINTED = succeed(["config", "--client", "crio"]);
const [DROP_IN_TEXT = ""] = /^\[Service\]\n.*$/m.exec(PRINTED) ?? [];
const [CRIO_CONF = ""] = /^\[crio\.runtime\]\n.*$/m.exec(PRINTED) ?? [];
const DROP_IN = "etc/systemd/system/crio.service.d/ocicrypt.conf";
const CONF = "etc/ocicrypt.conf";
const PROVIDERS = JSON.stringify({
  "key-providers": { keystore: entry(["--keystore", dir, "--provider", "keystore"]) },
});
const SETTING = "OCICRYPT_KEYPROVIDER_CONFIG";
const UNIT = "usr/lib/systemd/system/crio.service";

type Files = Record<string, string | undefined>;

/** A root with CRI-O in order, where some files differ: without content, they are missing. */
function root(files: Files, made = temporaryFolder()): string {
  const usual = { [DROP_IN]: DROP_IN_TEXT, [CONF]: PROVIDERS, "etc/crio/crio.conf": CRIO_CONF };
  for (const [path, content] of Object.entries<string | undefined>({ ...usual, ...files })) {
    if (content === undefined) continue;
    mkdirSync(dirname(join(made, path)), { recursive: true });
    writeFileSync(join(made, path), content);
  }
  return made;
}

async function findings(folder: string, wanted: readonly string[]): Promise<string[]> {
  const context = { ...newContext(openStore(dir, secretFiles({})), {}, folder), failed: () => false };
  const found = [];
  for (const check of CRIO_CHECKS) found.push(...(await runCheck(check, context)));
  return found.flatMap(({ id, status, message, hint }) =>
    wanted.includes(status) ? `${id}: ${message}; ${hint ?? ""}` : [],
  );
}

const without = { [DROP_IN]: undefined };
const assignment = `${SETTING}=/${CONF}`;

// Pulls decrypt with these.
for (const [what, files] of [
  ["what config --client crio prints", {}],
  ["no configuration of CRI-O at all", { "etc/crio/crio.conf": undefined, "etc/crio/x": "" }],
  ["a variable among others in a line", { [DROP_IN]: `[Service]\nEnvironment="A=b c" ${assignment} D=e\n` }],
  ["a variable in quotes", { [DROP_IN]: `[Service]\nEnvironment="${assignment}"\n` }],
  ["comments and continued lines", { [DROP_IN]: `# mine\n[Service]\nEnvironment=A=b \\\n  ${assignment}\n` }],
  ["the unit itself", { ...without, [UNIT]: `[Unit]\nX=y\n[Service]\nEnvironment=${assignment}\nExecStart=/x\n` }],
  [
    "sysconfig, which the unit names",
    {
      ...without,
      [UNIT]: "[Service]\nEnvironmentFile=-/etc/sysconfig/crio\n",
      "etc/sysconfig/crio": `# mine\n${SETTING}="/${CONF}"\n`,
    },
  ],
  ["sysconfig without a unit that can be seen", { ...without, "etc/sysconfig/crio": `${assignment}\n` }],
  ["a later drop-in", { "etc/systemd/system/crio.service.d/10.conf": `[Service]\nEnvironment=${SETTING}=/none\n` }],
  [
    "a drop-in of the vendor that /etc replaces",
    { "usr/lib/systemd/system/crio.service.d/ocicrypt.conf": "[Service]\nEnvironment=\n" },
  ],
  ["the largest integer of Go", { "etc/crio/crio.conf": "[crio.runtime]\npids_limit = 9223372036854775807\n" }],
  ["a folder in that of the drop-ins, which CRI-O reads too", { "etc/crio/crio.conf.d/a/10": "" }],
  ["a folder of keys with a key", { "etc/crio/keys/a.pem": "" }],
  [
    "another folder of keys in a drop-in",
    { "etc/crio/crio.conf.d/10": '[crio.runtime]\ndecryption_keys_path = "/none"\n' },
  ],
] as const) {
  test(`has nothing to say of ${what}`, async () => {
    assert.equal(await findings(root(files), ["warn", "fail"]), []);
  });
}

// Pulls do not decrypt with these, or CRI-O does not start.
for (const [what, id, message, files] of [
  ["no drop-in", "provider", /is not set for crio\.service: CRI-O knows no provider/, without],
  ["a drop-in that does not end in .conf", "provider", /is not set/, { ...without, [`${DROP_IN}.bak`]: DROP_IN_TEXT }],
  ["a drop-in without [Service]", "provider", /is not set/, { [DROP_IN]: `Environment=${assignment}\n` }],
  ["a drop-in with [Unit]", "provider", /is not set/, { [DROP_IN]: `[Unit]\nEnvironment=${assignment}\n` }],
  ["a commented variable", "provider", /is not set/, { [DROP_IN]: `[Service]\n#Environment=${assignment}\n` }],
  ["another variable", "provider", /is not set/, { [DROP_IN]: "[Service]\nEnvironment=OCICRYPT_KEYPROVIDER=/x\n" }],
  [
    "a variable that is taken back",
    "provider",
    /is not set/,
    { "etc/systemd/system/crio.service.d/z.conf": "[Service]\nEnvironment=\n" },
  ],
  ["an empty variable", "provider", /is not set/, { [DROP_IN]: `[Service]\nEnvironment=${SETTING}=\n` }],
  ["export in sysconfig", "provider", /is not set/, { ...without, "etc/sysconfig/crio": `export ${assignment}\n` }],
  [
    "sysconfig that the unit does not name",
    "provider",
    /is not set/,
    { ...without, [UNIT]: "[Service]\n", "etc/sysconfig/crio": `${assignment}\n` },
  ],
  [
    "a drop-in of another unit",
    "provider",
    /is not set/,
    { ...without, "etc/systemd/system/cri-o.service.d/a.conf": DROP_IN_TEXT },
  ],
  [
    "a file of providers that is missing",
    "provider",
    /there is no \/etc\/ocicrypt\.conf: CRI-O knows no provider/,
    { [CONF]: undefined },
  ],
  ["a file of providers that is not JSON", "provider", /is not JSON: CRI-O knows no provider/, { [CONF]: "{" }],
  ["a file of providers without one", "provider", /names no provider/, { [CONF]: "{}" }],
  [
    "an entry without cmd",
    "provider",
    /no entry with a cmd or grpc/,
    { [CONF]: `{"key-providers":{"k":{"path":"${BINARY}"}}}` },
  ],
  [
    "a configuration that is not TOML",
    "config",
    /crio\.conf is not valid TOML.*CRI-O does not start/,
    { "etc/crio/crio.conf": "[crio\n" },
  ],
  ["one in a folder", "config", /crio\.conf\.d\/a\/10 is not valid TOML/, { "etc/crio/crio.conf.d/a/10": "x" }],
  ["a drop-in that is not TOML", "config", /crio\.conf\.d\/10 is not valid TOML/, { "etc/crio/crio.conf.d/10": "x" }],
] as const) {
  test(`warns of ${what}`, async () => {
    const found = await findings(root(files), ["warn"]);
    assert.ok(
      found.some((line) => line.startsWith(`${id}: `) && message.test(line)),
      found.join("\n"),
    );
  });
}

test("warns of a symlink in the folder of keys, also in another one", async () => {
  for (const [folder, files] of [
    ["etc/crio/keys", {}],
    ["srv/keys", { "etc/crio/crio.conf.d/10": '[crio.runtime]\ndecryption_keys_path = "/srv/keys/"\n' }],
  ] as const) {
    const made = root({ ...files, [`${folder}/a.pem`]: "" });
    symlinkSync("a.pem", join(made, folder, "b.pem"));
    const [line, ...more] = await findings(made, ["warn"]);
    assert.match(line ?? "", new RegExp(`^keys: /${folder}/? is or holds a symlink, which CRI-O refuses`));
    assert.equal(more, []);
  }
});

test("says one thing of a configuration that this user may not read", async () => {
  const folder = withUmask(0o022, () => root({ "etc/crio/keys/a.pem": "" }, sharedFolder()));
  symlinkSync("a.pem", join(folder, "etc/crio/keys/b.pem"));
  chmodSync(join(folder, "etc/crio/crio.conf"), process.geteuid?.() === 0 ? 0o600 : 0);
  const found = await withoutRoot(async () => await findings(folder, ["warn", "fail"]));
  const lines = found.filter((line) => !line.startsWith("provider: ")); // it cannot read the test's key store
  assert.equal(lines, ["config: /etc/crio/crio.conf cannot be read by this user; run doctor as root"]);
});

test("takes the file that the unit names where no variable is set, and skips all without CRI-O", async () => {
  const folder = root({});
  assert.ok(existsSync(join(folder, DROP_IN)));
  assert.match(
    (await findings(folder, ["ok"])).join("\n"),
    /^variable: .* is not set; this node's service takes \S+ocicrypt\.conf;/m,
  );
  const none = await findings(temporaryFolder(), ["skip"]);
  assert.equal(
    none.filter((line) => !line.startsWith("variable")),
    ["config", "provider", "keys"].map((id) => `${id}: no CRI-O here; `),
  );
});

test.run();
