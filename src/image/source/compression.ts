// Compressed archives: gzip and zstd are read and written, and others are named. An archive is unpacked into a temporary
// file, because its parts are read in any order.

import { randomBytes } from "node:crypto";
import { fstatSync, openSync, readSync, rmSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";
import { Readable, type Transform } from "node:stream";
import { createGunzip, createGzip, createZstdCompress, createZstdDecompress } from "node:zlib";
import { errorCode, imageError } from "../../errors.ts";
import { damagedImage } from "../documents.ts";

const CHUNK = 256 * 1024;
const GIB = 1024 ** 3;

/** How far an archive may unpack: always to `bytes`, and to `times` its size. `parts` are the streams in a row. */
export const UNPACK_LIMITS = { bytes: GIB, times: 20, parts: 10_000 } as const;
type Limits = { readonly [name in keyof typeof UNPACK_LIMITS]: number };

/** A way to compress that is read and written. */
export interface Compression {
  readonly name: string;
  readonly compress: () => Transform;
  readonly decompress: () => Transform & { readonly bytesWritten: number };
}

const GZIP: Compression = {
  name: "gzip",
  compress: () => createGzip({ chunkSize: CHUNK }),
  decompress: () => createGunzip({ chunkSize: CHUNK }),
};
const ZSTD: Compression = {
  name: "zstd",
  compress: () => createZstdCompress({ chunkSize: CHUNK }),
  decompress: () => createZstdDecompress({ chunkSize: CHUNK }),
};

/** What a compressed file starts with, in hexadecimal, and the way to read it, or the program that does. */
const MAGICS: readonly (readonly [magic: RegExp, compression: Compression | string])[] = [
  [/^1f8b/, GZIP],
  [/^28b52ffd/, ZSTD],
  [/^5.2a4d18/, ZSTD], // a skippable frame, as pzstd writes it
  [/^425a683/, "bzip2"],
  [/^fd377a585a00/, "xz"],
];

/**
 * How the file that a descriptor has open is compressed, from a position on; undefined if it is not.
 *
 * @throws KeystoreError `image` if it is in a way that is not read here
 */
export function compressionOf(fd: number, file: string, position = 0): Compression | undefined {
  const start = Buffer.alloc(6);
  const text = start.toString("hex", 0, readSync(fd, start, 0, start.length, position));
  const known = MAGICS.find(([magic]) => magic.test(text))?.[1];
  if (typeof known !== "string") return known;
  throw imageError(`${file} is compressed with ${known}, which is not read here`, `decompress it first: ${known} -d`);
}

/**
 * Unpacks the compressed file that a descriptor has open into a temporary file, which has no name any more.
 *
 * @returns its descriptor
 * @throws KeystoreError `image` if it is damaged or beyond a limit
 */
export async function unpack(
  source: number,
  file: string,
  compression: Compression,
  limits: Limits = UNPACK_LIMITS,
): Promise<number> {
  const { size } = fstatSync(source);
  const limit = Math.max(limits.bytes, limits.times * size);
  const fd = temporaryFile(dirname(file));
  let [at, parts, length] = [0, 0, 0];
  while (at < size && !(at > 0 && isZeroFrom(source, at))) {
    if (compressionOf(source, file, at) !== compression) throw damagedImage(file, "has something after its end");
    if (++parts > limits.parts) throw damagedImage(file, `has more than ${limits.parts} compressed streams in a row`);
    // A zstd stream ends with its first frame. Another one may follow, and so may another gzip stream.
    const decompressor = compression.decompress();
    const input = Readable.from(chunksOf(source, at));
    input.on("error", (error) => decompressor.destroy(error)).pipe(decompressor);
    try {
      for await (const chunk of decompressor as AsyncIterable<Buffer>) {
        if ((length += chunk.length) > limit) throw tooLong(file, limit, compression);
        for (let done = 0; done < chunk.length;) done += writeSync(fd, chunk, done);
      }
    } catch (error) {
      throw damage(file, error) ?? error;
    } finally {
      input.destroy();
    }
    at += decompressor.bytesWritten;
  }
  return fd;
}

/** What a file has between two positions. It is read synchronously: no read is under way when the file is closed. */
export function* chunksOf(fd: number, start: number, end = Number.MAX_SAFE_INTEGER): Generator<Buffer> {
  for (let at = start; at < end;) {
    const chunk = Buffer.allocUnsafe(Math.min(CHUNK, end - at));
    const count = readSync(fd, chunk, 0, chunk.length, at);
    if (count === 0) return;
    yield chunk.subarray(0, count);
    at += count;
  }
}

/** Whether only zeros follow: tapes and block devices pad with them. */
function isZeroFrom(fd: number, position: number): boolean {
  for (const chunk of chunksOf(fd, position)) if (chunk.some((byte) => byte !== 0)) return false;
  return true;
}

function tooLong(file: string, limit: number, { name }: Compression): Error {
  const message = `${file} decompresses to more than ${Math.floor(limit / 1024 / 1024)} MiB, the limit for its size`;
  return imageError(message, `if you trust it, decompress it yourself: ${name} -d`);
}

function damage(file: string, error: unknown): Error | undefined {
  const code = errorCode(error);
  if (code === "Z_BUF_ERROR") return damagedImage(file, "is cut off");
  return code?.startsWith("Z_") === true || code?.startsWith("ZSTD_") === true
    ? damagedImage(file, `cannot be decompressed (${code})`)
    : undefined;
}

/** Where clients unpack archives, too: /tmp is often in memory. */
function temporaryFile(beside: string): number {
  const name = `.ocicrypt-keystore-${randomBytes(8).toString("hex")}`;
  for (const folder of ["/var/tmp", "/tmp"]) {
    try {
      return withoutName(join(folder, name));
    } catch {
      // the next one
    }
  }
  return withoutName(join(beside, name));
}

function withoutName(path: string): number {
  const fd = openSync(path, "wx+", 0o600);
  rmSync(path);
  return fd;
}
