// Whom a wrap request is for: the tables of PROTOCOL.md, and how a provider among several is told.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { KeystoreError } from "../../src/errors.ts";
import { entriesAlike } from "../../src/exec/entries.ts";
import { providerName, requestedRecipients, type ProviderHints } from "../../src/protocol/recipients.ts";
import { secretFile } from "../support/folders.ts";
import { assertFailure, BINARY, run, succeed, type Result } from "../support/program.ts";
import { wrap, wrapRequest } from "../support/requests.ts";
import { kidOf, makeStore } from "../support/stores.ts";

const map = (parameters: Readonly<Record<string, readonly (string | Buffer)[]>>): Map<string, Buffer[]> =>
  new Map(Object.entries(parameters).map(([name, values]) => [name, values.map((value) => Buffer.from(value))]));
const started = (startedAs: string, provider?: string): ProviderHints => ({ startedAs, provider });
const here = started("/usr/lib/ocicrypt-keystore");

/** Runs with a file as the client's ocicrypt.conf. */
function withConf<T>(path: string | undefined, body: () => T): T {
  const name = "OCICRYPT_KEYPROVIDER_CONFIG";
  const former = process.env[name];
  if (path === undefined) delete process.env[name];
  else process.env[name] = path;
  try {
    return body();
  } finally {
    if (former === undefined) delete process.env[name];
    else process.env[name] = former;
  }
}

function refused(parameters: Map<string, Buffer[]>, hints: ProviderHints): string {
  try {
    requestedRecipients(parameters, hints);
  } catch (error) {
    assert.ok(error instanceof KeystoreError, String(error));
    assert.equal([error.code, error.exitCode], ["request", 1]);
    return `${error.message}; ${error.hint}`;
  }
  throw new Error("taken");
}

const OCICRYPT_NAMES = ["pubkeys", "privkeys", "privkeys-passwords", "x509s", "gpg-recipients", "gpg-pubkeyringfile", "gpg-privatekeys", "gpg-privatekeys-passwords", "pkcs11-pubkeys", "pkcs11-yamls", "pkcs11-config"];

for (const [flags, values, expected] of [
  ["provider:ks", ["Enabled"], [undefined]],
  ["provider:ks:", [""], [undefined]],
  ["no value at all", [], [undefined]],
  ["provider:ks:a", ["a"], ["a"]],
  ["provider:ks:a:b", ["a:b"], ["a", "b"]],
  ["provider:ks:a and provider:ks:b", ["a", "b"], ["a", "b"]],
  ["provider:ks:a:b and provider:ks:c", ["a:b", "c"], ["a", "b", "c"]],
  ["provider:ks and provider:ks:a", ["Enabled", "a"], [undefined, "a"]],
  ["provider:ks: and provider:ks:", ["", ""], [undefined, undefined]],
  ["provider:ks:enabled, which is a name", ["enabled"], ["enabled"]],
  ["provider:ks:é", ["é"], ["é"]],
] as const) {
  test(`${flags}: the recipients that PROTOCOL.md says`, () => {
    assert.equal(requestedRecipients(map({ ks: values }), here), expected);
  });
}

test("never makes the default key of an empty piece, or of Enabled among others", () => {
  const store = makeStore("alice");
  for (const value of [":", "alice:", ":alice", "alice::alice", "Enabled:alice", "alice:Enabled"]) {
    assert.equal(requestedRecipients(map({ ks: [value] }), here), value.split(":"));
    assert.match(assertFailure(run(["--keystore", store], { input: wrapRequest([value]), timeout: 5000 }), 1), /unknown recipient "(Enabled)?": /);
  }
});

test("names a default key and the same key by name once", () => {
  const store = makeStore("alice", "bob");
  const kids = (values: readonly string[]): string[] => (JSON.parse(wrap(store, values).toString()) as { recipients: { header: { kid: string } }[] }).recipients.map(({ header }) => header.kid);
  assert.equal(kids(["Enabled"]), [kidOf(store, "alice")]);
  assert.equal(kids([]), [kidOf(store, "alice")]);
  assert.equal(kids(["Enabled", "alice", "", kidOf(store, "alice")]), [kidOf(store, "alice")]);
  assert.equal(kids(["bob", "Enabled"]), [kidOf(store, "bob"), kidOf(store, "alice")]);
});

test("passes over the entries of ocicrypt's other wrappers, secrets and all", () => {
  for (const name of OCICRYPT_NAMES) {
    assert.equal(requestedRecipients(map({ [name]: [Buffer.from([0xff])], ks: ["a"] }), here), ["a"]);
    assert.match(refused(map({ [name]: ["a"] }), here), /^the request names no key provider; /);
  }
  assert.equal(requestedRecipients(map({ ...Object.fromEntries(OCICRYPT_NAMES.map((name) => [name, ["x"]])), ks: ["a"] }), here), ["a"]);
  assert.match(refused(map({}), here), /^the request names no key provider; encrypt with provider:NAME/);
});

test("takes the only provider, whatever it is called and whatever started it", () => {
  for (const name of ["ks", "simplecrypt", "ocicrypt-keystore", "toString", "__proto", "é", "Pubkeys", ""]) assert.equal(requestedRecipients(map({ [name]: ["a"] }), started("/x/other")), ["a"]);
});

test("takes among several the one that it was started by, with or without ocicrypt- in front", () => {
  const several = map({ aaa: ["1"], ks: ["2"], "ocicrypt-zzz": ["3"], pubkeys: ["4"] });
  for (const path of ["ks", "/usr/lib/ks", "./ks", "/usr/lib/ocicrypt-ks", "ocicrypt-ks"]) assert.equal(requestedRecipients(several, started(path)), ["2"], path);
  assert.equal(requestedRecipients(several, started("/bin/ocicrypt-zzz")), ["3"]);
  assert.equal(requestedRecipients(several, started("/bin/aaa")), ["1"]);
  for (const path of ["/bin/zzz", "/ks/other", "/bin/ks2", "/bin/KS", "/bin/ocicrypt-", "/bin/ocicrypt-ocicrypt-ks", "/bin/pubkeys", ""]) {
    assert.is(refused(several, started(path)), 'the request names several providers ("aaa", "ks", "ocicrypt-zzz"), and none has this program\'s name; set the name: "args": ["--provider", "NAME"] in ocicrypt.conf, or serve --provider NAME');
  }
});

/** An ocicrypt.conf whose entries start programs with args. */
function conf(entries: Readonly<Record<string, readonly [path: string, ...args: string[]]>>): string {
  const providers = Object.entries(entries).map(([name, [path, ...args]]) => [name, { cmd: { path, args } }]);
  return secretFile(JSON.stringify({ "key-providers": Object.fromEntries(providers) as unknown }));
}

test("refuses to guess among entries of ocicrypt.conf that start it alike, even if one has its name", () => {
  const parameters = ["keystore", "second"];
  const [binary, other] = ["/usr/lib/ocicrypt-keystore", "/usr/lib/other"];
  const alike = /^the request names several providers, and ocicrypt.conf starts this program without a name for "keystore", "second"; set the name: "args": \["--provider", "NAME"\] in ocicrypt.conf/;
  const wrong = /starts this program without a name for "second"; /;
  for (const [entries, expected] of [
    [{ keystore: [binary], second: [binary] }, alike],
    [{ keystore: [binary, "--keystore", "/a"], second: [binary, "--keystore", "/b"] }, alike],
    [{ keystore: [binary, "--provider", "keystore"], second: [binary] }, wrong],
    [{ keystore: [other], second: [binary] }, wrong],
    [{ second: [binary] }, wrong],
    [{ keystore: [binary], second: [binary, "--provider", "second"] }, "keystore"],
    [{ keystore: [binary], second: [binary, "--provider=second"] }, "keystore"],
    [{ keystore: [binary], second: [other] }, "keystore"],
    [{ keystore: [binary], third: [binary] }, "keystore"],
    [{ keystore: [binary] }, "keystore"],
    [{}, "keystore"],
  ] as const) {
    const file = conf(entries);
    const hints = { ...started(binary), entriesAlike: (path: string) => withConf(file, () => entriesAlike(path)) };
    const what = JSON.stringify(entries);
    if (typeof expected === "string") assert.is(providerName(parameters, hints), expected, what);
    else assert.match(refused(map({ keystore: ["1"], second: ["2"] }), hints), expected, what);
  }
  const path = JSON.stringify(binary);
  for (const text of [
    `{"Key-Providers":{"keystore":{"cmd":{"path":${path}}},"second":{"CMD":{"Path":${path},"ARGS":[]}}}}`,
    `{"\u212aey-provider\u017f":{"keystore":{"cmd":{"path":${path}}},"second":{"cmd":{"path":${path}}}}}`,
    `{"key-providers":{"keystore":{"cmd":{"path":${path}}},"second":{"cmd":{"path":${path}},"cmd":{"args":[]}}}}`,
  ]) {
    assert.equal(withConf(secretFile(text), () => entriesAlike(binary)), ["keystore", "second"], text);
  }
  for (const text of ["", "no JSON", `{"x":"${"x".repeat(2_000_000)}"}`]) {
    assert.throws(() => withConf(secretFile(text), () => entriesAlike(binary)), /cannot be read to tell/, text.slice(0, 9));
  }
  for (const text of ["[]", '{"key-providers":[]}', '{"key-providers":{"keystore":1,"second":{"cmd":null}}}']) {
    assert.equal(withConf(secretFile(text), () => entriesAlike(binary)), [], text);
  }
  assert.equal(withConf("/nowhere", () => entriesAlike(binary)), []);
  assert.equal(withConf(undefined, () => entriesAlike(binary)), []);
});

test("one binary under two names in ocicrypt.conf does not wrap for the first alone", () => {
  const store = makeStore("alice", "bob");
  const env = { OCICRYPT_KEYPROVIDER_CONFIG: conf({ keystore: [BINARY], second: [BINARY] }) };
  const request = JSON.parse(wrapRequest(["alice"])) as { keywrapparams: { ec: { Parameters: Record<string, string[]> } } };
  request.keywrapparams.ec.Parameters["second"] = [Buffer.from("bob").toString("base64")];
  const wrapAs = (...args: readonly string[]): Result => run(["--keystore", store, ...args], { input: JSON.stringify(request), env });
  assert.match(assertFailure(wrapAs(), 1), /without a name for "keystore", "second"; set the name: "args"/);
  assert.is(wrapAs("--provider", "second").code, 0);
});

test("takes the whole name before the one without ocicrypt-", () => {
  for (const parameters of [{ ks: ["1"], "ocicrypt-ks": ["2"] }, { "ocicrypt-ks": ["2"], ks: ["1"] }]) {
    assert.equal(requestedRecipients(map(parameters), started("/bin/ocicrypt-ks")), ["2"]);
    assert.equal(requestedRecipients(map(parameters), started("/bin/ks")), ["1"]);
  }
});

test("takes the one that --provider names, and no other", () => {
  const several = map({ aaa: ["1"], ks: ["2"], toString: ["3"] });
  assert.equal(requestedRecipients(several, started("/bin/aaa", "ks")), ["2"]);
  assert.equal(requestedRecipients(several, started("/bin/aaa", "toString")), ["3"]);
  for (const provider of ["other", "valueOf", "__proto__", "constructor", "KS", "ocicrypt-ks"]) {
    assert.match(refused(map({ ks: ["2"] }), started("/bin/ks", provider)), `the request names no provider "${provider}"; `);
  }
  assert.is(refused(map({ ks: [] }), started("ks", "a\n\u202eb")), 'the request names no provider "a\\u000a\\u202eb"; set --provider to the name that this entry has in ocicrypt.conf');
});

test("shows at most eight providers, each cut and escaped", () => {
  const many = map(Object.fromEntries(Array.from({ length: 100 }, (_, at) => [`${at}\n${"x".repeat(200)}`, []])));
  const line = refused(many, here);
  assert.is(line.match(/\\u000ax+…/g)?.length, 8);
  assert.ok(line.length < 800, line);
});

test("refuses a value that is not text, of its own provider only", () => {
  assert.is(refused(map({ ks: ["a", Buffer.from([0x61, 0xff])] }), here), 'provider "ks" got a value that is not text; name a key: provider:NAME:KEY');
  assert.equal(requestedRecipients(map({ ks: ["a"], other: [Buffer.from([0xff])] }), started("ks")), ["a"]);
});

test("refuses a provider that is named after a prototype", () => {
  const store = makeStore("alice");
  for (const name of ["__proto__", "constructor", "prototype"]) {
    const request = wrapRequest(["alice"], "ks").replace('"ks":', `"${name}":`);
    for (const args of [[], ["--provider", name]]) assert.match(assertFailure(run(["--keystore", store, ...args], { input: request, timeout: 5000 }), 1), /forbidden member name/);
  }
  assert.match(succeed(["--keystore", store, "--provider", "toString"], { input: wrapRequest(["alice"], "toString") }), /annotation/);
});

test.run();
