// The protocol: it takes a request and gives the answer's object. It knows no transport.

import { ANNOTATION_LIMITS } from "../jwe/gate.ts";
import { open } from "../jwe/open.ts";
import { seal, tooMuch } from "../jwe/seal.ts";
import type { KeyStore } from "../keystore/keystore.ts";
import { requestedRecipients, type ProviderHints } from "./recipients.ts";
import type { Request } from "./request.ts";

/** The answer to a request: the bytes of its result. */
export type Answer =
  | { readonly op: "keywrap"; readonly annotation: Buffer }
  | { readonly op: "keyunwrap"; readonly optsdata: Buffer };

/**
 * Answers one key provider request.
 *
 * @throws KeystoreError on any failure. An answer without a key would make the client stop trying other keys.
 */
export async function answerRequest(request: Request, store: KeyStore, hints: ProviderHints): Promise<Answer> {
  if (request.op === "keyunwrap") return { op: "keyunwrap", optsdata: await open(request.annotation, store) };
  const recipients = [];
  const names = new Set(requestedRecipients(request.parameters, hints));
  // A recipient may be named twice, by name and by kid. This limit comes first: one look-up may read the whole store.
  const { recipients: limit } = ANNOTATION_LIMITS;
  if (names.size > 2 * limit) throw tooMuch(`more than ${limit} recipients`);
  for (const name of names) {
    recipients.push(await (name === undefined ? store.defaultRecipient() : store.recipient(name)));
  }
  return { op: "keywrap", annotation: await seal(request.optsdata, recipients) };
}

/** An answer as clients read it. @param encode how the transport writes bytes in JSON */
export function wireForm(answer: Answer, encode: (bytes: Buffer) => unknown): string {
  const object =
    answer.op === "keywrap"
      ? { keywrapresults: { annotation: encode(answer.annotation) } }
      : { keyunwrapresults: { optsdata: encode(answer.optsdata) } };
  return JSON.stringify(object);
}
