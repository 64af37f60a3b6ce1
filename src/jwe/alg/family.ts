// What a family of key management algorithms is (RFC 7518, section 4.1): the interface that its modules implement.

import type { JsonObject } from "../../json.ts";
import type { Jwk, PrivateJwk } from "../../jwk/jwk.ts";

/**
 * A CEK wrapped for a recipient, as its header describes it. Families add the parameters that their algorithms need.
 */
export interface WrappedCek {
  /** The recipient's `alg`. */
  readonly alg: string;
  readonly encryptedKey: Buffer;
}

/** A CEK that was just wrapped for a key, with the header parameters that unwrapping needs besides `alg`. */
export interface SealedCek {
  readonly parameters: { readonly epk?: object };
  readonly encryptedKey: Buffer;
}

/** An operation of a holder's command, as a holder file names it. */
export interface HolderOperation {
  readonly name: string;
  /** The only alg that it serves, undefined if it serves all algs of its family. */
  readonly alg: string | undefined;
}

/** The algorithms of one kind of private operation. All code that depends on the `alg` is in its family's module. */
export interface Family<
  Key extends Jwk = Jwk,
  Private extends PrivateJwk = PrivateJwk,
  A extends WrappedCek = WrappedCek,
> {
  readonly algs: readonly string[];
  /**
   * Whether ocicrypt's built-in `jwe` opens a JWE with a recipient of this family. It uses go-jose, which refuses a
   * whole JWE for one alg that it does not know.
   */
  readonly builtIn: boolean;
  /** What holders of such keys can do. */
  readonly operations: readonly HolderOperation[];
  /** Whether this family is for keys of this key's type. */
  serves(jwk: Jwk): jwk is Key;
  /** The alg that wraps for a key without an `alg`; undefined for a symmetric key without its secret. */
  natural(jwk: Key): string | undefined;
  /** Wraps a CEK for a key that this family serves. */
  seal(alg: string, jwk: Key, cek: Buffer): SealedCek;
  /**
   * Reads a recipient's header.
   *
   * @param cekBytes the length of the CEK
   * @returns undefined if it is not valid for its alg
   */
  read(alg: string, header: JsonObject, encryptedKey: Buffer, cekBytes: number): A | undefined;
  /** Whether the CEK could be wrapped for this key, by its curve or size. */
  fits(jwk: Key, wrapped: A): boolean;
  /** Does the private operation with a key in memory. @throws any error if it fails */
  perform(jwk: Private, wrapped: A): Buffer;
  /**
   * The same operation for a holder's command: its name, its standard input, and the answer's length if it is known.
   */
  ofHolder(wrapped: A): { readonly name: string; readonly input: Buffer; readonly answerBytes?: number };
  /** The CEK, from the result of the private operation. @throws any error if that result is wrong */
  cek(result: Buffer, wrapped: A): Buffer;
}
