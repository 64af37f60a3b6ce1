// How a registry is reached: the options of the commands that take an image.

import type { RegistryAccess } from "../image/source/registry.ts";

/** For yargs. */
export const REGISTRY_OPTIONS = {
  "tls-verify": {
    type: "boolean",
    describe: "=false takes any certificate of a registry, or none (default: registries.conf says it)",
  },
  "cert-dir": {
    type: "string",
    requiresArg: true,
    describe: "A folder with certificates for a registry: authorities *.crt, the client's *.cert and *.key",
  },
} as const;

/** What these options say. @param change whether the image is to be changed */
export function registryAccess(
  { tlsVerify, certDir }: { readonly tlsVerify?: boolean | undefined; readonly certDir?: string | undefined },
  change: boolean,
): RegistryAccess {
  return { tlsVerify, certDir, change };
}
