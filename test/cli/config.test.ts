// config: the entry of ocicrypt.conf for this program, or for a server.

import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { CLIENT_TEXTS } from "../../src/cli/client-texts.ts";
import { sharedFolder, temporaryFolder } from "../support/folders.ts";
import { assertFailure, BINARY, type Result, run, runHere, sharedBinary, succeed } from "../support/program.ts";
import { makeStore } from "../support/stores.ts";

runHere();

const dir = makeStore("alice", "bob:--type rsa --bits 2048", "carol:--type oct --bits 128");
const cli = (...args: readonly string[]): string => succeed([...args, "--keystore", dir]);

test("config prints the ocicrypt.conf that names this binary and this store by absolute paths", () => {
  const conf = JSON.parse(
    succeed(["config", "--provider", "simplecrypt", "--keystore", "keys", "--master-key-file", "master"], {
      cwd: temporaryFolder(),
    }),
  ) as object;
  const { simplecrypt } = (conf as { "key-providers": Record<string, { cmd: { path: string; args: string[] } }> })[
    "key-providers"
  ];
  assert.is(simplecrypt?.cmd.path, BINARY);
  assert.match(
    simplecrypt?.cmd.args.join(" ") ?? "",
    /^--keystore \/\S+\/keys --provider simplecrypt --master-key-file \/\S+\/master$/,
  );
  assert.match(cli("config"), '"keystore": {');
  assert.match(assertFailure(run(["config", "--provider", "a:b"]), 2), /cannot be a provider's name/);
});

test("config --grpc prints an address as clients take it, without TLS for every version, with it for 1.3 on", () => {
  for (const [given, printed] of [
    ["unix:/run/ks/socket", "unix:///run/ks/socket"],
    ["unix:///run/ks/socket", "unix:///run/ks/socket"],
    ["unix:socket", "unix:///socket"],
    ["localhost:50051", "localhost:50051"],
    ["[::1]:50051", "[::1]:50051"],
  ]) {
    assert.equal(JSON.parse(succeed(["config", "--grpc", given ?? "", "--provider", "kv"])), {
      "key-providers": { kv: { grpc: printed } },
    });
  }
  const { code, stdout, stderr } = run([
    "config",
    "--grpc",
    "keys.example:50051",
    "--tls-ca",
    "/ca",
    "--tls-cert",
    "cert",
    "--tls-key",
    "/key",
  ]);
  assert.is(code, 0);
  assert.equal(JSON.parse(stdout), {
    "key-providers": {
      keystore: {
        grpc: "keys.example:50051",
        "grpc-tls": { "root-ca-file": "/ca", "cert-file": "/cert", "key-file": "/key" },
      },
    },
  });
  assert.match(stderr, /^clients with ocicrypt before 1\.3\.0 do not know grpc-tls/);
  assert.match(
    succeed(["config", "--grpc", "unix:/s", "--client", "skopeo"]),
    /"grpc": "unix:\/\/\/s"[^]*provider:keystore/,
  );
});

test("config --grpc refuses what no client could use", () => {
  const refuse = (...args: readonly string[]): string => assertFailure(run(["config", ...args]), 2);
  assert.match(refuse("--grpc", "http://h:1"), /: cannot call http:\/\/h:1; write unix:PATH or HOST:PORT/);
  assert.match(refuse("--grpc", ":50051"), /: cannot call :50051; write the server's host/);
  assert.match(refuse("--tls-ca", "/ca"), /the --tls options are only for --grpc/);
  assert.match(refuse("--grpc", "h:1", "--tls-ca", "/ca"), /--tls-ca, --tls-cert and --tls-key must be given together/);
  assert.match(
    refuse("--grpc", "unix:/s", "--tls-ca", "/a", "--tls-cert", "/b", "--tls-key", "/c"),
    /TLS is not for a unix socket/,
  );
});

/** One text for containerd 1.6 to 2.x: version 3 stops 1.7, and zstd has to go through the processor of gzip. */
const CONTAINERD_TOML = `version = 2
[plugins.'io.containerd.cri.v1.images']
  use_local_image_pull = true
[stream_processors."io.containerd.ocicrypt.decoder.v1.tar.gzip"]
  accepts = ["application/vnd.oci.image.layer.v1.tar+gzip+encrypted", \
"application/vnd.oci.image.layer.v1.tar+zstd+encrypted"]
  returns = "application/vnd.oci.image.layer.v1.tar+gzip"
  path = "ctd-decoder"
  args = ["--decryption-keys-path", "/etc/containerd/ocicrypt/keys"]
  env = ["OCICRYPT_KEYPROVIDER_CONFIG=/etc/containerd/ocicrypt/ocicrypt_keyprovider.conf"]
`;

const text = (client: keyof typeof CLIENT_TEXTS): string =>
  CLIENT_TEXTS[client].text({ provider: "ks", conf: "CONF", folder: "/home/u/.config" });

test("config --client containerd prints one text for all versions of containerd, to be merged", () => {
  const printed = cli("config", "--client", "containerd");
  assert.ok(printed.includes(`\n${CONTAINERD_TOML}\n`), printed);
  assert.match(printed, /Merge this into \/etc\/containerd\/config\.toml/);
});

test("config --client k3s prints a template with k3s's own configuration, and no table that k3s writes", () => {
  const [, template] = /(\{\{ template "base" \. \}\}\n[^]*?)\n# 4/.exec(text("k3s")) ?? [];
  const processor = CONTAINERD_TOML.slice(CONTAINERD_TOML.indexOf("[stream_processors"));
  assert.is(template, `{{ template "base" . }}\n\n${processor}`);
  assert.match(text("k3s"), /\n# \/var\/lib\/rancher\/k3s\/agent\/etc\/containerd\/config-v3\.toml\.tmpl,/);
  assert.match(text("k3s"), "config.toml.tmpl beside it");
  assert.match(text("k3s"), "\nmkdir -p /etc/containerd/ocicrypt/keys\n");
  assert.match(text("k3s"), /systemctl restart k3s /);
});

test("config --client crio prints two drop-ins, and no folder that CRI-O does not need", () => {
  assert.match(text("crio"), "\n[Service]\nEnvironment=OCICRYPT_KEYPROVIDER_CONFIG=/etc/ocicrypt.conf\n");
  assert.match(
    text("crio"),
    /\/etc\/crio\/crio\.conf\.d\/50-ocicrypt\.conf.*\n\n\[crio\.runtime\]\ndecryption_keys_path = "\/etc\/crio\/keys\/"\n/,
  );
  assert.match(text("crio"), "systemctl daemon-reload && systemctl restart crio");
  assert.not.match(text("crio"), "mkdir");
});

test("config --client nerdctl pulls without unpacking, then decrypts", () => {
  const [, pull, decrypt] = /\n(nerdctl pull .*)\n(nerdctl image decrypt .*)$/.exec(text("nerdctl")) ?? [];
  assert.is(pull, "nerdctl pull --unpack=false REGISTRY/ENCRYPTED");
  assert.is(decrypt, "nerdctl image decrypt --key provider:ks REGISTRY/ENCRYPTED DECRYPTED");
});

test("config --client podman gives the key to a Quadlet's .image unit, with the variable that its service needs", () => {
  const unit = `[Image]
Image=REGISTRY/ENCRYPTED
DecryptionKey=provider:ks

[Service]
Environment=OCICRYPT_KEYPROVIDER_CONFIG=/home/u/.config/ocicrypt.conf`;
  assert.ok(text("podman").endsWith(`\n\n${unit}`), text("podman"));
  assert.match(text("podman"), "a .container unit knows no DecryptionKey=");
});

test("every text begins with the file, at a path that the client's user can write, and names it", () => {
  for (const client of Object.keys(CLIENT_TEXTS) as (keyof typeof CLIENT_TEXTS)[]) {
    const [, path = ""] = /^# 1\. Write this to (\S+):\n\nCONF\n/.exec(text(client)) ?? [];
    assert.is(path.startsWith("/home/u/.config/"), !CLIENT_TEXTS[client].service, client);
    assert.match(text(client), `OCICRYPT_KEYPROVIDER_CONFIG=${path}`, client);
  }
});

/** What an ordinary user is told and gets. */
function asUser(env: NodeJS.ProcessEnv, ...args: readonly string[]): Result {
  const id = process.geteuid?.() === 0 ? { uid: 65534, gid: 65534 } : {};
  const { status, stdout, stderr } = spawnSync(sharedBinary(), ["config", ...args], {
    ...id,
    env,
    cwd: "/",
    encoding: "utf8",
  });
  return { code: status, stdout, stderr };
}

test("config warns of a key store that this user's clients cannot use, and prints all the same", () => {
  const none = join(temporaryFolder(), "none");
  const absent = run(["config", "--keystore", none]);
  assert.equal(
    [absent.code, absent.stderr],
    [0, `${none} does not exist yet: make a key with ocicrypt-keystore keygen NAME\n`],
  );
  assert.match(absent.stdout, none);
  const ready = run(["config", "--keystore", dir]);
  assert.equal([ready.code, ready.stderr], [0, ""]);
  assert.is(run(["config", "--keystore", none, "--grpc", "unix:/s"]).stderr, "", "a server has the store");

  const closed = join(sharedFolder(), "store");
  mkdirSync(join(closed, "private"), { recursive: true });
  chmodSync(closed, 0o755);
  chmodSync(join(closed, "private"), 0);
  const encrypts = asUser({}, "--keystore", closed);
  assert.equal(
    [encrypts.code, encrypts.stderr],
    [0, `${closed}/private cannot be read by this user (EACCES): its clients can encrypt, but not decrypt\n`],
  );
  chmodSync(closed, 0);
  const unreadable = asUser({}, "--keystore", closed);
  assert.equal(
    [unreadable.code, unreadable.stderr],
    [0, `${closed} cannot be read by this user (EACCES): name another key store with --keystore\n`],
  );
  for (const folder of [closed, join(closed, "private")]) chmodSync(folder, 0o700); // so that it can be removed
});

test("an ordinary user gets paths of its own, and is told that a service runs as root", () => {
  const home = sharedFolder();
  const { code, stdout } = asUser({ HOME: home }, "--client", "skopeo");
  assert.is(code, 0);
  assert.match(stdout, `# 1. Write this to ${home}/.config/ocicrypt.conf:`);
  assert.match(stdout, `\nexport OCICRYPT_KEYPROVIDER_CONFIG=${home}/.config/ocicrypt.conf\n`);
  assert.match(asUser({ XDG_CONFIG_HOME: "/x" }, "--client", "buildah").stdout, "# 1. Write this to /x/ocicrypt.conf:");
  const service = asUser({ HOME: home }, "--client", "containerd");
  assert.match(
    service.stderr,
    /\ncontainerd runs as root: run this as root for root's key store, or name one with --keystore\n$/,
  );
});

test.run();
