// The bytes of a key file without what editors, shells and other systems put around them.

const UTF8_BOM = Buffer.of(0xef, 0xbb, 0xbf);

/** The file as UTF-8 without a byte order mark, and without JSON's quotes. Other bytes stay as they are. */
export function plainText(bytes: Buffer): Buffer {
  return unquoted(utf8(bytes));
}

/** What a JSON string holds: AWS's and Azure's CLI print one if they are asked for a single value. */
function unquoted(bytes: Buffer): Buffer {
  const text = bytes.toString("latin1").trim();
  if (!text.startsWith('"') || !text.endsWith('"')) return bytes;
  try {
    return Buffer.from(String(JSON.parse(bytes.toString())));
  } catch {
    return bytes;
  }
}

/** Windows writes UTF-16. */
function utf8(bytes: Buffer): Buffer {
  if (bytes.subarray(0, 3).equals(UTF8_BOM)) return bytes.subarray(3);
  const [first, second, third, fourth] = bytes;
  if (bytes.length % 2 !== 0 || first === undefined) return bytes;
  if (first === 0xff && second === 0xfe) return Buffer.from(bytes.toString("utf16le", 2));
  if (first === 0xfe && second === 0xff) return Buffer.from(swapped(bytes).toString("utf16le", 2));
  if (isAscii(first) && second === 0 && isAscii(third) && fourth === 0) return Buffer.from(bytes.toString("utf16le"));
  return bytes;
}

function isAscii(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 0x20 && byte < 0x7f;
}

function swapped(bytes: Buffer): Buffer {
  return Buffer.from(bytes).swap16();
}

/** The bytes of text that is base64 and nothing else, as in a Kubernetes secret; undefined if it is not. */
export function fromBase64(text: string): Buffer | undefined {
  const compact = text.replace(/\s+/g, "");
  if (compact.length < 16 || !/^[A-Za-z0-9+/]+={0,2}$/.test(compact)) return undefined;
  return Buffer.from(compact, "base64");
}
