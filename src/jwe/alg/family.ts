// What a family of key management algorithms is (RFC 7518, section 4.1): the interface that its modules implement.

import type { JsonObject } from "../../json.ts";
import type { Jwk, PrivateJwk } from "../../jwk/jwk.ts";

/** What a recipient asks of whoever has its private key: one private operation. Families add what theirs needs. */
export interface Ask {
  /** The recipient's `alg`. */
  readonly alg: string;
  readonly encryptedKey: Buffer;
}

/** A CEK wrapped for one key, with the header parameters that unwrapping it needs beside `alg`. */
export interface SealedCek {
  readonly parameters: { readonly epk?: object };
  readonly encryptedKey: Buffer;
}

/** The operation of a holder's command, as a holder file names it. */
export interface HolderOperation {
  readonly name: string;
  /** The only alg that it serves, undefined where it serves all of its family. */
  readonly alg: string | undefined;
}

/** The algorithms of one kind of private operation. Everything that depends on the `alg` asks its module. */
export interface Family<Key extends Jwk = Jwk, Private extends PrivateJwk = PrivateJwk, A extends Ask = Ask> {
  readonly algs: readonly string[];
  /** Whether ocicrypt's built-in `jwe` (go-jose) opens a JWE that has such a recipient: it refuses the whole JWE for one that it does not know. */
  readonly builtIn: boolean;
  /** What holders can be asked for. */
  readonly operations: readonly HolderOperation[];
  /** Whether keys of this one's type are for this family. */
  serves(jwk: Jwk): jwk is Key;
  /** The alg that wraps for a key that names none itself; undefined for a symmetric key without its secret. */
  natural(jwk: Key): string | undefined;
  /** Wraps a CEK for a key that this family serves. */
  seal(alg: string, jwk: Key, cek: Buffer): SealedCek;
  /** Reads a recipient's header. @param cekBytes the length of the CEK @returns undefined if it is not as its alg asks */
  read(alg: string, header: JsonObject, encryptedKey: Buffer, cekBytes: number): A | undefined;
  /** Whether a key of this family could be the one that was wrapped for: its curve, its size. */
  fits(jwk: Key, ask: A): boolean;
  /** Does the private operation with a key in memory. @throws if it cannot, whatever was wrong */
  perform(jwk: Private, ask: A): Buffer;
  /** The same operation for a holder's command: its name, its standard input, and how long the answer must be where that is known. */
  ofHolder(ask: A): { readonly name: string; readonly input: Buffer; readonly answerBytes?: number };
  /** The CEK, from what the private operation gave. @throws if it cannot be that */
  cek(result: Buffer, ask: A): Buffer;
}
