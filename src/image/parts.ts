// The parts of a key annotation: each is a layer's key, wrapped for some recipients as a JWE.

import { imageError, KeystoreError, printable } from "../errors.ts";
import { isObject, member } from "../json.ts";
import { ENCRYPTIONS, familyOf } from "../jwe/alg/algorithms.ts";
import { parseJwe } from "../jwe/gate.ts";
import type { PrivateKeys } from "../jwe/key.ts";
import { open } from "../jwe/open.ts";

/** Whom one part is for, as its header says. */
export interface PartRecipient {
  readonly alg: string;
  readonly kid: string | undefined;
}

/** The recipients of a part; none if it is not a JWE that we can read. */
export function partRecipients(part: Buffer): PartRecipient[] {
  try {
    return parseJwe(part).recipients.map(({ header }) => {
      const [alg, kid] = [member(header, "alg"), member(header, "kid")];
      return { alg: printable(String(alg), 32), kid: typeof kid === "string" ? kid : undefined };
    });
  } catch (error) {
    if (error instanceof KeystoreError) return [];
    throw error;
  }
}

/** Whether a part says of one recipient at least for whom it is and how: an alg of ours with all that it needs. */
export function tellsRecipient(part: Buffer): boolean {
  try {
    const { enc, recipients } = parseJwe(part);
    return recipients.some(({ header, encryptedKey }) => {
      const [alg, kid] = [member(header, "alg"), member(header, "kid")];
      const named = kid === undefined || (typeof kid === "string" && kid !== "");
      const ask =
        typeof alg === "string" ? familyOf(alg)?.read(alg, header, encryptedKey, ENCRYPTIONS[enc].cek) : undefined;
      return named && ask !== undefined && encryptedKey.length > 0;
    });
  } catch (error) {
    if (error instanceof KeystoreError) return false;
    throw error;
  }
}

/** Whether a part tells the kid of every recipient. */
export function namesAll(part: Buffer): boolean {
  const recipients = partRecipients(part);
  return recipients.length > 0 && recipients.every(({ kid }) => kid !== undefined);
}

/** What the first part holds that one of the keys opens; undefined if none opens any. */
export async function openAny(parts: readonly Buffer[], keys: PrivateKeys): Promise<Buffer | undefined> {
  for (const part of parts) {
    try {
      return await open(part, keys);
    } catch (error) {
      if (!(error instanceof KeystoreError)) throw error;
    }
  }
  return undefined;
}

/**
 * The parts without some recipients. Removing a recipient needs no private key: a JWE does not authenticate its
 * recipients.
 *
 * @throws KeystoreError `image` if a part does not tell the kid of every recipient
 */
export function withoutRecipients(parts: readonly Buffer[], kids: ReadonlySet<string>): Buffer[] {
  if (kids.size === 0) return [...parts];
  return parts.flatMap((part) => {
    if (!namesAll(part)) {
      const message = "a recipient without a readable kid cannot be told from the one to remove";
      throw imageError(message, "name those who are to remain with --to");
    }
    if (!partRecipients(part).some(({ kid }) => kid !== undefined && kids.has(kid))) return [part];
    const { protected: protectedHeader, aad, iv, ciphertext, tag, recipients } = parseJwe(part);
    const rest = recipients.filter(({ header }) => !kids.has(String(member(header, "kid"))));
    if (rest.length === 0) return [];
    // Only the protected header is shared; every other member of a header becomes the recipient's own.
    const shared = protectedNames(protectedHeader);
    const jwe = {
      ...(protectedHeader === "" ? {} : { protected: protectedHeader }),
      recipients: rest.map(({ header, encryptedKey }) => ({
        header: Object.fromEntries(Object.entries(header).filter(([name]) => !shared.includes(name))),
        encrypted_key: encryptedKey.toString("base64url"),
      })),
      ...(aad === undefined ? {} : { aad }),
      iv,
      ciphertext,
      tag,
    };
    return [Buffer.from(JSON.stringify(jwe))];
  });
}

function protectedNames(protectedHeader: string): string[] {
  if (protectedHeader === "") return [];
  const header: unknown = JSON.parse(Buffer.from(protectedHeader, "base64url").toString());
  return isObject(header) ? Object.keys(header) : [];
}
