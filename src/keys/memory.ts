// A private key whose JWK is in memory: node:crypto does its operations.

import { familyFor } from "../jwe/alg/algorithms.ts";
import type { PrivateKey } from "../jwe/key.ts";
import type { PrivateJwk } from "../jwk/jwk.ts";

/** The private key of a checked JWK. */
export function memoryKey(kid: string, jwk: PrivateJwk): PrivateKey {
  return { kid, jwk, perform: async (wrapped) => familyFor(jwk).perform(jwk, wrapped) };
}
