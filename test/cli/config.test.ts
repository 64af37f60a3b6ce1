// config: the entry of ocicrypt.conf for this program, or for a server.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { temporaryFolder } from "../support/folders.ts";
import { assertFailure, BINARY, run, succeed } from "../support/program.ts";
import { makeStore } from "../support/stores.ts";

const dir = makeStore("alice", "bob:--type rsa --bits 2048", "carol:--type oct --bits 128");
const cli = (...args: readonly string[]): string => succeed([...args, "--keystore", dir]);

test("config prints the ocicrypt.conf that names this binary and this store by absolute paths", () => {
  const conf = JSON.parse(
    succeed(["config", "--provider", "simplecrypt", "--keystore", "keys"], { cwd: temporaryFolder() }),
  ) as object;
  const { simplecrypt } = (conf as { "key-providers": Record<string, { cmd: { path: string; args: string[] } }> })[
    "key-providers"
  ];
  assert.is(simplecrypt?.cmd.path, BINARY);
  assert.match(simplecrypt?.cmd.args.join(" ") ?? "", /^--keystore \/\S+\/keys --provider simplecrypt$/);
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
  assert.match(refuse("--grpc", "localhost"), /cannot listen on|write unix:PATH or HOST:PORT/);
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

test("config --client containerd prints one text for all versions of containerd, to be merged", () => {
  const text = cli("config", "--client", "containerd");
  assert.ok(text.includes(`\n${CONTAINERD_TOML}\n`), text);
  assert.match(text, /Merge this into \/etc\/containerd\/config\.toml/);
});

test.run();
