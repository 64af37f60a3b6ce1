// A private key in memory, as its file in the store has it: its operations are node:crypto's.

import { familyFor } from "../jwe/alg/algorithms.ts";
import type { PrivateKey } from "../jwe/key.ts";
import type { PrivateJwk } from "../jwk/jwk.ts";

/** The private key of a checked JWK. */
export function fileKey(kid: string, jwk: PrivateJwk): PrivateKey {
  return { kid, jwk, perform: async (ask) => familyFor(jwk).perform(jwk, ask) };
}
