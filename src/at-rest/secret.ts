// Keys that are locked with a secret: a passphrase (RFC 7518, section 4.8) or a master key (section 4.4).

import { pbkdf2, randomBytes } from "node:crypto";
import { promisify } from "node:util";
import { decodeBase64url } from "../base64.ts";
import { member, type JsonObject } from "../json.ts";
import { ENCRYPTIONS } from "../jwe/alg/algorithms.ts";
import { aesKeyUnwrap, aesKeyWrap } from "../jwe/alg/key-wrap.ts";
import { decryptContent, encryptContent } from "../jwe/engine.ts";
import {
  damagedLockedKey,
  ENC,
  parseLocked,
  type AtRest,
  type SecretKind,
  type SecretSource,
  type AtRestType,
} from "./locked-file.ts";

/** Bytes of a master key. */
export const MASTER_KEY_BYTES = 32;

const PBES2 = "PBES2-HS512+A256KW"; // RFC 7518, section 4.8
const ITERATIONS = { written: 600_000, min: 1_000, max: 10_000_000 } as const; // p2c: RFC 7518, section 4.8.1.2
const SALT = { written: 16, min: 8, max: 1024 } as const; // bytes of p2s: RFC 7518, section 4.8.1.1
const derive = promisify(pbkdf2);

/** How one kind of secret becomes the key-encryption key. */
interface KeyFromSecret {
  readonly kind: SecretKind;
  readonly alg: string;
  /** Header parameters of a new file. */
  readonly parameters: () => JsonObject;
  /** @throws KeystoreError `key` if the parameters are out of bounds */
  readonly key: (secret: Buffer, header: JsonObject) => Promise<Buffer> | Buffer;
}

const fromPassphrase: KeyFromSecret = {
  kind: "passphrase",
  alg: PBES2,
  parameters: () => ({ p2s: randomBytes(SALT.written).toString("base64url"), p2c: ITERATIONS.written }),
  key: async (secret, header) =>
    await passwordKey(secret, salt(member(header, "p2s")), iterations(member(header, "p2c"))),
};

const fromMasterKey: KeyFromSecret = {
  kind: "master key",
  alg: "A256KW",
  parameters: () => ({}),
  key: (secret) => secret,
};

/** Keys that are locked with a passphrase. */
export const byPassphrase = bySecret(fromPassphrase);

/** Keys that are locked with a master key. */
export const byMasterKey = bySecret(fromMasterKey);

function bySecret(from: KeyFromSecret): AtRestType {
  return {
    alg: from.alg,
    atRestOf: (_file, secrets) => atRestWith(from, secrets),
  };
}

/** A lock with a secret of a kind. */
export function atRestBySecret(kind: SecretKind, secrets: SecretSource): AtRest {
  return atRestWith(kind === "passphrase" ? fromPassphrase : fromMasterKey, secrets);
}

function atRestWith({ kind, alg, parameters, key }: KeyFromSecret, secrets: SecretSource): AtRest {
  return {
    kind,
    seal: async (jwk) => {
      const header = { alg, ...parameters() };
      const [cek, iv] = [randomBytes(ENCRYPTIONS[ENC].cek), randomBytes(ENCRYPTIONS[ENC].iv)];
      const encryptedKey = aesKeyWrap(await key(await secrets(kind), header), cek);
      const jwe = await encryptContent(jwk, { enc: ENC, cty: "jwk+json" }, cek, iv, [{ header, encryptedKey }]);
      return Buffer.from(JSON.stringify(jwe));
    },
    open: async (file) => {
      const secret = await secrets(kind);
      const { jwe, header, encryptedKey } = parseLocked(file);
      const kek = await key(secret, header);
      try {
        return await decryptContent(jwe, aesKeyUnwrap(kek, encryptedKey));
      } catch {
        return undefined;
      }
    },
    sameAs: () => true,
  };
}

/** RFC 7518, section 4.8: PBKDF2 with HMAC-SHA-512 over the passphrase; the salt is alg, a zero byte and p2s. */
async function passwordKey(passphraseBytes: Buffer, p2s: Buffer, p2c: number): Promise<Buffer> {
  return await derive(passphraseBytes, Buffer.concat([Buffer.from(PBES2), Buffer.of(0), p2s]), p2c, 32, "sha512");
}

function salt(p2s: unknown): Buffer {
  const bytes = typeof p2s === "string" ? decodeBase64url(p2s) : undefined;
  if (bytes !== undefined && bytes.length >= SALT.min && bytes.length <= SALT.max) return bytes;
  throw damagedLockedKey(`has a p2s that is not base64url of ${SALT.min} to ${SALT.max} bytes`);
}

function iterations(p2c: unknown): number {
  const { min, max } = ITERATIONS;
  if (typeof p2c === "number" && Number.isInteger(p2c) && p2c >= min && p2c <= max) return p2c;
  throw damagedLockedKey(`has a p2c that is not an integer from ${min} to ${max}`);
}
