// The recipients of a wrap request: which entry of Parameters is ours, and which recipients its values name.

import { isUtf8 } from "node:buffer";
import { basename } from "node:path";
import { printable, requestError } from "../errors.ts";
import { NO_RECIPIENT } from "../keystore/paths.ts";

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

/** What tells this process the name of its provider. */
export interface ProviderHints {
  /** `--provider`, if given. */
  readonly provider?: string | undefined;
  /** argv[0]: the path or name that the client started this program by. */
  readonly startedAs: string;
  /** The names of the entries of ocicrypt.conf that start this program as `startedAs`, if they do not tell the name. */
  readonly entriesAlike?: (startedAs: string) => readonly string[];
}

/**
 * The recipients of a request, in its order: each is a name or a kid, or undefined for the default key.
 *
 * @throws KeystoreError `request` if it is not clear which entry of Parameters is ours, or a value is not text
 */
export function requestedRecipients(
  parameters: ReadonlyMap<string, readonly Buffer[]>,
  hints: ProviderHints,
): (string | undefined)[] {
  const provider = providerName([...parameters.keys()], hints);
  const values = parameters.get(provider) ?? [];
  if (values.length === 0) return [undefined];
  return values.flatMap((bytes) => {
    if (!isUtf8(bytes)) {
      throw requestError(`provider ${shown(provider)} got a value that is not text`, "name a key: provider:NAME:KEY");
    }
    const value = bytes.toString("utf8");
    return value === "" || value === NO_RECIPIENT ? [undefined] : value.split(":");
  });
}

/** The entry of Parameters that is this provider's. @throws KeystoreError `request` if that is not clear */
export function providerName(names: readonly string[], { provider, startedAs, entriesAlike }: ProviderHints): string {
  if (provider !== undefined) {
    if (names.includes(provider)) return provider;
    const hint = "set --provider to the name that this entry has in ocicrypt.conf";
    throw requestError(`the request names no provider ${shown(provider)}`, hint);
  }
  const candidates = names.filter((name) => !OCICRYPT_NAMES.has(name));
  const [only, ...others] = candidates;
  if (only === undefined) {
    const hint = "encrypt with provider:NAME[:KEY], where NAME is the provider's name in ocicrypt.conf";
    throw requestError("the request names no key provider", hint);
  }
  if (others.length === 0) return only;
  const program = basename(startedAs);
  const match =
    candidates.find((name) => name === program) ?? candidates.find((name) => `ocicrypt-${name}` === program);
  const hint = 'set the name: "args": ["--provider", "NAME"] in ocicrypt.conf, or serve --provider NAME';
  if (match === undefined) {
    throw requestError(
      `the request names several providers (${list(candidates)}), and none has this program's name`,
      hint,
    );
  }
  const alike = entriesAlike?.(startedAs).filter((name) => candidates.includes(name)) ?? [];
  if (alike.every((name) => name === match)) return match;
  throw requestError(
    `the request names several providers, and ocicrypt.conf starts this program without a name for ${list(alike)}`,
    hint,
  );
}

function list(names: readonly string[]): string {
  return names.slice(0, 8).map(shown).join(", ");
}

function shown(name: string): string {
  return `"${printable(name, 64)}"`;
}
