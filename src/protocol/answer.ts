// The protocol: a request in, the answer's object out. Knows no transport.

import { LIMITS } from "../jwe/gate.ts";
import { open } from "../jwe/open.ts";
import { seal, tooMuch } from "../jwe/seal.ts";
import type { KeyStore } from "../keystore/keystore.ts";
import { requestedRecipients, type ProviderHints } from "./recipients.ts";
import type { Request } from "./request.ts";

/** What a request came to: the bytes of the one result. */
export type Answer = { readonly op: "keywrap"; readonly annotation: Buffer } | { readonly op: "keyunwrap"; readonly optsdata: Buffer };

/**
 * Answers one key provider request.
 *
 * @throws KeystoreError: an answer without a key would let the client stop trying, so there is none
 */
export async function answerRequest(request: Request, store: KeyStore, hints: ProviderHints): Promise<Answer> {
  if (request.op === "keyunwrap") return { op: "keyunwrap", optsdata: await open(request.annotation, store) };
  const recipients = [];
  const names = new Set(requestedRecipients(request.parameters, hints));
  if (names.size > 2 * LIMITS.recipients) throw tooMuch(`more than ${LIMITS.recipients} recipients`); // each by name and kid at most: a look-up may read the whole store
  for (const name of names) {
    recipients.push(await (name === undefined ? store.defaultRecipient() : store.recipient(name)));
  }
  return { op: "keywrap", annotation: await seal(request.optsdata, recipients) };
}

/** An answer as clients read it. @param encode how the transport writes bytes in JSON */
export function wireForm(answer: Answer, encode: (bytes: Buffer) => unknown): string {
  return JSON.stringify(answer.op === "keywrap" ? { keywrapresults: { annotation: encode(answer.annotation) } } : { keyunwrapresults: { optsdata: encode(answer.optsdata) } });
}
