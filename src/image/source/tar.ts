// A strict reader of tar archives: plain files and folders, each with one name that every unpacker reads the same.
// What two unpackers could read differently is refused: skopeo must not see another image than we do.

import { fstatSync, readSync } from "node:fs";

const BLOCK = 512;
const WINDOW = 64 * 1024; // bytes read at once: headers and documents often stand together
const LIMITS = { entries: 100_000, name: 1024, depth: 32, extension: 1024 * 1024, padding: 64 * 1024 * 1024 } as const;
const MAX_OCTAL = 0o77777777777; // a header's size field; larger sizes need an extension
const USTAR = "ustar\x0000";
const GNU = "ustar  \0";
const ZEROS = Buffer.alloc(WINDOW);

// Tools decompress first what starts as gzip, bzip2, xz or zstd do, and would find another archive in it.
const LOOKS_UNCOMPRESSED = /^(?!BZh)[ -~][ -~\0]{3}/;

// pax records that change neither a name nor where an entry ends: times, owners, comments and extended attributes.
const HARMLESS_RECORD = /^([acm]time|[ug]id|[ug]name|comment|SCHILY\.(?!realsize).+|LIBARCHIVE\..+|RHT\..+)$/;

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

type Fail = (reason: string) => Error;

/** What extension headers say of the entry that follows them. */
interface Extensions {
  readonly start: number;
  readonly path: string | undefined;
  readonly size: number | undefined;
  /** Whether there was a pax header and a GNU long name. */
  readonly pax: boolean;
  readonly long: boolean;
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
  for (let at = 0; ; ) {
    const block = read(at, BLOCK);
    const zeros = block.length === BLOCK && isZero(block);
    if (at === 0 && !zeros && !(isHeader(block) && LOOKS_UNCOMPRESSED.test(block.toString("latin1", 0, 4)))) throw fail("is no tar file");
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
      if (stated > LIMITS.extension) throw fail(`has a header larger than ${LIMITS.extension / 1024} KiB`);
      const end = contentEnd(stated);
      const data = read(content, stated);
      if (type === "g") {
        // Unpackers disagree on which entries a global header is for: it may hold nothing that matters.
        if (extensions !== undefined || readRecords(data, fail).size > 0) throw fail("has a global header that tools read differently");
        register(headerName(block, fail), "global");
      } else {
        extensions = type === "x" ? withPax(extensions, data, at, fail) : withLongName(extensions, data, at, fail);
      }
      at = end;
      continue;
    }

    if (type !== "0" && type !== "\0" && type !== "5") throw fail(`has an entry of a kind that no OCI archive needs, ${rawName(block)}`);
    const kind = type === "5" ? "folder" : "file";
    const name = register(extensions?.path ?? headerName(block, fail), kind);
    const size = kind === "folder" ? 0 : fileSize(stated, extensions?.size, fail); // a folder's size says nothing about content (POSIX, pax)
    const end = contentEnd(size);
    entries.push({ name, kind, start: extensions?.start ?? at, content, size, end });
    if (entries.length > LIMITS.entries) throw fail(`has more than ${LIMITS.entries} entries`);
    extensions = undefined;
    at = end;
  }
}

/** Reads at a position; fewer bytes only at the end of the file. */
function windowed(fd: number): (position: number, length: number) => Buffer {
  const fill = (position: number, length: number): Buffer => {
    const bytes = Buffer.alloc(length);
    let filled = 0;
    for (let count = -1; filled < length && count !== 0; filled += count) count = readSync(fd, bytes, filled, length - filled, position + filled);
    return bytes.subarray(0, filled);
  };
  let start = 0;
  let window: Buffer = Buffer.alloc(0);
  return (position, length) => {
    if (length > WINDOW) return fill(position, length);
    if (position < start || position + length > start + window.length) [start, window] = [position, fill(position, WINDOW)];
    return window.subarray(position - start, position - start + length);
  };
}

/** Whether these bytes, of which there are no more than a window's, are all zero. */
function isZero(bytes: Buffer): boolean {
  return bytes.equals(ZEROS.subarray(0, bytes.length));
}

/** Two blocks of zeros end an archive. Whatever else follows would be read by some tools only. */
function checkPadding(read: (position: number, length: number) => Buffer, start: number, length: number, fail: Fail): void {
  if (length < start + 2 * BLOCK) throw fail("is cut off");
  if (length - start > LIMITS.padding) throw fail(`has more than ${LIMITS.padding / 1024 / 1024} MiB after its end`);
  for (let at = start; at < length; at += WINDOW) {
    if (!isZero(read(at, WINDOW))) throw fail("has something after its end, which some tools would read");
  }
}

/** Whether a block is a header of the formats that are written today. */
function isHeader(block: Buffer): boolean {
  if (block.length < BLOCK) return false;
  let sum = 8 * 0x20; // the checksum's own field counts as spaces
  for (let at = 0; at < BLOCK; at++) if (at < 148 || at >= 156) sum += block[at] ?? 0;
  const magic = block.toString("latin1", 257, 265);
  return numberField(block.subarray(148, 156)) === sum && (magic === USTAR || magic === GNU);
}

/** An octal number, or a positive base-256 one. */
function numberField(field: Buffer): number | undefined {
  if (field[0] === 0x80 && field.length === 12) {
    const value = field.readBigUInt64BE(4);
    return field.readUIntBE(1, 3) === 0 && value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : undefined;
  }
  const digits = /^ *([0-7]+)[ \0]*$/.exec(field.toString("latin1"))?.[1];
  return digits === undefined ? undefined : Number.parseInt(digits, 8);
}

/** The name in a header. ustar has a prefix; in GNU's format some tools read one where others see times. */
function headerName(block: Buffer, fail: Fail): string {
  const ustar = block.toString("latin1", 257, 265) === USTAR;
  const [name, prefix] = [textField(block.subarray(0, 100)), ustar ? textField(block.subarray(345, 500)) : ""];
  const rest = block.subarray(ustar ? 500 : 345);
  if (name === undefined || prefix === undefined || !isZero(rest)) throw ambiguous(rawName(block), fail);
  return prefix === "" ? name : `${prefix}/${name}`;
}

/** For messages. */
function rawName(block: Buffer): string {
  return block.toString("latin1", 0, 100).replace(/\0.*$/s, "");
}

/** Text up to the first NUL, after which there are only more; undefined where something else follows. */
function textField(field: Buffer): string | undefined {
  return /^([^\0]*)\0*$/.exec(field.toString("latin1"))?.[1];
}

function withLongName(before: Extensions | undefined, data: Buffer, at: number, fail: Fail): Extensions {
  const path = textField(data);
  if (path === undefined || before?.long === true || before?.path !== undefined) throw ambiguous(before?.path ?? path ?? "", fail);
  return { start: before?.start ?? at, path, size: before?.size, pax: before?.pax ?? false, long: true };
}

function withPax(before: Extensions | undefined, data: Buffer, at: number, fail: Fail): Extensions {
  const records = readRecords(data, fail);
  const [path, size] = [records.get("path"), records.get("size")];
  if (before?.pax === true || (before?.long === true && path !== undefined)) throw ambiguous(before.path ?? path ?? "", fail);
  if (size !== undefined && !/^\d{1,15}$/.test(size)) throw fail("has a size that cannot be read");
  return { start: before?.start ?? at, path: path ?? before?.path, size: size === undefined ? undefined : Number(size), pax: true, long: before?.long ?? false };
}

/** The `path` and `size` of a pax header. Harmless records are left out, all others refused. */
function readRecords(data: Buffer, fail: Fail): Map<string, string> {
  const records = new Map<string, string>();
  const keywords = new Set<string>();
  for (let at = 0; at < data.length; ) {
    const [start = "", digits = ""] = /^([1-9]\d{0,6}) /.exec(data.toString("latin1", at, at + 8)) ?? [];
    const end = at + Number(digits);
    const record = data.toString("latin1", at + start.length, end - 1);
    const equals = record.indexOf("=");
    const keyword = record.slice(0, equals);
    if (start === "" || end > data.length || data[end - 1] !== 0x0a || equals < 1) throw fail("has a pax header that cannot be read");
    const matters = keyword === "path" || keyword === "size";
    if (keywords.has(keyword) || !(matters || HARMLESS_RECORD.test(keyword))) throw fail(`has a pax header that tools read differently, ${keyword.slice(0, 64)}`);
    keywords.add(keyword);
    if (matters) records.set(keyword, record.slice(equals + 1));
    at = end;
  }
  return records;
}

/** A pax header may say a size that the header has no room for, never another one. */
function fileSize(stated: number, pax: number | undefined, fail: Fail): number {
  if (pax !== undefined && pax !== stated && pax <= MAX_OCTAL) throw fail("has a file with two sizes");
  return pax ?? stated;
}

/** Gives each name in its normal form, and refuses one that is there already or that tools or file systems read differently. */
function uniqueNames(fail: Fail): (raw: string, kind: "file" | "folder" | "global") => string {
  const kinds = new Map<string, "file" | "folder" | "global">();
  return (raw, kind) => {
    // Printable ASCII, without what separates folders or streams on some systems; a file ends in a name of its own.
    if (raw.length > LIMITS.name || !/^[ -~]+$/.test(raw) || /[\\:]/.test(raw) || (kind !== "folder" && /(^|\/)\.{0,2}$/.test(raw))) throw ambiguous(raw, fail);
    const parts: string[] = [];
    for (const part of raw.split("/")) {
      if (part === "..") {
        if (parts.pop() === undefined) throw ambiguous(raw, fail);
      } else if (part !== "" && part !== ".") parts.push(part);
    }
    if (parts.length > LIMITS.depth) throw fail(`has folders nested deeper than ${LIMITS.depth}`);
    const name = parts.join("/");
    if (name === "") return name;
    const place = name.toLowerCase(); // on some file systems one name
    const before = kinds.get(place);
    if (before !== undefined && (before !== kind || kind === "file")) throw fail(`has two entries of one name, ${name}`);
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

function ambiguous(name: string, fail: Fail): Error {
  return fail(`has a name that tools read differently, ${JSON.stringify(name.slice(0, 64))}`);
}
