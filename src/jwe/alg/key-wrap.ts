// AES Key Wrap and ConcatKDF, which node-jose gets wrong (../README.md).

import { createCipheriv, createDecipheriv, hash } from "node:crypto";

/** Bytes that wrapping adds to a CEK. */
export const WRAP_OVERHEAD = 8;

const DEFAULT_IV = Buffer.alloc(8, 0xa6); // RFC 3394, section 2.2.3.1

/** Wraps a CEK (RFC 3394, section 2.2.1): 8 bytes longer than the CEK. The key has 16, 24 or 32 bytes. */
export function aesKeyWrap(kek: Buffer, cek: Buffer): Buffer {
  const cipher = createCipheriv(`id-aes${kek.length * 8}-wrap`, kek, DEFAULT_IV);
  return Buffer.concat([cipher.update(cek), cipher.final()]);
}

/** Unwraps a CEK (RFC 3394, section 2.2.2). @throws if the integrity check fails */
export function aesKeyUnwrap(kek: Buffer, encryptedKey: Buffer): Buffer {
  const decipher = createDecipheriv(`id-aes${kek.length * 8}-wrap`, kek, DEFAULT_IV);
  return Buffer.concat([decipher.update(encryptedKey), decipher.final()]);
}

/**
 * ConcatKDF with SHA-256 (RFC 7518, section 4.6.2; NIST SP 800-56A, section 5.8.1), at most 256 bits: one round.
 *
 * @param z the shared secret
 * @param alg the header's `alg`: the AlgorithmID for ECDH-ES+A*KW
 * @param length bytes of the key-encryption key: 16, 24 or 32
 */
export function concatKdf(z: Buffer, alg: string, apu: Buffer, apv: Buffer, length: number): Buffer {
  const data = [Buffer.from(alg, "ascii"), apu, apv].flatMap((datum) => [uint32(datum.length), datum]);
  return hash("sha256", Buffer.concat([uint32(1), z, ...data, uint32(length * 8)]), "buffer").subarray(0, length);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
