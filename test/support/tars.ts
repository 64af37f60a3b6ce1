// Tar archives written by hand, block by block: also those that no tool writes.

/** An entry, or an extension header. */
export interface TarPart {
  readonly name: string;
  /** The type's byte: `0` is a file. */
  readonly type?: string;
  readonly content?: string | Buffer;
  /** What the header says, where that is not the content's length. */
  readonly size?: number | Buffer;
  readonly magic?: string;
  readonly prefix?: string;
  /** Changes the header before its checksum is made. */
  readonly patch?: (header: Buffer) => void;
}

export const GNU = "ustar  \0";
export const TAR_END = Buffer.alloc(1024);

function octal(number: number): string {
  return number.toString(8).padStart(7, "0");
}

/** A header and its content, padded to blocks. */
export function tarPart({
  name,
  type = "0",
  content = "",
  size,
  magic = "ustar\x0000",
  prefix = "",
  patch,
}: TarPart): Buffer {
  const bytes = Buffer.from(content);
  const header = Buffer.alloc(512);
  header.write(name, 0, 100);
  for (const [at, text] of [
    [100, "0000644"],
    [108, octal(process.getuid?.() ?? 0)], // skopeo gives the files to whom the archive says
    [116, octal(process.getgid?.() ?? 0)],
    [136, "00000000000"],
  ] as const)
    header.write(text, at);
  if (Buffer.isBuffer(size)) size.copy(header, 124);
  else header.write((size ?? bytes.length).toString(8).padStart(11, "0"), 124);
  header.write(type, 156);
  header.write(magic, 257, "latin1");
  header.write(prefix, 345, 155);
  patch?.(header);
  writeChecksum(header);
  return Buffer.concat([header, bytes, Buffer.alloc((512 - (bytes.length % 512)) % 512)]);
}

/** A pax header for the entry that follows. */
export function pax(records: Readonly<Record<string, string>>, type = "x", name = "PaxHeaders/x"): Buffer {
  return tarPart({
    name,
    type,
    content: Object.entries(records)
      .map(([keyword, value]) => paxRecord(keyword, value))
      .join(""),
  });
}

/** GNU's long name for the entry that follows. */
export function longName(name: string): Buffer {
  return tarPart({ name: "././@LongLink", type: "L", magic: GNU, content: `${name}\0` });
}

function paxRecord(keyword: string, value: string): string {
  const rest = ` ${keyword}=${value}\n`;
  let length = rest.length;
  while (length !== String(length).length + rest.length) length = String(length).length + rest.length;
  return `${length}${rest}`;
}

/** A size in base 256. */
export function base256(size: number, first = 0x80): Buffer {
  const field = Buffer.alloc(12);
  field.writeUIntBE(size, 6, 6);
  field[0] = first;
  return field;
}

/** Writes a header's checksum into it, its own field counted as spaces. */
export function writeChecksum(header: Buffer): void {
  header.write("        ", 148);
  header.write(
    `${header
      .reduce((sum, byte) => sum + byte, 0)
      .toString(8)
      .padStart(6, "0")}\0 `,
    148,
  );
}
