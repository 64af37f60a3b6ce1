// Key files: each fault makes the binary refuse the key with a line of its own that says which file and why.

import { spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, mkdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { point } from "../../src/jwk/ec.ts";
import { bytesOf, checkJwk, isPrivate, publicJwk, thumbprint, toPrivateKey, toPublicKey } from "../../src/jwk/jwk.ts";
import type { RsaJwk } from "../../src/jwk/rsa.ts";
import { assertOpens, attack, each, keys } from "../support/attacks.ts";
import { temporaryFolder } from "../support/folders.ts";
import { placeKey } from "../support/foreign-keys.ts";
import { assertFailure, run, succeed } from "../support/program.ts";
import { OPTSDATA, unwrap, wrap, wrapRequest } from "../support/requests.ts";
import { b64u, forge, newKey, thumbprintOf, type Header, type PlainJwk } from "../support/second-jwe.ts";

const fail = (reason: string): Error => new Error(reason);
const big = (text = ""): bigint => BigInt(`0x${Buffer.from(text, "base64url").toString("hex")}`);
const encode = (value: bigint, bytes = 0): string => {
  const digits = value.toString(16);
  return Buffer.from(digits.padStart(Math.max(2 * bytes, digits.length + (digits.length % 2)), "0"), "hex").toString("base64url");
};
const changed = (text = ""): string => (text.startsWith("A") ? "B" : "A") + text.slice(1);
const kidOf = (jwk: PlainJwk): string => (jwk["kty"] === "oct" ? "symmetric" : thumbprintOf(jwk));

/** A store whose one private key file, named for `jwk`, holds this text. */
function storeWith(jwk: PlainJwk, content: string | Buffer): { dir: string; file: string } {
  const dir = temporaryFolder();
  mkdirSync(join(dir, "private"), { mode: 0o700 });
  const file = join(dir, "private", `${kidOf(jwk)}.jwk`);
  writeFileSync(file, content, { mode: 0o600 });
  return { dir, file };
}

const sealed = new Map(Object.values(keys).map((jwk) => [jwk, forge([{ jwk, header: { kid: kidOf(jwk) } }])]));

/** Asserts that the binary refuses the only key that opens, by a line that names the file, the reason, and no secret. */
function assertUnusable(jwk: PlainJwk, { dir, file }: { dir: string; file: string }, reason: RegExp): void {
  const line = assertFailure(attack(sealed.get(jwk) ?? "", dir), 3);
  assert.ok(line.includes(file), line);
  assert.match(line, reason);
  for (const name of ["d", "p", "q", "k"]) assert.not.ok(jwk[name] !== undefined && line.includes(jwk[name].slice(0, 8)), line);
}

const { p256, p384, p521, rsa, a128, a256 } = keys;
const otherRsa = newKey("RSA-2048");
const [n, e, d, p, q] = [big(rsa["n"]), big(rsa["e"]), big(rsa["d"]), big(rsa["p"]), big(rsa["q"])];
const ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n; // of P-256
const gcd = (a: bigint, b: bigint): bigint => (b === 0n ? a : gcd(b, a % b));
const lambda = ((p - 1n) * (q - 1n)) / gcd(p - 1n, q - 1n); // RFC 8017, section 3.2: e·d ≡ 1 (mod λ(n))

test("opens with every key as it is, and with members that nobody knows", () => {
  for (const [jwk, jwe] of sealed) {
    assertOpens(jwe, storeWith(jwk, JSON.stringify(jwk)).dir);
    assertOpens(jwe, storeWith(jwk, `\n ${JSON.stringify({ ...jwk, ext: true, x5c: ["AA"], created: "2024-01-01T00:00:00Z" }, null, 2)} \n`).dir);
  }
});

each<[jwk: PlainJwk, change: Header, reason: RegExp]>(
  [
    ["another key's d", p256, { d: newKey("P-256")["d"] }, /d that does not match its point/],
    ["another key's d on P-384", p384, { d: newKey("P-384")["d"] }, /d that does not match its point/],
    ["another key's d on P-521", p521, { d: newKey("P-521")["d"] }, /d that does not match its point/],
    ["the negated d, whose point is the mirrored one", p256, { d: encode(ORDER - big(p256["d"]), 32) }, /d that does not match its point/],
    ["d 0", p256, { d: encode(0n, 32) }, /d out of range/],
    ["d of the curve's order", p256, { d: encode(ORDER, 32) }, /d out of range/],
    ["d above the order", p256, { d: encode(2n ** 256n - 1n, 32) }, /d out of range/],
    ["a d too short", p256, { d: b64u(Buffer.alloc(31, 1)) }, /d of the wrong length for P-256/],
    ["a d too long", p256, { d: encode(big(p256["d"]), 33) }, /d of the wrong length for P-256/],
    ["a point off the curve", p256, { y: changed(p256["y"]) }, /d that does not match its point/],
    ["a point off the curve and no d", p256, { y: changed(p256["y"]), d: undefined }, /a point that is not on its curve/],
    ["the point at zero", p256, { x: encode(0n, 32), y: encode(0n, 32), d: undefined }, /a point that is not on its curve/],
    ["another point of its curve", p256, { ...newKey("P-256"), d: p256["d"] }, /d that does not match its point/],
    ["a coordinate too long", p256, { x: encode(big(p256["x"]), 33) }, /x of the wrong length for P-256/],
    ["coordinates of 137 bytes", p521, { x: b64u(Buffer.alloc(137, 1)) }, /x of the wrong length for P-521/],
    ["a curve that is not its own", p256, { crv: "P-384" }, /x of the wrong length for P-384/],
    ["a curve that nobody here knows", p256, { crv: "secp256k1" }, /crv other than/],
    ["a prototype's name for its curve", p256, { crv: "__proto__" }, /crv other than/],
    ["no x", p256, { x: undefined }, /no x in canonical base64url/],
    ["no d", p256, { d: undefined }, /no private part/],
    ["another RSA key's n", rsa, { n: otherRsa["n"] }, /p and q that do not make its n/],
    ["an even n", rsa, { n: encode(n + 1n) }, /an even n/],
    ["an n with a leading zero", rsa, { n: encode(n, 257) }, /n with a leading zero/],
    ["e 1", rsa, { e: encode(1n) }, /e that is even, below 3/],
    ["an even e", rsa, { e: encode(65_538n) }, /e that is even/],
    ["an empty e", rsa, { e: "" }, /e with a leading zero/],
    ["an e beyond 64 bits", rsa, { e: encode(2n ** 64n + 1n) }, /e that is even, below 3 or too large/],
    ["another e", rsa, { e: encode(3n) }, /d that does not match its e/],
    ["another RSA key's d", rsa, { d: otherRsa["d"] }, /d that does not match its e/],
    ["a d that is wrong for q only", rsa, { d: encode(d + (p - 1n)) }, /d that does not match its e/],
    ["a d that is right and not below n", rsa, { d: encode(d + 4n * (p - 1n) * (q - 1n)) }, /a d that /],
    ["another RSA key's p", rsa, { p: otherRsa["p"] }, /p and q that do not make its n/],
    ["p 1 and q n", rsa, { p: encode(1n), q: encode(n) }, /p and q that do not make its n/],
    ["p and q the other way round", rsa, { p: rsa["q"], q: rsa["p"] }, /dp, dq or qi that does not match/],
    ["a wrong dp", rsa, { dp: encode(big(rsa["dp"]) + 2n) }, /dp, dq or qi that does not match/],
    ["a wrong dq", rsa, { dq: encode(big(rsa["dq"]) + 2n) }, /dp, dq or qi that does not match/],
    ["a wrong qi", rsa, { qi: encode(big(rsa["qi"]) + 1n) }, /dp, dq or qi that does not match/],
    ["a qi that is not reduced", rsa, { qi: encode(big(rsa["qi"]) + p) }, /dp, dq or qi that does not match/],
    ["no q", rsa, { q: undefined }, /no q in canonical base64url/],
    ["a third prime", rsa, { oth: [{ r: "Aw", d: "Aw", t: "Aw" }] }, /more than two primes/],
    ["only a public RSA key", rsa, { d: undefined, p: undefined, q: undefined, dp: undefined, dq: undefined, qi: undefined }, /no private part/],
    ["an RSA key of 1024 bits", rsa, newKey("RSA-1024"), /an RSA key of 1024 bits/],
    ["an RSA key of 2047 bits", rsa, { n: encode(2n ** 2046n + 1n) }, /an RSA key of 2047 bits/],
    ["an RSA key of more than 8192 bits", rsa, { n: encode(2n ** 8192n + 1n) }, /an n that is too long/],
    ["no bytes", a256, { k: "" }, /other than 128, 192 or 256 bits/],
    ["15 bytes", a128, { k: b64u(Buffer.alloc(15)) }, /other than 128, 192 or 256 bits/],
    ["64 bytes", a256, { k: b64u(Buffer.alloc(64)) }, /other than 128, 192 or 256 bits/],
    ["no k", a256, { k: undefined }, /no private part/],
    ["a kid that is not the file's", a256, { kid: "another" }, /another key than its name says/],
    ["padding", a256, { k: `${a256["k"]}=` }, /no k in canonical base64url/],
    ["standard base64", a256, { k: `+/${a256["k"]?.slice(2)}` }, /no k in canonical base64url/],
    ["another spelling of its last bits", a256, { k: `${b64u(Buffer.alloc(32)).slice(0, -1)}B` }, /no k in canonical base64url/],
    ["a list for k", a256, { k: [a256["k"]] }, /no k in canonical base64url/],
    ["another key of its type", p256, newKey("P-256"), /another key than its name says/],
    ["another key of another type", p256, rsa, /another key than its name says/],
    ["another RSA key", rsa, otherRsa, /another key than its name says/],
    ["no kty", p256, { kty: undefined }, /kty other than/],
    ["kty OKP", p256, { kty: "OKP" }, /kty other than/],
    ["a number for kid", p256, { kid: 1 }, /kid that is not a short string/],
    ["a use too long", p256, { use: "x".repeat(257) }, /use that is not a short string/],
    ["a list for alg", p256, { alg: ["ECDH-ES"] }, /alg that is not a short string/],
    ["text for key_ops", p256, { key_ops: "deriveKey" }, /key_ops that are not a list of strings/],
    ["numbers for key_ops", p256, { key_ops: [1] }, /key_ops that are not a list of strings/],
    ["too many key_ops", p256, { key_ops: Array.from({ length: 17 }, () => "deriveKey") }, /key_ops that are not a list of strings/],
  ],
  (name) => `refuses a private key file with ${name}`,
  (jwk, change, reason) => assertUnusable(jwk, storeWith(jwk, JSON.stringify({ ...jwk, ...change })), reason),
);

test("takes every RSA d below n (RFC 8017, section 3.2)", () => {
  for (const same of [d % lambda, (d % lambda) + lambda]) {
    assert.ok(same < n && (same * e) % lambda === 1n);
    assertOpens(sealed.get(rsa) ?? "", storeWith(rsa, JSON.stringify({ ...rsa, d: encode(same) })).dir);
  }
});

const whole = JSON.stringify(p256);
each<[content: string | Buffer, reason: RegExp]>(
  [
    ["nothing", "", /is not JSON/],
    ["half a key", whole.slice(0, -20), /is not JSON/],
    ["something behind the key", `${whole}${whole}`, /is not JSON/],
    ["a list", `[${whole}]`, /is not a JSON object/],
    ["text", '"secret"', /is not a JSON object/],
    ["a byte order mark", `\ufeff${whole}`, /is not JSON/],
    ["bytes that are not UTF-8", Buffer.from(whole.replace("{", '{"x-":"\xff",'), "latin1"), /is not valid UTF-8/],
    ["a NUL character", whole.replace("{", '{"a":"\\u0000",'), /a NUL character/],
    ["d twice", whole.replace("{", `{"d":"${newKey("P-256")["d"]}",`), /a duplicate member name/],
    ["d twice, once escaped", whole.replace("{", `{"\\u0064":"${newKey("P-256")["d"]}",`), /an? \w+ member name/],
    ["a __proto__", whole.replace("{", '{"__proto__":{"d":"AA"},'), /a forbidden member name/],
    ["too deep a nesting", whole.replace("{", '{"a":[[[[]]]],'), /nested too deep/],
  ],
  (name) => `refuses a private key file that holds ${name}`,
  (content, reason) => assertUnusable(p256, storeWith(p256, content), reason),
);

test("takes a key file of 64 KiB and refuses one a byte larger", () => {
  assertOpens(sealed.get(p256) ?? "", storeWith(p256, whole.padEnd(65_536)).dir);
  assertUnusable(p256, storeWith(p256, whole.padEnd(65_537)), /larger than 64 KiB/);
});

/** The store with something else in the place of its key file. */
function replaced(place: (file: string) => void): { dir: string; file: string } {
  const made = storeWith(p256, whole);
  rmSync(made.file);
  place(made.file);
  return made;
}

test("refuses a FIFO, a device and a folder where a key file belongs, and does not wait for them", () => {
  const fifo = (file: string): void => assert.is(spawnSync("mkfifo", [file]).status, 0);
  for (const place of [fifo, (file: string) => mkdirSync(file), (file: string) => symlinkSync("/dev/zero", file), (file: string) => symlinkSync("/dev/null", file)]) {
    assertUnusable(p256, replaced(place), /is not a regular file/);
  }
  assertUnusable(p256, replaced((file) => symlinkSync(file, file)), /cannot read .*: ELOOP/);
  const dangling = replaced((file) => symlinkSync("/nonexistent", file));
  assert.match(assertFailure(attack(sealed.get(p256) ?? "", dangling.dir), 3), /no private key of the store opens/);
});

test("refuses a private key file that others can read, judged by what a symlink points to", () => {
  for (const mode of [0o644, 0o640, 0o604, 0o620, 0o601, 0o777]) {
    const made = storeWith(p256, whole);
    chmodSync(made.file, mode);
    assertUnusable(p256, made, new RegExp(`can be read by others \\(mode 0${mode.toString(8)}\\); run chmod 600 `));
    const linked = replaced((file) => symlinkSync(made.file, file));
    assertUnusable(p256, linked, /can be read by others/);
    chmodSync(made.file, 0o400);
    assertOpens(sealed.get(p256) ?? "", linked.dir);
  }
});

test("passes over a bad key file where another key opens", () => {
  const { dir } = storeWith(p256, "damaged");
  placeKey(dir, "good", p384);
  assertOpens(forge([{ jwk: p256, header: { kid: kidOf(p256) } }, { jwk: p384 }]), dir);
  assertOpens(forge([{ jwk: p384 }]), dir);
});

test("refuses a damaged public key file when it wraps, exit code 1, and no private one is read", () => {
  for (const [jwk, change, reason] of [
    [p256, { y: changed(p256["y"]) }, /point that is not on its curve/],
    [p256, { x: b64u(Buffer.alloc(66, 1)), y: b64u(Buffer.alloc(66, 1)) }, /x of the wrong length/],
    [p256, { ...newKey("P-256"), d: undefined }, /another key than its name says/],
    [rsa, { e: encode(1n) }, /e that is even, below 3/],
    [rsa, { n: encode(n + 2n) }, /another key than its name says/],
  ] as const) {
    const dir = temporaryFolder();
    const kid = placeKey(dir, "key", jwk);
    rmSync(join(dir, "private"), { recursive: true });
    const file = join(dir, "public", `${kid}.jwk`);
    assert.type(wrap(dir, ["key"]).toString(), "string");
    writeFileSync(file, JSON.stringify({ ...(JSON.parse(readFileSync(file, "utf8")) as Header), ...change }));
    const line = assertFailure(run(["--keystore", dir], { input: wrapRequest(["key"]), timeout: 5000 }), 1);
    assert.ok(line.includes(file), line);
    assert.match(line, reason);
  }
});

test("leaves the store as it was, whatever it was asked", () => {
  const made = storeWith(p256, whole);
  const before = statSync(made.file).mtimeMs;
  assert.is(unwrap(made.dir, JSON.stringify(sealed.get(p256))), OPTSDATA);
  assert.is(readFileSync(made.file, "utf8"), whole);
  assert.is(statSync(made.file).mtimeMs, before);
});

test("shows no private part of a key that lies among the public ones", () => {
  const dir = temporaryFolder();
  for (const [name, jwk] of Object.entries(keys)) {
    const kid = placeKey(dir, name, jwk);
    copyFileSync(join(dir, "private", `${kid}.jwk`), join(dir, "public", `${kid}.jwk`));
    const shown = succeed(["show", name, "--json", "--keystore", dir]) + succeed(["list", "--json", "--keystore", dir]);
    for (const member of ["d", "p", "q", "dp", "dq", "qi", "k"]) assert.not.match(shown, new RegExp(`"${member}":|${jwk[member] ?? "no such member"}`));
    assert.type(wrap(dir, [name]).toString(), "string");
  }
});

test("computes the thumbprint of RFC 7638, section 3.1", () => {
  const jwk = checkJwk(
    {
      kty: "RSA",
      n: "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
      e: "AQAB",
      alg: "RS256",
      kid: "2011-04-29",
    },
    fail,
  ) as RsaJwk;
  assert.is(thumbprint(jwk), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
});

test("computes the thumbprint of an EC key over crv, kty, x and y only (RFC 7638, section 3.2)", () => {
  for (const jwk of [p256, p384, p521]) {
    const key = checkJwk({ ...jwk, use: "enc", kid: "x" }, fail);
    assert.is(key.kty === "EC" && thumbprint(key), thumbprintOf(jwk));
  }
});

test("the public half holds no member that is secret, and keeps what says how to use the key", () => {
  const common = { kid: "k", use: "enc", key_ops: ["deriveKey"], alg: "x", created: "2024-01-01T00:00:00Z" };
  for (const jwk of Object.values(keys)) {
    const key = checkJwk({ ...jwk, ...common, secret: "s" }, fail);
    const half = publicJwk(key);
    assert.ok(isPrivate(key));
    assert.not.ok(isPrivate(half));
    const shown: Record<string, readonly string[]> = { EC: ["kty", "crv", "x", "y"], RSA: ["kty", "n", "e"], oct: ["kty"] };
    assert.equal({ ...half }, { ...Object.fromEntries((shown[key.kty] ?? []).map((name) => [name, jwk[name]])), ...common });
    assert.equal(checkJwk(half, fail), half);
    if (key.kty === "oct") continue;
    assert.equal(toPublicKey(key).export({ format: "jwk" }), toPublicKey(publicJwk(key) as typeof key).export({ format: "jwk" }));
    assert.equal({ ...toPrivateKey(key).export({ format: "jwk" }) }, jwk);
    if (key.kty === "EC") assert.equal(point(key), Buffer.concat([Buffer.of(4), bytesOf(key.x), bytesOf(key.y)]));
  }
});

test("takes every key that node:crypto makes, 200 of each curve", () => {
  for (const crv of ["P-256", "P-384", "P-521"]) {
    for (let round = 0; round < 200; round++) assert.ok(isPrivate(checkJwk(newKey(crv), fail)));
  }
});

test.run();
