// Strict base64: only the canonical spelling of the bytes is accepted (RFC 4648, sections 4, 5 and 3.5).

/** The bytes of padded standard base64, as Go writes it; undefined for any other spelling. */
export function decodeBase64(text: string): Buffer | undefined {
  return decode(text, "base64");
}

/** The bytes of unpadded base64url (RFC 7515, section 2); undefined for any other spelling. */
export function decodeBase64url(text: string): Buffer | undefined {
  return decode(text, "base64url");
}

function decode(text: string, encoding: "base64" | "base64url"): Buffer | undefined {
  const bytes = Buffer.from(text, encoding);
  return bytes.toString(encoding) === text ? bytes : undefined;
}
