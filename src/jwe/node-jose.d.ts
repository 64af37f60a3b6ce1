// The part of node-jose 2.2.0 that engine.ts uses; the package ships no types.

declare module "node-jose/lib/jwk/keystore.js" {
  const keystores: {
    registry: { register(factory: { kty: string; prepare(jwk: object): Promise<object> }): void };
    KeyStore: {
      asKey(jwk: object): Promise<{
        decrypt(
          enc: string,
          ciphertext: Buffer,
          parameters: { iv: string; tag: string; adata: string },
        ): Promise<Buffer>;
      }>;
    };
  };
  export default keystores;
}

declare module "node-jose/lib/jwk/octkey.js" {
  const octkey: { config: object };
  export default octkey;
}

declare module "node-jose/lib/jwe/encrypt.js" {
  interface RecipientOptions {
    key: object;
    header: object;
    reference: false;
    epk?: object;
  }
  const JWE: {
    createEncrypt(
      options: { format: "general"; fields: { enc: string; cty?: string }; protect: string[]; cek: object; iv: Buffer },
      recipients: RecipientOptions[],
    ): { final(plaintext: Buffer): Promise<object> };
  };
  export default JWE;
}
