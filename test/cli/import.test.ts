// import: keys that others made are taken when they are sound, and nothing happens when they are not.

import { spawnSync } from "node:child_process";
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { errorLine } from "../../src/errors.ts";
import { parseKey } from "../../src/keys/import.ts";
import { generateJwk, type KeyKind } from "../../src/jwk/jwk.ts";
import { secretFile, temporaryFolder, tree } from "../support/folders.ts";
import { CHOOSE, DAMAGED, FORBIDDEN, MAKE } from "../support/key-imports.ts";
import { tool, use, testWith } from "../support/parts.ts";
import { assertFailure, runHere, throughBinary } from "../support/program.ts";
import { unwrap, wrap, OPTSDATA } from "../support/requests.ts";
import {
  assertClosed,
  assertOpens,
  commands,
  readJson,
  secretsOf,
  wrapHere,
  type Members,
  kidOf,
  lock,
  makeStore,
} from "../support/stores.ts";

runHere();

const MAKE_RSA = "ocicrypt-keystore keygen NAME --type rsa makes one that fits";
const MAKE_OCT = "ocicrypt-keystore keygen NAME --type oct makes one of 256 bits";
const newStore = (): string => join(temporaryFolder(), "store");
const newJwk = (kind: KeyKind): Members => ({ ...generateJwk(kind) });
const base64url = (value: bigint): string =>
  Buffer.from(
    value
      .toString(16)
      .padStart(2, "0")
      .replace(/^(?=(..)*.$)/, "0"),
    "hex",
  ).toString("base64url");
const number = (value: unknown): bigint => BigInt(`0x${Buffer.from(String(value), "base64url").toString("hex")}`);
const bytes = (length: number, fill: number): string => Buffer.alloc(length, fill).toString("base64url");
const pemOf = (key: KeyObject): string => String(key.export({ type: "pkcs8", format: "pem" }));
const toPem = (jwk: Members): string => pemOf(createPrivateKey({ key: jwk, format: "jwk" }));
const newEc = (namedCurve: string): string => pemOf(generateKeyPairSync("ec", { namedCurve }).privateKey);
const newRsa = (): string => pemOf(generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey);
const ED25519 = generateKeyPairSync("ed25519").privateKey;
const X25519 = generateKeyPairSync("x25519").privateKey;

const EC = newJwk({ type: "ec" });
const RSA = newJwk({ type: "rsa", bits: 2048 });
const OCT = newJwk({ type: "oct" });
const PUBLIC_RSA = { kty: "RSA", n: RSA["n"], e: RSA["e"] };
const EC_PEM = newEc("P-256");
const P256_ORDER = Buffer.from("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", "hex").toString(
  "base64url",
);
const without = (jwk: Members, ...names: readonly string[]): Members =>
  Object.fromEntries(Object.entries(jwk).filter(([name]) => !names.includes(name)));
const plus = (jwk: Members, name: string, change: bigint): Members => ({
  ...jwk,
  [name]: base64url(number(jwk[name]) + change),
});

const WRONG_LENGTH = (name: string, curve = "P-256"): string => `has a member ${name} of the wrong length for ${curve}`;
const SIZE = "is a symmetric key of a size other than 128, 192 or 256 bits";
const EXPONENT = "has an e that is even, below 3 or too large";
const CRT = "has a dp, dq or qi that does not match";
const SECP256K1 = "is an EC key on secp256k1, not on P-256, P-384 or P-521";
const SIGNS = "is an Ed25519 key, which signs and cannot encrypt";
const X_KEY = "is an X25519 key, which ocicrypt's clients cannot use";
const ALG = 'cannot be used here: its "alg" is not one that this provider uses with such a key';
const ALG_SIZE = 'cannot be used here: its "alg" does not match its size';
const PEM_KIND = "is damaged PEM or DER, or a key of a type that OpenSSL does not know";
const NO_FORMAT = "is in no format that is known here";
const NAME_ONE = "name a file with a JWK, PEM, DER, an OpenSSH key or a certificate";

const MEMBERS = "give each member as RFC 7518 has it, in base64url without padding";

/** What to do, by the reason; without a row, the key is damaged. */
const HINTS: Readonly<Record<string, string>> = {
  [SECP256K1]: MAKE,
  [SIGNS]: MAKE,
  [X_KEY]: MAKE,
  [ALG]: FORBIDDEN,
  [ALG_SIZE]: FORBIDDEN,
  [SIZE]: MAKE_OCT,
  [NO_FORMAT]: NAME_ONE,
  "has no x in canonical base64url": MEMBERS,
  "has no y in canonical base64url": MEMBERS,
  "has no d in canonical base64url": MEMBERS,
};

const BAD: readonly (readonly [name: string, content: Members | string, reason: string, hint?: string])[] = [
  [
    "a point that is off its curve",
    plus(without(EC, "d"), "y", number(EC["y"]) % 2n === 0n ? 1n : -1n),
    "has a point that is not on its curve",
  ],
  [
    "a private key whose point is off its curve",
    plus(EC, "y", number(EC["y"]) % 2n === 0n ? 1n : -1n),
    "has a d that does not match its point",
  ],
  ["another key's d", { ...EC, d: newJwk({ type: "ec" })["d"] }, "has a d that does not match its point"],
  ["a d of 0", { ...EC, d: bytes(32, 0) }, "has a d out of range"],
  ["a d that is the order", { ...EC, d: P256_ORDER }, "has a d out of range"],
  ["a d beyond the order", { ...EC, d: bytes(32, 0xff) }, "has a d out of range"],
  ["a short x", { ...EC, x: bytes(29, 1) }, WRONG_LENGTH("x")],
  ["a long y", { ...EC, y: bytes(33, 1) }, WRONG_LENGTH("y")],
  ["a short d", { ...EC, d: bytes(29, 1) }, WRONG_LENGTH("d")],
  ["a huge x", { ...EC, x: bytes(20_000, 1) }, WRONG_LENGTH("x")],
  ["another curve's point", { ...EC, crv: "P-521" }, WRONG_LENGTH("x", "P-521")],
  ["base64url with stray bits", { ...EC, x: `${bytes(32, 0).slice(0, -1)}B` }, "has no x in canonical base64url"],
  ["base64url with white space", { ...EC, y: ` ${String(EC["y"])}` }, "has no y in canonical base64url"],
  ["an x that is a number", { ...EC, x: 1 }, "has no x in canonical base64url"],
  ["secp256k1", { ...EC, crv: "secp256k1" }, SECP256K1],
  ["secp256k1 as PEM", newEc("secp256k1"), SECP256K1],
  ["Ed25519", { ...ED25519.export({ format: "jwk" }) }, SIGNS],
  ["X25519", { ...X25519.export({ format: "jwk" }) }, X_KEY],
  ["Ed25519 as PEM", pemOf(ED25519), SIGNS],
  ["X25519 as PEM", pemOf(X25519), X_KEY],
  [
    "RSA of 1,024 bits",
    { ...PUBLIC_RSA, n: bytes(128, 0xff) },
    "is an RSA key of 1024 bits, not of 2048 to 8192",
    MAKE_RSA,
  ],
  [
    "RSA of 2,047 bits",
    { ...PUBLIC_RSA, n: base64url(2n ** 2046n + 1n) },
    "is an RSA key of 2047 bits, not of 2048 to 8192",
    MAKE_RSA,
  ],
  ["RSA of 16,384 bits", { ...PUBLIC_RSA, n: bytes(2048, 0xff) }, "has a member n that is too long", MAKE_RSA],
  ["an n of 0", { ...PUBLIC_RSA, n: bytes(256, 0) }, "has a member n with a leading zero"],
  ["an even n", plus(PUBLIC_RSA, "n", 1n), "has an even n"],
  ["an e of 1", { ...PUBLIC_RSA, e: "AQ" }, EXPONENT],
  ["an even e", { ...PUBLIC_RSA, e: "AQAA" }, EXPONENT],
  ["an e of 65 bits", { ...PUBLIC_RSA, e: base64url(2n ** 64n + 1n) }, EXPONENT],
  ["p and q of another n", plus(RSA, "n", 2n), "has p and q that do not make its n"],
  ["a p of 1", { ...RSA, p: "AQ", q: RSA["n"] }, "has p and q that do not make its n"],
  ["a wrong RSA d", plus(RSA, "d", 2n), "has a d that does not match its e"],
  ["a wrong dp", plus(RSA, "dp", -2n), CRT],
  ["a wrong dq", plus(RSA, "dq", -2n), CRT],
  ["a wrong qi", plus(RSA, "qi", -2n), CRT],
  [
    "no CRT members",
    without(RSA, "p", "q", "dp", "dq", "qi"),
    "has no p in canonical base64url",
    "give all of p, q, dp, dq and qi: openssl and most libraries write them",
  ],
  ["no d", without(RSA, "d"), "has no d in canonical base64url"],
  ["three primes", { ...RSA, oth: [{ r: "AQ", d: "AQ", t: "AQ" }] }, "has more than two primes", MAKE],
  ["a symmetric key of 64 bits", { kty: "oct", k: bytes(8, 1) }, SIZE],
  ["a symmetric key of 40 bytes", { kty: "oct", k: bytes(40, 1) }, SIZE],
  ["an empty symmetric key", { kty: "oct", k: "" }, SIZE],
  [
    "a symmetric key without k",
    { kty: "oct" },
    "is a symmetric key without its k",
    "export it with its k from where it was made",
  ],
  ["a signing alg of EC", { ...EC, alg: "ES256" }, ALG],
  ["a signing alg of RSA", { ...RSA, alg: "RS256" }, ALG],
  ["RSA1_5", { ...RSA, alg: "RSA1_5" }, ALG],
  ["another type's alg", { ...EC, alg: "RSA-OAEP" }, ALG],
  ["a signing alg of oct", { ...OCT, alg: "HS256" }, ALG_SIZE],
  ["dir", { ...OCT, alg: "dir" }, ALG_SIZE],
  ["another size's alg", { ...OCT, alg: "A128KW" }, ALG_SIZE],
  ["use sig", { ...EC, use: "sig" }, 'cannot be used here: its "use" is not "enc"', FORBIDDEN],
  [
    "key_ops to sign",
    { ...EC, key_ops: ["sign"] },
    'cannot be used here: its "key_ops" do not allow to unwrap',
    FORBIDDEN,
  ],
  [
    "a public key to verify with",
    { ...PUBLIC_RSA, key_ops: ["verify"] },
    'cannot be used here: its "key_ops" do not allow to wrap',
    FORBIDDEN,
  ],
  ["key_ops that are text", { ...EC, key_ops: "unwrapKey" }, "has key_ops that are not a list of strings"],
  ["a kid that is a number", { ...OCT, kid: 7 }, "has a kid that is not a short string"],
  [
    "a set of two",
    { keys: [EC, RSA] },
    `has 2 keys that can be used, by kid: ${String(EC["kid"])}, ${String(RSA["kid"])}`,
    CHOOSE,
  ],
  ["an empty set", { keys: [] }, "has no key in it", "name a file with a key"],
  ["an empty list", "[]", "has no key in it", "name a file with a key"],
  ["a set that is text", { keys: "none" }, "is a JWK set whose keys are not a list"],
  [
    "a duplicate member",
    JSON.stringify(EC).replace('"kty":"EC"', '"kty":"EC","kty":"EC"'),
    "has a duplicate member name",
  ],
  ["__proto__", JSON.stringify(EC).replace("{", '{"__proto__":{},'), "has a forbidden member name"],
  ["half a JSON object", JSON.stringify(EC).slice(0, -2), "is not JSON"],
  ["a JWK that is not UTF-8", `${JSON.stringify({ ...EC, kid: "" }).slice(0, -2)}\u00ff"}`, "is not valid UTF-8"],
  ["nothing", "", "is empty", "name a file with a key"],
  ["text", "correct horse battery staple", NO_FORMAT],
  [
    "an OpenSSH key that is damaged",
    "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
    "is an OpenSSH key that is damaged",
  ],
  ["truncated PEM", EC_PEM.slice(0, 120), "is PEM without its end"],
  ["PEM with a hole", EC_PEM.replace(/\n.{40}/, "\n"), PEM_KIND],
  [
    "RSA-PSS",
    pemOf(generateKeyPairSync("rsa-pss", { modulusLength: 2048 }).privateKey),
    "is an RSA-PSS key, which signs and cannot encrypt",
    MAKE,
  ],
  [
    "two private keys",
    toPem(EC) + toPem(RSA),
    `has 2 keys that can be used, by kid: ${String(EC["kid"])}, ${String(RSA["kid"])}`,
    CHOOSE,
  ],
];

const store = makeStore("alice", "carol:--type oct");
const { refuses } = commands(store);

/** The line of an import that fails, in this process. */
async function refusal(content: Buffer): Promise<string> {
  const outcome: unknown = await parseKey(content, () => Promise.reject(new Error("nobody asked for one"))).then(
    () => new Error("it was taken"),
    (error: unknown) => error,
  );
  return errorLine(outcome);
}

/** Asserts that the line shows nothing of what is in the file. */
function assertQuotesNothing(line: string, content: string): void {
  for (const [word] of content.matchAll(/[\w+/-]{20,}/g))
    assert.not.ok(line.includes(word), "nothing of the key is quoted");
}

for (const [name, content, reason, hint = HINTS[reason] ?? DAMAGED] of BAD) {
  test(`refuses ${name}`, async () => {
    const text = typeof content === "string" ? content : JSON.stringify(content);
    const line = await refusal(Buffer.from(text, "latin1"));
    assert.is(line, `ocicrypt-keystore: the key to import ${reason}; nothing was imported; ${hint}`);
    if (!/by kid/.test(line)) assertQuotesNothing(line, text);
  });
}

test("refuses two public keys in one PEM, but takes a pair", () => {
  const spki = (key: string): string => String(createPublicKey(key).export({ type: "spki", format: "pem" }));
  assert.match(refuses(1, ["import", "new", secretFile(spki(EC_PEM) + spki(newEc("P-256")))]), CHOOSE);
  commands(newStore())("import", "pair", secretFile(spki(EC_PEM) + EC_PEM));
});

test("refuses what is no small file, and waits for nothing", () => {
  const folder = temporaryFolder();
  const fifo = join(folder, "fifo");
  spawnSync("mkfifo", [fifo]);
  const large = secretFile(JSON.stringify(EC).padEnd(64 * 1024 + 1));
  const started = Date.now();
  assert.match(refuses(1, ["import", "new", folder]), `${folder} is not a regular file; `);
  assert.match(refuses(1, ["import", "new", fifo]), `${fifo} is not a regular file; `);
  assert.match(refuses(1, ["import", "new", large]), `${large} is larger than 64 KiB; `);
  assert.match(
    refuses(1, ["import", "new", join(folder, "none")]),
    `there is no file ${folder}/none; name a file with a key, or - for standard input`,
  );
  assert.ok(Date.now() - started < 10_000);
  assert.is(statSync(fifo).isFIFO(), true);
});

test("refuses the same on standard input", () => {
  assert.is(
    refuses(1, ["import", "new", "-"], { input: JSON.stringify({ ...EC, d: bytes(32, 0) }) }),
    `ocicrypt-keystore: the key to import has a d out of range; nothing was imported; ${DAMAGED}`,
  );
});

test("refuses key_ops that are no words, which would make a file that nothing reads any more", () => {
  refuses(1, ["import", "new", secretFile(JSON.stringify({ ...EC, key_ops: ["deriveKey", "x".repeat(50_000)] }))]);
});

// What openssl 3 writes.

const ENCRYPTED = ["--pem-passphrase-file", secretFile("secret\n")] as const;
const openssl = tool("openssl");

const PRIVATE: readonly (readonly [name: string, label: string, make: (command: string) => string])[] = [
  [
    "genpkey P-256",
    "BEGIN PRIVATE KEY",
    (command) => use(command, ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
  ],
  [
    "genpkey P-384",
    "BEGIN PRIVATE KEY",
    (command) => use(command, ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]),
  ],
  [
    "genpkey P-521",
    "BEGIN PRIVATE KEY",
    (command) => use(command, ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"]),
  ],
  [
    "genpkey RSA",
    "BEGIN PRIVATE KEY",
    (command) => use(command, ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]),
  ],
  [
    "genrsa -traditional, PKCS#1",
    "BEGIN RSA PRIVATE KEY",
    (command) => use(command, ["genrsa", "-traditional", "2048"]),
  ],
  ["genrsa of 2,056 bits", "BEGIN PRIVATE KEY", (command) => use(command, ["genrsa", "2056"])],
  [
    "ecparam -genkey, with its EC PARAMETERS",
    "BEGIN EC PARAMETERS",
    (command) => use(command, ["ecparam", "-name", "secp384r1", "-genkey"]),
  ],
  ["a compressed point", "BEGIN EC PRIVATE KEY", (command) => use(command, ["ec", "-conv_form", "compressed"], EC_PEM)],
  ["lines that end as on Windows", "BEGIN PRIVATE KEY-----\r", () => EC_PEM.replaceAll("\n", "\r\n")],
  [
    "encrypted PKCS#8",
    "BEGIN ENCRYPTED PRIVATE KEY",
    (command) =>
      use(command, [
        "genpkey",
        "-algorithm",
        "EC",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-aes-256-cbc",
        "-pass",
        "pass:secret",
      ]),
  ],
  [
    "legacy encrypted EC",
    "Proc-Type: 4,ENCRYPTED",
    (command) => use(command, ["ec", "-aes256", "-passout", "pass:secret"], EC_PEM),
  ],
  [
    "legacy encrypted RSA",
    "Proc-Type: 4,ENCRYPTED",
    (command) => use(command, ["genrsa", "-traditional", "-aes128", "-passout", "pass:secret", "2048"]),
  ],
];

for (const [name, label, make] of PRIVATE) {
  testWith(openssl, "openssl", `takes what openssl writes, which wraps and unwraps: ${name}`, async (command) => {
    const dir = newStore();
    const text = make(command);
    assert.match(text, label);
    commands(dir)("import", "key", secretFile(text), ...(text.includes("ENCRYPTED") ? ENCRYPTED : []));
    await assertOpens(dir, await wrapHere(dir, "key"));
  });
}

/** A certificate of a key, self-signed. */
function certificate(command: string, key: string): string {
  return use(command, ["req", "-x509", "-key", secretFile(key), "-subj", "/CN=test", "-days", "1"]);
}

const PUBLIC: readonly (readonly [name: string, key: () => string, make: (command: string, key: string) => string])[] =
  [
    ["EC SPKI", () => EC_PEM, (command, key) => use(command, ["pkey", "-pubout"], key)],
    ["RSA SPKI", newRsa, (command, key) => use(command, ["pkey", "-pubout"], key)],
    ["RSA PKCS#1", newRsa, (command, key) => use(command, ["rsa", "-RSAPublicKey_out"], key)],
    ["a self-signed certificate", () => EC_PEM, certificate],
    [
      "a certificate with its text",
      () => EC_PEM,
      (command, key) => use(command, ["x509", "-text"], certificate(command, key)),
    ],
  ];

for (const [name, key, make] of PUBLIC) {
  testWith(openssl, "openssl", `takes a public key, which wraps and cannot be rotated: ${name}`, async (command) => {
    const [there, here] = [newStore(), newStore()];
    const secret = key();
    const kid = commands(there)("import", "key", secretFile(secret));
    const cli = commands(here);
    const text = make(command, secret);
    const taken = cli.run(["import", "key", secretFile(text)]);
    assert.is(taken.stdout, kid, "the same key has the same kid");
    const certificateNote = "the key is that of the certificate of CN=test\n";
    assert.is(taken.stderr, text.includes("BEGIN CERTIFICATE") ? certificateNote : "");
    await assertOpens(there, await wrapHere(here, "key"));
    assert.match(cli("list", "--json"), '"private": "none"');
    assert.match(
      cli.refuses(1, ["rotate", "key"]),
      "this store has no private key for key; rotate it where it is, then run ocicrypt-keystore import key FILE --force",
    );
  });
}

testWith(
  openssl,
  "openssl",
  "refuses a certificate request, and an encrypted key whose passphrase is wrong or not given",
  (command) => {
    const request = use(command, ["req", "-new", "-key", secretFile(EC_PEM), "-subj", "/CN=test"]);
    assert.match(
      refuses(1, ["import", "new", secretFile(request)]),
      "is a certificate request; nothing was imported; run openssl req",
    );
    const encrypted = use(command, ["ec", "-aes256", "-passout", "pass:secret"], EC_PEM);
    const line = refuses(1, [
      "import",
      "new",
      secretFile(encrypted),
      "--pem-passphrase-file",
      secretFile("public-knowledge"),
    ]);
    assert.is(
      line,
      "ocicrypt-keystore: the key to import is encrypted, and this passphrase does not open it; nothing was imported; give the right one with --pem-passphrase-file FILE",
    );
    assert.match(
      refuses(3, ["import", "new", secretFile(encrypted), "--pem-passphrase-file", "/none"]),
      "the passphrase file /none is missing; name it with --pem-passphrase-file FILE",
    );
    assert.match(
      refuses(3, ["import", "new", secretFile(encrypted), "--pem-passphrase-file", secretFile("\n")]),
      "the passphrase is empty",
    );
  },
);

// What Debian's jose writes.

const jose = tool("jose");
for (const template of [
  '{"alg":"ECDH-ES+A256KW"}',
  '{"alg":"ECDH-ES+A128KW"}',
  '{"kty":"EC","crv":"P-256"}',
  '{"alg":"A128KW"}',
  '{"alg":"A192KW"}',
  '{"alg":"A256KW"}',
  '{"kty":"oct","bytes":32}',
]) {
  testWith(jose, "jose", `takes what jose jwk gen writes: ${template}`, async (command) => {
    const dir = newStore();
    const jwk = use(command, ["jwk", "gen", "-i", template]);
    commands(dir).run(["import", "key", "-"], { input: jwk });
    const annotation = await wrapHere(dir, "key");
    await assertOpens(dir, annotation);
    const { alg } = JSON.parse(template) as { alg?: string };
    const { recipients } = JSON.parse(annotation.toString()) as { recipients: { header: { alg: string } }[] };
    if (alg !== undefined) assert.is(recipients[0]?.header.alg, alg);
    const shown = commands(dir)("show", "key", "--json");
    for (const secret of secretsOf(JSON.parse(jwk) as Members)) assert.not.match(shown, secret);
  });
}

// What a store does with it.

const file = (jwk: Members): string => secretFile(JSON.stringify(jwk));

test("reads standard input where the file is -", () => {
  const dir = newStore();
  const { code, stdout } = throughBinary(() => commands(dir).run(["import", "key", "-"], { input: EC_PEM }));
  assert.is(code, 0);
  assert.is(stdout.trim(), kidOf(dir, "key"));
  assert.is(unwrap(dir, wrap(dir, ["key"])), OPTSDATA);
});

test("takes a set of one key, and forgets what a store does not keep", () => {
  const dir = newStore();
  const kid = commands(dir)(
    "import",
    "key",
    file({ keys: [{ ...EC, kid: "theirs", x5c: ["AAAA"], other: true }] }),
  ).trim();
  assert.equal(Object.keys(readJson(join(dir, "private", `${kid}.jwk`))).toSorted(), [
    "crv",
    "d",
    "kid",
    "kty",
    "x",
    "y",
  ]);
  assert.is(kid, EC["kid"]);
});

test("knows a removed symmetric key again: it keeps its kid and opens what it opened", async () => {
  const dir = makeStore("carol:--type oct");
  const cli = commands(dir);
  const kid = kidOf(dir, "carol");
  const annotation = await wrapHere(dir, "carol");
  cli("remove", "carol", "--force");
  await assertClosed(dir, annotation);
  assert.is(cli("import", "again", join(dir, "removed", `${kid}.jwk`)).trim(), kid);
  await assertOpens(dir, annotation);
});

test("gives a symmetric key with somebody's own kid a new one", () => {
  const dir = newStore();
  assert.match(commands(dir)("import", "key", file({ ...OCT, kid: "my favourite" })), /^[\w-]{22}\n$/);
});

test("refuses another symmetric key under the kid of one that is there, rather than lose it", async () => {
  const dir = newStore();
  const cli = commands(dir);
  cli("import", "one", file(OCT));
  cli.refuses(1, ["import", "other", file({ ...newJwk({ type: "oct" }), kid: OCT["kid"] })]);
});

for (const [name, damaged] of [
  ["empty", ""],
  ["cut", '{"kty":"EC"'],
  ["a public key", undefined],
] as const) {
  test(`restores a private key whose file is ${name}`, async () => {
    const dir = makeStore("alice");
    const cli = commands(dir);
    const path = join(dir, "private", `${kidOf(dir, "alice")}.jwk`);
    const backup = secretFile(readFileSync(path));
    const annotation = await wrapHere(dir, "alice");
    writeFileSync(path, damaged ?? cli("export", "alice"));
    cli("import", "alice", backup, "--force");
    await assertOpens(dir, annotation);
  });
}

test("makes a recipient a key pair when its private key comes", async () => {
  const dir = newStore();
  const cli = commands(dir);
  const kid = cli("import", "bob", file(without(EC, "d")));
  const annotation = await wrapHere(dir, "bob");
  assert.match(assertFailure(cli.run(["import", "bob", file(EC)]), 1), "bob already names this key; add --force");
  assert.is(cli("import", "bob", file(EC), "--force"), kid);
  await assertOpens(dir, annotation);
  assert.is(readFileSync(join(dir, "names/bob"), "utf8"), kid);
  assert.match(cli("list", "--json"), '"private": "file"');
});

for (const [name, make] of [
  ["a key pair", (): string => JSON.stringify(EC)],
  ["a public key", (): string => JSON.stringify(without(RSA, "d", "p", "q", "dp", "dq", "qi"))],
  ["a symmetric key with a kid", (): string => JSON.stringify(OCT)],
  ["a symmetric key without a kid, which got one here", (): string => JSON.stringify(without(OCT, "kid"))],
] as const) {
  test(`importing the same key again changes nothing and succeeds: ${name}`, () => {
    const dir = newStore();
    const path = secretFile(make());
    const kid = commands(dir)("import", "key", path);
    const before = tree(dir);
    const again = commands(dir).run(["import", "key", path]);
    assert.equal(again, {
      code: 0,
      stdout: kid,
      stderr: "already there: key names this key, and nothing was changed\n",
    });
    assert.equal(tree(dir), before);
  });
}

test("importing the public half of a key pair again changes nothing, and a locked pair need not be unlocked", () => {
  const dir = makeStore("alice");
  const backup = secretFile(readFileSync(join(dir, "private", `${kidOf(dir, "alice")}.jwk`)));
  const open = secretFile(commands(dir)("export", "alice"));
  lock(dir);
  const before = tree(dir);
  for (const path of [backup, open])
    assert.match(commands(dir).run(["import", "alice", path]).stderr, /^already there/);
  assert.equal(tree(dir), before);
  assert.match(commands(dir).refuses(1, ["import", "alice", file(RSA)]), "the name alice is taken");
});

test("takes the key of a set that --kid names, and names the certificate that a key is of", () => {
  const cli = commands(newStore());
  const set = file({
    keys: [
      { ...EC, kid: "one" },
      { ...PUBLIC_RSA, kid: "two" },
    ],
  });
  assert.match(cli.refuses(1, ["import", "app", set]), "has 2 keys that can be used, by kid: one, two; ");
  assert.is(cli("import", "app", set, "--kid", "two").trim(), RSA["kid"]);
  assert.is(cli("import", "mine", set, "--kid", String(EC["kid"])).trim(), EC["kid"]);
  assert.match(
    cli.refuses(1, ["import", "other", set, "--kid", "three"]),
    "has no key with that kid; nothing was imported; --kid can be one, two",
  );
});

test("refuses a taken name and names --force, which retires the former key: it still opens", async () => {
  const dir = makeStore("alice");
  const cli = commands(dir);
  const former = kidOf(dir, "alice");
  const annotation = await wrapHere(dir, "alice");
  assert.match(
    cli.refuses(1, ["import", "alice", file(RSA)]),
    /the name alice is taken in .*; choose another name, .* import with --force to retire its key/,
  );
  const kid = cli("import", "alice", file(RSA), "--force").trim();
  assert.is(readFileSync(join(dir, "names/alice"), "utf8"), `${kid}\n${former}\n`);
  await assertOpens(dir, annotation);
  await assertOpens(dir, await wrapHere(dir, "alice"));
  assert.is(cli("default"), "alice\n");
});

test("refuses a key whose kid is another key's name", () => {
  const dir = newStore();
  const cli = commands(dir);
  cli("keygen", String(EC["kid"]));
  assert.match(cli.refuses(1, ["import", "key", file(EC)]), /is the name of another key/);
});

test("refuses a key's own kid as its name, which would stay when the key is rotated", () => {
  const dir = makeStore("alice");
  commands(dir).refuses(1, ["import", String(EC["kid"]), file(EC)]);
});

for (const [args, line] of [
  [["import", "key"], /not enough/],
  [["import", ".key", "FILE"], /cannot be a key's name/],
  [["import", "Enabled", "FILE"], /Enabled is reserved/],
  [["import", "a", "b", "c"], /unknown argument: c/],
] as const) {
  test(`is wrong usage, exit code 2: ${args.join(" ")}`, () => assert.match(refuses(2, args), line));
}

test.run();
