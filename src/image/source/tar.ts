// A strict reader of tar archives: plain files and folders, each with one name that every unpacker reads the same.
// What two unpackers could read differently is refused: skopeo must not see another image than we do.

import { fstatSync, readSync } from "node:fs";
import type { Fail } from "../../json.ts";
import {
  ambiguous,
  BLOCK,
  fileSize,
  headerName,
  isHeader,
  isZero,
  numberField,
  rawName,
  readRecords,
  WINDOW,
  withLongName,
  withPax,
  type Extensions,
} from "./tar-header.ts";

const TAR_LIMITS = {
  entries: 100_000,
  name: 1024,
  depth: 32,
  extension: 1024 * 1024,
  padding: 64 * 1024 * 1024,
} as const;

// Tools decompress first what starts as gzip, bzip2, xz or zstd do, and would find another archive in it.
const LOOKS_UNCOMPRESSED = /^(?!BZh)[ -~][ -~\0]{3}/;

/** A file or a folder of an archive; positions are in bytes. */
export interface TarEntry {
  /** Normalized: no leading slash, no `.` or `..`; empty for the archive's own root folder. */
  readonly name: string;
  readonly kind: "file" | "folder";
  /** Where its first header starts, with extension headers. */
  readonly start: number;
  /** Where its content starts. */
  readonly content: number;
  readonly size: number;
  /** Where the next entry starts. */
  readonly end: number;
}

/**
 * Reads the structure of the archive that a descriptor has open; contents are skipped.
 *
 * @param fail makes the error to throw from a few words such as "is cut off"
 */
export function readTar(fd: number, fail: Fail): TarEntry[] {
  const read = windowed(fd);
  const length = fstatSync(fd).size;
  const entries: TarEntry[] = [];
  const register = uniqueNames(fail);
  let extensions: Extensions | undefined;
  for (let at = 0; ;) {
    const block = read(at, BLOCK);
    const zeros = block.length === BLOCK && isZero(block);
    if (at === 0 && !zeros && !isFirstHeader(block)) throw fail("is no tar file");
    if (block.length < BLOCK) throw fail("is cut off");
    if (zeros) {
      if (extensions !== undefined) throw fail("is cut off");
      checkPadding(read, at, length, fail);
      return entries;
    }
    if (!isHeader(block)) throw fail(`is damaged at byte ${at}`);
    const type = block.toString("latin1", 156, 157);
    const stated = numberField(block.subarray(124, 136));
    if (stated === undefined) throw fail(`has a size that cannot be read, at byte ${at}`);
    const content = at + BLOCK;
    const contentEnd = (size: number): number => {
      const end = content + Math.ceil(size / BLOCK) * BLOCK;
      if (end > length) throw fail("is cut off");
      return end;
    };

    if (type === "x" || type === "L" || type === "g") {
      if (stated > TAR_LIMITS.extension) throw fail(`has a header larger than ${TAR_LIMITS.extension / 1024} KiB`);
      const end = contentEnd(stated);
      const data = read(content, stated);
      if (type === "g") {
        // Unpackers disagree on which entries a global header is for: it may hold nothing that matters.
        const matters = readRecords(data, fail).size > 0;
        if (extensions !== undefined || matters) throw fail("has a global header that tools read differently");
        register(headerName(block, fail), "global");
      } else {
        extensions = type === "x" ? withPax(extensions, data, at, fail) : withLongName(extensions, data, at, fail);
      }
      at = end;
      continue;
    }

    if (type !== "0" && type !== "\0" && type !== "5") {
      throw fail(`has an entry of a kind that no OCI archive needs, ${rawName(block)}`);
    }
    const kind = type === "5" ? "folder" : "file";
    const name = register(extensions?.path ?? headerName(block, fail), kind);
    // A folder's size says nothing about content (POSIX, pax).
    const size = kind === "folder" ? 0 : fileSize(stated, extensions?.size, fail);
    const end = contentEnd(size);
    entries.push({ name, kind, start: extensions?.start ?? at, content, size, end });
    if (entries.length > TAR_LIMITS.entries) throw fail(`has more than ${TAR_LIMITS.entries} entries`);
    extensions = undefined;
    at = end;
  }
}

function isFirstHeader(block: Buffer): boolean {
  return isHeader(block) && LOOKS_UNCOMPRESSED.test(block.toString("latin1", 0, 4));
}

type Read = (position: number, length: number) => Buffer;

/** Reads at a position; fewer bytes only at the end of the file. */
function windowed(fd: number): Read {
  const fill = (position: number, length: number): Buffer => {
    const bytes = Buffer.alloc(length);
    let filled = 0;
    for (let count = -1; filled < length && count !== 0; filled += count) {
      count = readSync(fd, bytes, filled, length - filled, position + filled);
    }
    return bytes.subarray(0, filled);
  };
  let start = 0;
  let window: Buffer = Buffer.alloc(0);
  return (position, length) => {
    if (length > WINDOW) return fill(position, length);
    const outside = position < start || position + length > start + window.length;
    if (outside) [start, window] = [position, fill(position, WINDOW)];
    return window.subarray(position - start, position - start + length);
  };
}

/** Two blocks of zeros end an archive. Whatever else follows would be read by some tools only. */
function checkPadding(read: Read, start: number, length: number, fail: Fail): void {
  if (length < start + 2 * BLOCK) throw fail("is cut off");
  if (length - start > TAR_LIMITS.padding)
    throw fail(`has more than ${TAR_LIMITS.padding / 1024 / 1024} MiB after its end`);
  for (let at = start; at < length; at += WINDOW) {
    if (!isZero(read(at, WINDOW))) throw fail("has something after its end, which some tools would read");
  }
}

/** Gives each name in its normal form; refuses a second one, and one that tools or file systems read differently. */
function uniqueNames(fail: Fail): (raw: string, kind: "file" | "folder" | "global") => string {
  const kinds = new Map<string, "file" | "folder" | "global">();
  return (raw, kind) => {
    // Printable ASCII, without what separates folders or streams on some systems; a file's last part is a name.
    const plain = raw.length <= TAR_LIMITS.name && /^[ -~]+$/.test(raw) && !/[\\:]/.test(raw);
    if (!plain || (kind !== "folder" && /(^|\/)\.{0,2}$/.test(raw))) throw ambiguous(raw, fail);
    const parts: string[] = [];
    for (const part of raw.split("/")) {
      if (part === "..") {
        if (parts.pop() === undefined) throw ambiguous(raw, fail);
      } else if (part !== "" && part !== ".") parts.push(part);
    }
    if (parts.length > TAR_LIMITS.depth) throw fail(`has folders nested deeper than ${TAR_LIMITS.depth}`);
    const name = parts.join("/");
    if (name === "") return name;
    const place = name.toLowerCase(); // on some file systems one name
    const before = kinds.get(place);
    if (before !== undefined && (before !== kind || kind === "file")) {
      throw fail(`has two entries of one name, ${name}`);
    }
    kinds.set(place, kind);
    for (let slash = place.lastIndexOf("/"); slash !== -1; slash = place.lastIndexOf("/", slash - 1)) {
      const parent = kinds.get(place.slice(0, slash));
      if (parent === "folder") break;
      if (parent !== undefined) throw fail(`has a file in the place of a folder, ${name}`);
      kinds.set(place.slice(0, slash), "folder");
    }
    return name;
  };
}
