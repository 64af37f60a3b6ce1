// What `config --client NAME` prints: what to write where for each client, what to type, and what to restart.

import { join } from "node:path";
import { CONTAINERD_CONF, CONTAINERD_CONFIG, CONTAINERD_KEYS, DECODERS, LAYER } from "../doctor/containerd-config.ts";

/** What the texts are made of. */
export interface Facts {
  /** The provider's name. */
  readonly provider: string;
  /** The content of ocicrypt.conf. */
  readonly conf: string;
  /** A folder for ocicrypt.conf that the user can write to. */
  readonly folder: string;
}

/** A client's text, and whether root's service does the decrypting, so that only root can set it up. */
interface ClientText {
  readonly service: boolean;
  readonly text: (facts: Facts) => string;
}

const K3S = "/var/lib/rancher/k3s/agent/etc/containerd";
const CRIO_CONF = "/etc/ocicrypt.conf";

// containerd 1.6 to 2.x: version 3 stops 1.7, and imgcrypt decrypts zstd layers by the processor of gzip alone.
const STREAM_PROCESSOR = `[stream_processors."${DECODERS[1]}"]
  accepts = ["${LAYER}+gzip+encrypted", "${LAYER}+zstd+encrypted"]
  returns = "${LAYER}+gzip"
  path = "ctd-decoder"
  args = ["--decryption-keys-path", "${CONTAINERD_KEYS}"]
  env = ["OCICRYPT_KEYPROVIDER_CONFIG=${CONTAINERD_CONF}"]
`;

/** The first two steps for containerd, whoever starts it. */
const forDecoder = ({ conf }: Facts, containerd: string): string => `${write(CONTAINERD_CONF, conf)}
# 2. The folder of key files must exist, even if it is empty, and must not be a symlink.
# ctd-decoder must be in ${containerd}'s PATH:

mkdir -p ${CONTAINERD_KEYS}
`;

/** The texts of the clients that `--client` knows. */
export const CLIENT_TEXTS = {
  skopeo: shell(
    ({ provider }) => `skopeo copy --encryption-key provider:${provider}:NAME oci:IMAGE oci:ENCRYPTED
skopeo copy --decryption-key provider:${provider} oci:ENCRYPTED oci:DECRYPTED`,
  ),
  podman: shell(
    (facts) => `podman push --encryption-key provider:${facts.provider}:NAME IMAGE docker://REGISTRY/ENCRYPTED
podman pull --decryption-key provider:${facts.provider} REGISTRY/ENCRYPTED    # also run, create, build

# This does not work with a remote client: the machine that pulls needs the keys.
# A Quadlet needs an .image unit: a .container unit knows no DecryptionKey=. The latter says Image=NAME.image, and
# NAME.image has:

[Image]
Image=REGISTRY/ENCRYPTED
DecryptionKey=provider:${facts.provider}

[Service]
Environment=OCICRYPT_KEYPROVIDER_CONFIG=${confPath(facts)}`,
  ),
  buildah: shell(
    ({ provider }) => `buildah push --encryption-key provider:${provider}:NAME IMAGE docker://REGISTRY/ENCRYPTED
buildah from --decryption-key provider:${provider} REGISTRY/ENCRYPTED    # also pull, build`,
  ),
  nerdctl: shell(
    ({ provider }) => `nerdctl image encrypt --all-platforms --recipient provider:${provider}:NAME IMAGE ENCRYPTED

# A pull unpacks, and fails for an encrypted image. So pull without that, then decrypt:

nerdctl pull --unpack=false REGISTRY/ENCRYPTED
nerdctl image decrypt --key provider:${provider} REGISTRY/ENCRYPTED DECRYPTED`,
  ),
  containerd: {
    service: true,
    text: (facts) => `${forDecoder(facts, "containerd")}
# 3. Merge this into ${CONTAINERD_CONFIG}, or write it there if that file does not exist. Each table may be in the
# file only once: if it is there already, add the lines to it. Keep the file's version, if it has one. containerd before
# 2.1 ignores use_local_image_pull; later versions do not decrypt without it.

version = 2
[plugins.'io.containerd.cri.v1.images']
  use_local_image_pull = true
${STREAM_PROCESSOR}
# 4. Restart it:

systemctl restart containerd`,
  },
  k3s: {
    service: true,
    text: (facts) => `${forDecoder(facts, "k3s")}
# 3. k3s writes containerd's config.toml at each start, from a template. Write this to
# ${K3S}/config-v3.toml.tmpl,
# for containerd 1.7 (k3s --version) to config.toml.tmpl beside it, or merge it into the template that is there.
# For RKE2 the folder has rke2 in place of k3s:

{{ template "base" . }}

${STREAM_PROCESSOR}
# 4. Restart it, then look for use_local_image_pull = true in config.toml beside the template: containerd 2.1 and later
# do not decrypt without it, and each table may be in that file only once. If it is missing, add to the template:
# [plugins.'io.containerd.cri.v1.images']
#   use_local_image_pull = true

systemctl restart k3s    # k3s-agent, rke2-server, rke2-agent`,
  },
  crio: {
    service: true,
    text: ({ conf }) => `${write(CRIO_CONF, conf)}
# 2. Write this to /etc/systemd/system/crio.service.d/ocicrypt.conf:

[Service]
Environment=OCICRYPT_KEYPROVIDER_CONFIG=${CRIO_CONF}

# 3. Write this to /etc/crio/crio.conf.d/50-ocicrypt.conf. That folder of key files need not exist:

[crio.runtime]
decryption_keys_path = "/etc/crio/keys/"

# 4. Restart it:

systemctl daemon-reload && systemctl restart crio`,
  },
} as const satisfies Readonly<Record<string, ClientText>>;

function write(path: string, conf: string): string {
  return `# 1. Write this to ${path}:\n\n${conf}\n`;
}

function confPath({ folder }: Facts): string {
  return join(folder, "ocicrypt.conf");
}

/** The text of a client that users start from a shell. */
function shell(commands: (facts: Facts) => string): ClientText {
  return {
    service: false,
    text: (facts) => `${write(confPath(facts), facts.conf)}
# 2. Set this in the client's environment (for a service: in its unit, then restart it):

export OCICRYPT_KEYPROVIDER_CONFIG=${confPath(facts)}

# 3. Give the key flag: without it the client neither encrypts nor decrypts:

${commands(facts)}`,
  };
}
