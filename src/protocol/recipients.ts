// Whom a wrap request is for: which entry of Parameters is ours, and which recipients its values name.

import { isUtf8 } from "node:buffer";
import { basename } from "node:path";
import { printable, requestError } from "../errors.ts";

// The other key wrappers of ocicrypt (its config/constructors.go) keep their parameters in the same map.
const OCICRYPT_NAMES = new Set([
  "pubkeys",
  "privkeys",
  "privkeys-passwords",
  "x509s",
  "gpg-recipients",
  "gpg-pubkeyringfile",
  "gpg-privatekeys",
  "gpg-privatekeys-passwords",
  "pkcs11-pubkeys",
  "pkcs11-yamls",
  "pkcs11-config",
]);

const NO_VALUE = "Enabled"; // what clients send for `provider:NAME` without a value

/** How this process knows its provider's name. */
export interface ProviderHints {
  /** `--provider`, if given. */
  readonly provider?: string | undefined;
  /** argv[0]: the path or name the client started it by. */
  readonly startedAs: string;
}

/**
 * The recipients that a request asks for, in its order: a name or kid each, undefined for the default key.
 *
 * @throws KeystoreError `request` if it cannot be told which entry of Parameters is meant, or a value is no text
 */
export function requestedRecipients(parameters: ReadonlyMap<string, readonly Buffer[]>, hints: ProviderHints): (string | undefined)[] {
  const provider = providerName([...parameters.keys()], hints);
  const values = parameters.get(provider) ?? [];
  if (values.length === 0) return [undefined];
  return values.flatMap((bytes) => {
    if (!isUtf8(bytes)) throw requestError(`provider ${shown(provider)} got a value that is not text`, "name a key: provider:NAME:KEY");
    const value = bytes.toString("utf8");
    return value === "" || value === NO_VALUE ? [undefined] : value.split(":");
  });
}

/** Which entry of Parameters is this provider's. @throws KeystoreError `request` if it cannot be told */
export function providerName(names: readonly string[], { provider, startedAs }: ProviderHints): string {
  if (provider !== undefined) {
    if (names.includes(provider)) return provider;
    throw requestError(`the request names no provider ${shown(provider)}`, "use the name of this entry in ocicrypt.conf for --provider");
  }
  const candidates = names.filter((name) => !OCICRYPT_NAMES.has(name));
  const [only, ...others] = candidates;
  if (only === undefined) throw requestError("the request names no key provider", "encrypt with provider:NAME[:KEY], NAME as in ocicrypt.conf");
  if (others.length === 0) return only;
  const ownName = basename(startedAs);
  const own = candidates.find((name) => name === ownName) ?? candidates.find((name) => `ocicrypt-${name}` === ownName);
  if (own !== undefined) return own;
  throw requestError(
    `the request names several providers (${candidates.slice(0, 8).map(shown).join(", ")}) and none is this program's own name`,
    'say which one it is: "args": ["--provider", "NAME"] in ocicrypt.conf, or serve --provider NAME',
  );
}

function shown(name: string): string {
  return `"${printable(name, 64)}"`;
}
