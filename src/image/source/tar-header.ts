// The headers of tar archives: ustar and GNU, with pax's and GNU's extension headers for what they have no room for.

import type { Fail } from "../../json.ts";

export const BLOCK = 512;
/** Bytes read at once: headers and documents often stand together. */
export const WINDOW = 64 * 1024;

const MAX_OCTAL = 0o77777777777; // a header's size field; larger sizes need an extension
const USTAR = "ustar\x0000";
const GNU = "ustar  \0";
const ZEROS = Buffer.alloc(WINDOW);

// pax records that change neither a name nor where an entry ends: times, owners, comments and extended attributes.
const HARMLESS_RECORD = /^([acm]time|[ug]id|[ug]name|comment|SCHILY\.(?!realsize).+|LIBARCHIVE\..+|RHT\..+)$/;

/** What extension headers say of the entry that follows them. */
export interface Extensions {
  readonly start: number;
  readonly path: string | undefined;
  readonly size: number | undefined;
  /** Whether there was a pax header and a GNU long name. */
  readonly pax: boolean;
  readonly long: boolean;
}

/** Whether all these bytes, a window's at most, are zero. */
export function isZero(bytes: Buffer): boolean {
  return bytes.equals(ZEROS.subarray(0, bytes.length));
}

/** Whether a block is a header of the formats that are written today. */
export function isHeader(block: Buffer): boolean {
  if (block.length < BLOCK) return false;
  let sum = 8 * 0x20; // the checksum's own field counts as spaces
  for (let at = 0; at < BLOCK; at++) if (at < 148 || at >= 156) sum += block[at] ?? 0;
  const magic = block.toString("latin1", 257, 265);
  return numberField(block.subarray(148, 156)) === sum && (magic === USTAR || magic === GNU);
}

/** An octal number, or a positive base-256 one. */
export function numberField(field: Buffer): number | undefined {
  if (field[0] === 0x80 && field.length === 12) {
    const value = field.readBigUInt64BE(4);
    return field.readUIntBE(1, 3) === 0 && value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : undefined;
  }
  const digits = /^ *([0-7]+)[ \0]*$/.exec(field.toString("latin1"))?.[1];
  return digits === undefined ? undefined : Number.parseInt(digits, 8);
}

/** The name in a header. ustar has a prefix; in GNU's format some tools read one where others see times. */
export function headerName(block: Buffer, fail: Fail): string {
  const ustar = block.toString("latin1", 257, 265) === USTAR;
  const [name, prefix] = [textField(block.subarray(0, 100)), ustar ? textField(block.subarray(345, 500)) : ""];
  const rest = block.subarray(ustar ? 500 : 345);
  if (name === undefined || prefix === undefined || !isZero(rest)) throw ambiguous(rawName(block), fail);
  return prefix === "" ? name : `${prefix}/${name}`;
}

/** The bytes of a header's name, for messages. */
export function rawName(block: Buffer): string {
  return block.toString("latin1", 0, 100).replace(/\0.*$/s, "");
}

/** Text up to the first NUL; undefined if anything but NULs follows. */
function textField(field: Buffer): string | undefined {
  return /^([^\0]*)\0*$/.exec(field.toString("latin1"))?.[1];
}

/** What is known of an entry after a GNU long name, whose header starts at `at`. */
export function withLongName(before: Extensions | undefined, data: Buffer, at: number, fail: Fail): Extensions {
  const path = textField(data);
  if (path === undefined || before?.long === true || before?.path !== undefined) {
    throw ambiguous(before?.path ?? path ?? "", fail);
  }
  return { start: before?.start ?? at, path, size: before?.size, pax: before?.pax ?? false, long: true };
}

/** What is known of an entry after a pax header that starts at `at`. */
export function withPax(before: Extensions | undefined, data: Buffer, at: number, fail: Fail): Extensions {
  const records = readRecords(data, fail);
  const [path, digits] = [records.get("path"), records.get("size")];
  if (before?.pax === true || (before?.long === true && path !== undefined)) {
    throw ambiguous(before.path ?? path ?? "", fail);
  }
  if (digits !== undefined && !/^\d{1,15}$/.test(digits)) throw fail("has a size that cannot be read");
  const size = digits === undefined ? undefined : Number(digits);
  return { start: before?.start ?? at, path: path ?? before?.path, size, pax: true, long: before?.long ?? false };
}

/** The `path` and `size` of a pax header. Harmless records are left out, all others refused. */
export function readRecords(data: Buffer, fail: Fail): Map<string, string> {
  const records = new Map<string, string>();
  const keywords = new Set<string>();
  for (let at = 0; at < data.length;) {
    const [start = "", digits = ""] = /^([1-9]\d{0,6}) /.exec(data.toString("latin1", at, at + 8)) ?? [];
    const end = at + Number(digits);
    const record = data.toString("latin1", at + start.length, end - 1);
    const equals = record.indexOf("=");
    const keyword = record.slice(0, equals);
    if (start === "" || end > data.length || data[end - 1] !== 0x0a || equals < 1) {
      throw fail("has a pax header that cannot be read");
    }
    const matters = keyword === "path" || keyword === "size";
    if (keywords.has(keyword) || !(matters || HARMLESS_RECORD.test(keyword))) {
      throw fail(`has a pax header that tools read differently, ${keyword.slice(0, 64)}`);
    }
    keywords.add(keyword);
    if (matters) records.set(keyword, record.slice(equals + 1));
    at = end;
  }
  return records;
}

/** A pax header may say a size that the header has no room for, never another one. */
export function fileSize(stated: number, pax: number | undefined, fail: Fail): number {
  if (pax !== undefined && pax !== stated && pax <= MAX_OCTAL) throw fail("has a file with two sizes");
  return pax ?? stated;
}

/** The error for a name that unpackers read differently. */
export function ambiguous(name: string, fail: Fail): Error {
  return fail(`has a name that tools read differently, ${JSON.stringify(name.slice(0, 64))}`);
}
