// JWK and JWK sets: those of jose and WebCrypto, and what Keycloak, Azure, step and others document.

import { createPrivateKey, createPublicKey, generateKeyPairSync, webcrypto, type JsonWebKey } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { MAKE, CHOOSE, FORBIDDEN, type KeyFile, of, outcome, thumbprint, line } from "../../support/key-imports.ts";
import { secretFile } from "../../support/folders.ts";
import { testWith, tool, use } from "../../support/parts.ts";

const jose = tool("jose");

const joseSays = (jwk: string): string => use(jose ?? "", ["jwk", "thp", "-i", "-", "-a", "S256"], jwk).trim();

for (const [name, template] of [
  ["EC", '{"alg":"ECDH-ES+A256KW"}'],
  ["P-521", '{"kty":"EC","crv":"P-521"}'],
  ["RSA", '{"kty":"RSA","bits":2048}'],
] as const) {
  testWith(jose, "jose", `takes what jose writes: ${name}, private and public`, async () => {
    const jwk = use(jose ?? "", ["jwk", "gen", "-i", template]);
    assert.is((await outcome(of(jwk))).is, `private ${joseSays(jwk)}`);
    const open = use(jose ?? "", ["jwk", "pub", "-i", "-"], jwk);
    assert.is((await outcome(of(open))).is, `public ${joseSays(jwk)}`);
    const set = use(jose ?? "", ["jwk", "pub", "-s", "-i", "-"], jwk);
    assert.is((await outcome(of(set))).is, `public ${joseSays(jwk)}`);
  });
}

test("takes what WebCrypto exports: ECDH, RSA-OAEP and AES-KW, private and public", async () => {
  const { subtle } = webcrypto;
  const curve = { name: "ECDH", namedCurve: "P-256" };
  const rsa = { name: "RSA-OAEP", modulusLength: 2048, publicExponent: Uint8Array.of(1, 0, 1), hash: "SHA-256" };
  for (const pair of [
    await subtle.generateKey(curve, true, ["deriveBits"]),
    await subtle.generateKey(rsa, true, ["wrapKey", "unwrapKey"]),
  ]) {
    for (const key of [pair.privateKey, pair.publicKey]) {
      const jwk = await subtle.exportKey("jwk", key);
      assert.is((await outcome(of(JSON.stringify(jwk)))).is, `${key.type} ${thumbprint({ ...jwk })}`);
    }
  }
  const symmetric = await subtle.generateKey({ name: "AES-KW", length: 256 }, true, ["wrapKey", "unwrapKey"]);
  const jwk = await subtle.exportKey("jwk", symmetric);
  assert.is((await outcome(of(JSON.stringify(jwk)))).is, `symmetric ${String(jwk.k)}`);
});

const pair = (namedCurve = "P-256"): JsonWebKey =>
  generateKeyPairSync("ec", { namedCurve }).privateKey.export({ format: "jwk" });
const rsaPair = generateKeyPairSync("rsa", { modulusLength: 2048 });
const rsaPublic = rsaPair.publicKey.export({ format: "jwk" });
const mine = pair();
const { d: _d, ...minePublic } = mine;
const json = (value: unknown): KeyFile => of(JSON.stringify(value, null, 2));
const zero = (text = ""): string =>
  Buffer.concat([Buffer.alloc(1), Buffer.from(text, "base64url")]).toString("base64url");
const standard = (text = ""): string => Buffer.from(text, "base64url").toString("base64");
const ecSpki = createPublicKey({ key: minePublic, format: "jwk" })
  .export({ type: "spki", format: "der" })
  .toString("base64");
const ecPkcs8 = String(createPrivateKey({ key: mine, format: "jwk" }).export({ type: "pkcs8", format: "pem" }));
/** 379·G of P-256, whose x starts with a zero byte. */
const withZero = {
  kty: "EC",
  crv: "P-256",
  x: "AFVDiUrz0A7X10Cr29dclrBod7eH219w7qeLkKjXwAo",
  y: "u0yFo9jqKe-q-iRAaRLdhNWxTcMr9lbvbGvVil2UP5I",
};
const withoutZero = Buffer.from(withZero.x, "base64url").subarray(1).toString("base64url");
const MINE = `public ${thumbprint(mine)}`;
const MY_RSA = `public ${thumbprint(rsaPublic)}`;

/** Keycloak's certs endpoint: a key for signatures and one for encryption, each with its certificate. */
const keycloak = {
  keys: [
    {
      kid: "FJ86GcF3jTbNLOco4NvZkUCIUmfYCqoqtOQeMfbhNlE",
      kty: "RSA",
      alg: "RS256",
      use: "sig",
      ...rsaPublic,
      x5c: ["MIICmzCCAYMCBgF4"],
      x5t: "KW2LmPHbzEqR0JwyLZzvGpKvJyM",
    },
    {
      kid: "enc-1",
      kty: "RSA",
      alg: "RSA-OAEP",
      use: "enc",
      ...rsaPublic,
      x5c: ["MIICmzCCAYMCBgF5"],
      "x5t#S256": "yAG1xQ",
    },
  ],
};

/** `az keyvault key show`: each member that is not set is null. */
const azure = {
  crv: null,
  d: null,
  dp: null,
  dq: null,
  e: "AQAB",
  k: null,
  keyOps: ["encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"],
  kid: "https://vault.vault.azure.net/keys/app/1f2e",
  kty: "RSA-HSM",
  n: standard(rsaPublic.n),
  p: null,
  q: null,
  qi: null,
  t: null,
  x: null,
  y: null,
};

/** `step crypto jwk create --use enc`, and its private half under a password. */
const step = { use: "enc", kty: "EC", kid: "w0Gk", crv: "P-256", alg: "ECDH-ES", x: mine.x, y: mine.y };
const header = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
const stepEncrypted = {
  protected: header({ alg: "PBES2-HS256+A128KW", cty: "jwk+json", enc: "A256GCM", p2c: 600_000, p2s: "c2FsdA" }),
  encrypted_key: "a2V5",
  iv: "aXY",
  ciphertext: "Y2lwaGVy",
  tag: "dGFn",
};
const clevis = `${header({ alg: "ECDH-ES", clevis: { pin: "tang", tang: {} }, enc: "A256GCM", epk: {}, kid: "x" })}..aXY.Y2k.dGFn`;

const DOCUMENTED: readonly (readonly [name: string, file: KeyFile, is: string])[] = [
  ["Keycloak's signing and encryption keys", json(keycloak), MY_RSA],
  [
    "Keycloak's signing key, chosen",
    { ...json(keycloak), kid: "FJ86GcF3jTbNLOco4NvZkUCIUmfYCqoqtOQeMfbhNlE" },
    line('cannot be used here: its "use" is not "enc"', FORBIDDEN),
  ],
  [
    "only signing keys",
    json({ keys: [keycloak.keys[0], { ...keycloak.keys[0], kid: "other" }] }),
    line('has 2 keys, none of which can be used: the first cannot be used here: its "use" is not "enc"', FORBIDDEN),
  ],
  ["a set with a key of an unknown type", json({ keys: [{ kty: "XYZ" }, minePublic] }), MINE],
  ["a pair in a set", json({ keys: [minePublic, mine] }), `private ${thumbprint(mine)}`],
  ["a set with members that are not keys", json({ keys: [{ use: "enc" }, null, minePublic] }), MINE],
  [
    "a set of keys in other objects",
    json({ keys: [{ jwk: minePublic }] }),
    line("is JSON with a key inside", "run jq -r '.keys[0].jwk' FILE | ocicrypt-keystore import NAME -"),
  ],
  ["a list of one", json([minePublic]), MINE],
  ["a set after a byte order mark", of(`\ufeff${JSON.stringify({ keys: [minePublic] })}`), MINE],
  ["a JWK in UTF-16", of(Buffer.from(`\ufeff${JSON.stringify(minePublic)}`, "utf16le")), MINE],
  ["base64 of a JWK", of(Buffer.from(JSON.stringify(minePublic)).toString("base64")), MINE],
  [
    "members that are null",
    json({ ...minePublic, d: null, kid: null, use: null, alg: null, key_ops: null, x5c: null }),
    MINE,
  ],
  ["members that are empty", json({ ...minePublic, kid: "", use: "", alg: "", key_ops: [] }), MINE],
  ["a created that is a number", json({ ...minePublic, created: 1_700_000_000 }), MINE],
  ["members in padded base64", json({ ...minePublic, x: standard(mine.x), y: standard(mine.y) }), MINE],
  ["coordinates as Java's BigInteger writes them", json({ ...minePublic, x: zero(mine.x), y: zero(mine.y) }), MINE],
  ["an RSA key as Java's BigInteger writes it", json({ ...rsaPublic, n: zero(rsaPublic.n), e: "AAEAAQ" }), MY_RSA],
  [
    "a private RSA key as Java's BigInteger writes it",
    json(
      Object.fromEntries(
        Object.entries(rsaPair.privateKey.export({ format: "jwk" })).map(([name, value]) => [
          name,
          name === "kty" ? value : zero(String(value)),
        ]),
      ),
    ),
    `private ${thumbprint(rsaPublic)}`,
  ],
  ["a coordinate without its leading zero", json({ ...withZero, x: withoutZero }), `public ${thumbprint(withZero)}`],
  [
    "an RSA key whose private members are null",
    json({ ...rsaPublic, d: null, p: null, q: null, dp: null, dq: null, qi: null, oth: null }),
    MY_RSA,
  ],
  [
    "a kid that is not the key's",
    { ...json(mine), kid: "other" },
    line("has no key with that kid", `--kid can be ${thumbprint(mine)}`),
  ],
  ["the key of az keyvault key show", json(azure), MY_RSA],
  [
    "all of az keyvault key show",
    json({ attributes: { enabled: true }, key: azure, tags: null }),
    line("is JSON with a key inside", "run jq -r '.key' FILE | ocicrypt-keystore import NAME -"),
  ],
  [
    "a set of two keys with the same kid",
    json({
      keys: [
        { ...minePublic, kid: "a" },
        { ...rsaPublic, kid: "a" },
      ],
    }),
    line(`has 2 keys that can be used, by kid: ${thumbprint(mine)}, ${thumbprint(rsaPublic)}`, CHOOSE),
  ],
  [
    "step's public key",
    json(step),
    line('cannot be used here: its "alg" is not one that this provider uses with such a key', FORBIDDEN),
  ],
  [
    "step's encrypted private key",
    json(stepEncrypted),
    line(
      "is a JWE that a passphrase opens, as step writes it",
      "run step crypto jwe decrypt < FILE | ocicrypt-keystore import NAME -",
    ),
  ],
  [
    "the same in compact form",
    of([stepEncrypted.protected, "a2V5", "aXY", "Y2lwaGVy", "dGFn\n"].join(".")),
    line(
      "is a JWE that a passphrase opens, as step writes it",
      "run step crypto jwe decrypt < FILE | ocicrypt-keystore import NAME -",
    ),
  ],
  [
    "a JWE of clevis",
    of(clevis),
    line("is a JWE that clevis wrote", "run clevis decrypt < FILE | ocicrypt-keystore import NAME -"),
  ],
  [
    "a JWE for a key",
    of(`${header({ alg: "RSA-OAEP", enc: "A256GCM" })}.a2V5.aXY.Y2k.dGFn`),
    line(
      "is a JWE, an encrypted file",
      "decrypt it first: jose jwe dec -i FILE -k KEY | ocicrypt-keystore import NAME -",
    ),
  ],
  [
    "a JWT",
    of(`${header({ alg: "RS256" })}.e30.c2ln`),
    line("is a JWT, a signed token", "name a file with a JWK or PEM"),
  ],
  [
    "an Ed25519 JWK",
    json({ kty: "OKP", crv: "Ed25519", x: "AA" }),
    line("is an Ed25519 key, which signs and cannot encrypt", MAKE),
  ],
  [
    "an X25519 JWK",
    json({ kty: "OKP", crv: "X25519", x: "AA" }),
    line("is an X25519 key, which ocicrypt's clients cannot use", MAKE),
  ],
  ["a secp256k1 JWK", json(pair("secp256k1")), line("is an EC key on secp256k1, not on P-256, P-384 or P-521", MAKE)],
  [
    "Azure's name of that curve",
    json({ ...minePublic, crv: "P-256K" }),
    line("is an EC key on secp256k1, not on P-256, P-384 or P-521", MAKE),
  ],
  [
    "JSON of another kind",
    json({ apiVersion: "v1", items: [] }),
    line("is JSON, but not a JWK: it has no kty", "name a file with a JWK or PEM"),
  ],
  [
    "a service account of Google",
    json({ type: "service_account", private_key: String(rsaPair.privateKey.export({ type: "pkcs8", format: "pem" })) }),
    line("is JSON with a key inside", "run jq -r '.private_key' FILE | ocicrypt-keystore import NAME -"),
  ],
  [
    "an answer of Vault",
    json({ data: { keys: { 1: { public_key: String(rsaPair.publicKey.export({ type: "spki", format: "pem" })) } } } }),
    line("is JSON with a key inside", `run jq -r '.data.keys["1"].public_key' FILE | ocicrypt-keystore import NAME -`),
  ],
  [
    "an answer of AWS",
    json({ KeyId: "x", PublicKey: rsaPair.publicKey.export({ type: "spki", format: "der" }).toString("base64") }),
    line("is JSON with a key inside", "run jq -r '.PublicKey' FILE | ocicrypt-keystore import NAME -"),
  ],
  [
    "an answer of AWS, with an EC key",
    json({ KeyId: "x", PublicKey: ecSpki }),
    line("is JSON with a key inside", "run jq -r '.PublicKey' FILE | ocicrypt-keystore import NAME -"),
  ],
  ["what aws prints with --query PublicKey", json(ecSpki), MINE],
  ["what az prints with --query value", json(JSON.stringify(minePublic)), MINE],
  [
    "a secret of Azure with a JWK",
    json({ id: "x", value: JSON.stringify(minePublic) }),
    line("is JSON with a key inside", "run jq -r '.value' FILE | ocicrypt-keystore import NAME -"),
  ],
  [
    "a secret of Kubernetes",
    json({ kind: "Secret", data: { "tls.key": Buffer.from(ecPkcs8).toString("base64") } }),
    line("is JSON with a key inside", `run jq -r '.data["tls.key"]' FILE | ocicrypt-keystore import NAME -`),
  ],
  [
    "what that command prints for AWS",
    of(`${rsaPair.publicKey.export({ type: "spki", format: "der" }).toString("base64")}\n`),
    MY_RSA,
  ],
];

for (const [name, file, is] of DOCUMENTED)
  test(`takes or refuses JSON as it is: ${name}`, async () => assert.is((await outcome(file)).is, is));

for (const [name, key] of [
  ["a key for signatures", { ...mine, use: "sig", alg: "ES256", key_ops: ["sign"] }],
  ["a set of one", { keys: [{ ...mine, use: "sig" }] }],
  ["step's key", { ...step, d: mine.d }],
] as const) {
  testWith(
    tool("jq"),
    "jq",
    `the command for a key that may encrypt too makes a file that is taken: ${name}`,
    async () => {
      const file = json(key);
      const [, command = ""] = /run (jq .*) FILE \|/.exec((await outcome(file)).is) ?? [];
      const taken = await outcome(of(use("/bin/sh", ["-c", `${command} '${secretFile(file.content)}'`])));
      assert.is(taken.is, `private ${thumbprint(mine)}`);
    },
  );
}

test.run();
