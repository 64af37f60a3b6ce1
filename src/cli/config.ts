// config: prints the ocicrypt.conf that names this binary, and how to set up each client.

import { resolve } from "node:path";
import { CONTAINERD_CONF, CONTAINERD_CONFIG, CONTAINERD_KEYS } from "../doctor/containerd-config.ts";
import { usageError } from "../errors.ts";
import { storeLocation } from "../keystore/location.ts";
import { print, printJson, tell, type Cli } from "./shared.ts";

/** The clients that `--client` knows. */
const CLIENTS = ["skopeo", "podman", "buildah", "nerdctl", "containerd", "crio"] as const;

const LAYER = "application/vnd.oci.image.layer.v1.tar"; // the media type of an uncompressed layer

/** One of them. */
type Client = (typeof CLIENTS)[number];

/** Adds the command. Without --client it prints the file that $OCICRYPT_KEYPROVIDER_CONFIG must name. */
export function config(cli: Cli): void {
  cli.command(
    "config",
    "Print an ocicrypt.conf that names this program, and how to set up a client",
    (yargs) =>
      yargs
        .option("provider", {
          type: "string",
          requiresArg: true,
          default: "keystore",
          describe: "The provider's name: clients say provider:NAME",
        })
        .option("grpc", {
          type: "string",
          requiresArg: true,
          describe: "Have clients call the server at this address (see serve) instead of starting this program",
        })
        .option("tls-ca", {
          type: "string",
          requiresArg: true,
          describe: "The CA certificate that signed the server's certificate",
        })
        .option("tls-cert", { type: "string", requiresArg: true, describe: "The client's certificate" })
        .option("tls-key", { type: "string", requiresArg: true, describe: "The private key of that certificate" })
        .option("client", {
          choices: CLIENTS,
          requiresArg: true,
          describe: "Print what to paste where for this client, and what to restart",
        })
        .example("$0 config > ocicrypt.conf", "Then: export OCICRYPT_KEYPROVIDER_CONFIG=$PWD/ocicrypt.conf")
        .example("$0 config --client containerd", "Everything that containerd needs")
        .example("$0 config --grpc unix:/run/ocicrypt-keystore/socket", "For clients of a server"),
    async ({ keystore, provider, client, grpc, tlsCa, tlsCert, tlsKey, ...secrets }) => {
      const tls = [tlsCa, tlsCert, tlsKey];
      if (grpc === undefined && tls.some((file) => file !== undefined))
        throw usageError("the --tls options are only for --grpc", "add --grpc HOST:PORT, or leave them out");
      const invocation =
        grpc === undefined ? startedProgram(provider, storeLocation(keystore), secrets) : await askedServer(grpc, tls);
      const conf = ocicryptConf(provider, invocation);
      if (client === undefined) printJson(conf);
      else print(instructions(client, provider, JSON.stringify(conf, null, 2)));
    },
  );
}

interface SecretArgs {
  readonly passphraseFile: string | undefined;
  readonly masterKeyFile: string | undefined;
}

/** The file's content (ocicrypt's docs/keyprovider.md). */
function ocicryptConf(provider: string, invocation: object): object {
  if (/[:,\s]/.test(provider) || provider === "") {
    throw usageError(
      `"${provider}" cannot be a provider's name`,
      "clients split provider:NAME:KEY at colons and flags at commas",
    );
  }
  return { "key-providers": { [provider]: invocation } };
}

/** An entry that starts this program: its `path` is a member of `cmd`. */
function startedProgram(provider: string, keystore: string, { passphraseFile, masterKeyFile }: SecretArgs): object {
  const secrets = [
    ...(passphraseFile === undefined ? [] : ["--passphrase-file", passphraseFile]),
    ...(masterKeyFile === undefined ? [] : ["--master-key-file", masterKeyFile]),
  ];
  return { cmd: { path: process.execPath, args: ["--keystore", keystore, "--provider", provider, ...secrets] } };
}

/**
 * An entry that calls a server. ocicrypt knows `grpc-tls` since 1.3.0; older versions ignore it and call without TLS.
 */
async function askedServer(grpc: string, tls: readonly (string | undefined)[]): Promise<object> {
  const { parseAddress, shownAddress } = await import("../serve/address.ts");
  const address = parseAddress(grpc);
  if (tls.every((file) => file === undefined)) return { grpc: shownAddress(address) };
  if (address.kind === "unix") throw usageError("TLS is not for a unix socket", "leave the --tls options out");
  const [ca, cert, key] = tls.map((file) => file && resolve(file));
  if (!ca || !cert || !key)
    throw usageError("--tls-ca, --tls-cert and --tls-key must be given together", "give all three");
  tell(
    "clients with ocicrypt before 1.3.0 do not know grpc-tls: they call without TLS, and the server refuses them. " +
      "Give them a server on a unix socket or on localhost",
  );
  return { grpc: shownAddress(address), "grpc-tls": { "root-ca-file": ca, "cert-file": cert, "key-file": key } };
}

function instructions(client: Client, provider: string, conf: string): string {
  const write = (path: string): string => `# 1. Write this to ${path}:\n\n${conf}\n`;
  const shell = (commands: string): string => `${write("/etc/ocicrypt.conf")}
# 2. Set this in the client's environment (for a service: in its unit, then restart it):

export OCICRYPT_KEYPROVIDER_CONFIG=/etc/ocicrypt.conf

# 3. Give the key flag: without it the client neither encrypts nor decrypts:

${commands}`;
  switch (client) {
    case "skopeo":
      return shell(
        `skopeo copy --encryption-key provider:${provider}:NAME oci:IMAGE oci:ENCRYPTED
skopeo copy --decryption-key provider:${provider} oci:ENCRYPTED oci:DECRYPTED`,
      );
    case "podman":
      return shell(
        `podman push --encryption-key provider:${provider}:NAME IMAGE docker://REGISTRY/ENCRYPTED
podman pull --decryption-key provider:${provider} REGISTRY/ENCRYPTED
# also run, create and build; DecryptionKey= in a Quadlet

# This does not work with a remote client: the machine that pulls needs the keys.`,
      );
    case "buildah":
      return shell(
        `buildah push --encryption-key provider:${provider}:NAME IMAGE docker://REGISTRY/ENCRYPTED
buildah from --decryption-key provider:${provider} REGISTRY/ENCRYPTED    # also pull, build`,
      );
    case "nerdctl":
      return shell(
        `nerdctl image encrypt --all-platforms --recipient provider:${provider}:NAME IMAGE ENCRYPTED
nerdctl image decrypt --all-platforms --key provider:${provider} ENCRYPTED DECRYPTED`,
      );
    case "containerd":
      return `${write(CONTAINERD_CONF)}
# 2. The folder of key files must exist, even if it is empty, and must not be a symlink.
# ctd-decoder must be in containerd's PATH:

mkdir -p ${CONTAINERD_KEYS}

# 3. Merge this into ${CONTAINERD_CONFIG}, or write it there if that file does not exist. Each table may be in the
# file only once: if it is there already, add the lines to it. Keep the file's version, if it has one. containerd before
# 2.1 ignores use_local_image_pull; later versions do not decrypt without it.

version = 2
[plugins.'io.containerd.cri.v1.images']
  use_local_image_pull = true
[stream_processors."io.containerd.ocicrypt.decoder.v1.tar.gzip"]
  accepts = ["${LAYER}+gzip+encrypted", "${LAYER}+zstd+encrypted"]
  returns = "${LAYER}+gzip"
  path = "ctd-decoder"
  args = ["--decryption-keys-path", "${CONTAINERD_KEYS}"]
  env = ["OCICRYPT_KEYPROVIDER_CONFIG=${CONTAINERD_CONF}"]

# 4. Restart it:

systemctl restart containerd`;
    default:
      return `${write("/etc/ocicrypt.conf")}
# 2. Write this to /etc/systemd/system/crio.service.d/ocicrypt.conf:

[Service]
Environment=OCICRYPT_KEYPROVIDER_CONFIG=/etc/ocicrypt.conf

# 3. The folder of key files must exist, even if it is empty. Add to /etc/crio/crio.conf:

[crio.runtime]
decryption_keys_path = "/etc/crio/keys/"

# 4. Restart it:

mkdir -p /etc/crio/keys && systemctl daemon-reload && systemctl restart crio`;
  }
}
