// Private keys locked for a Tang server: real tangd and clevis, whether the server is the one that is meant, and TLS.

import { once } from "node:events";
import { copyFileSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { secretFiles } from "../../src/at-rest/secret-files.ts";
import { atRestBySecret } from "../../src/at-rest/secret.ts";
import { atRestByTang, tangServer } from "../../src/at-rest/tang.ts";
import { generateJwk, thumbprint } from "../../src/jwk/jwk.ts";
import { entries } from "../../src/keystore/listing.ts";
import { openStore } from "../../src/keystore/store.ts";
import { assertCheck, examine, problems } from "../support/checks.ts";
import { openssl, selfSigned } from "../support/certificates.ts";
import { secretFile, temporaryFolder, tree } from "../support/folders.ts";
import { keygenHere, lockForTang, lockHere, refusedHere, unlockHere } from "../support/here.ts";
import { endurance, testWith, use } from "../support/parts.ts";
import { assertFailure, runBeside } from "../support/program.ts";
import { exec, OPTSDATA, unwrap, unwrapRequest, wrap } from "../support/requests.ts";
import {
  assertClosed,
  assertOpens,
  commands,
  kidOf,
  makeStore,
  masterKeyFile,
  noSecrets,
  readJson,
  secretsOf,
  wrapHere,
  type Members,
} from "../support/stores.ts";
import { header, lockedFile, LyingTang, serverOf, Tang, TANG_PARTS, tangParts } from "../support/tang.ts";

const withTang = (name: string, body: (parts: NonNullable<typeof tangParts>) => Promise<void>): void =>
  testWith(tangParts, TANG_PARTS, name, body);

const FULL = endurance(100) === 100;

let shared: Promise<Tang> | undefined;
/** A server for the tests that leave it as it is. */
const steady = async (): Promise<Tang> => await (shared ??= Tang.started());

/** A store locked for a real server, and an annotation that it opens. */
async function lockedStore(
  tang: Tang,
  ...names: readonly string[]
): Promise<{ dir: string; annotation: Buffer; jwk: Members }> {
  const dir = makeStore("alice", ...names);
  const annotation = await wrapHere(dir, "alice");
  const jwk = readJson(join(dir, "private", `${kidOf(dir, "alice")}.jwk`));
  await lockForTang(dir, tang.url);
  return { dir, annotation, jwk };
}

withTang("locks current, retired and removed keys, shows nothing secret, and unlocks them as they were", async () => {
  const tang = await Tang.started();
  const dir = makeStore("alice", "bob:--type oct", "carol:--curve P-384");
  const cli = commands(dir);
  cli("rotate", "alice");
  const annotations = [await wrapHere(dir, "alice"), await wrapHere(dir, "bob")];
  cli("remove", "carol", "--force");
  const before = tree(dir);
  const keys = Object.keys(before).filter((file) => /^(private|removed)\/[^.]+\.jwk$/.test(file));
  const secrets = keys.flatMap((file) => secretsOf(readJson(join(dir, file))));

  const locked = cli.run(["lock", ...serverOf(tang)]);
  assert.equal(
    [locked.code, locked.stdout, locked.stderr],
    [0, "", `locked 4 private keys for the Tang server ${tang.url}\n`],
  );
  assert.equal(Object.keys(tree(dir)).filter((file) => file.endsWith(".jwe")).length, 4);
  const everything = Object.values(tree(dir)).join("\n");
  for (const secret of secrets) assert.not.match(everything, secret);
  for (const [file, content] of Object.entries(tree(dir))) if (file.endsWith(".jwe")) assert.match(content, /^100600 /);
  for (const annotation of annotations) await assertOpens(dir, annotation);
  assert.is(unwrap(dir, wrap(dir, ["bob"])), OPTSDATA, "who wraps with a symmetric key needs it too");
  assert.match(cli("list", "--json"), '"private": "locked"');
  assert.match(cli("show", "alice", "--json"), '"private": "locked"');
  assert.is(cli("export", "alice", "--private").includes('"d"'), true);

  assert.match(cli.run(["lock", ...serverOf(tang)]).stderr, "locked 0 private keys");
  assert.is(cli.run(["unlock"]).stderr, "unlocked 4 private keys\n");
  for (const file of keys)
    assert.equal(JSON.parse((tree(dir)[file] ?? "").slice(7)), JSON.parse((before[file] ?? "").slice(7)));
  await tang.stop();
  for (const annotation of annotations) await assertOpens(dir, annotation); // no server is needed any more
});

for (const crv of ["P-256", "P-384", "P-521"] as const) {
  withTang(
    `clevis opens what we lock and we open what clevis locks, with an exchange key on ${crv}`,
    async ({ clevis, jose }) => {
      const tang = await Tang.started();
      if (crv !== "P-521") {
        tang.hideKeys();
        tang.addKey(jose, { alg: "ECMR", crv });
        tang.addKey(jose, { alg: "ES384" });
        tang.addKey(jose, { alg: "ES256" });
      }
      const { dir, annotation, jwk } = await lockedStore(tang);
      const path = lockedFile(dir, "alice");
      const ours = header(path);
      assert.is((ours["epk"] as Members)["crv"], crv);
      assert.equal(JSON.parse(use(clevis, ["decrypt"], readFileSync(path))), jwk);

      writeFileSync(
        path,
        use(clevis, ["encrypt", "tang", JSON.stringify({ url: tang.url }), "-y"], JSON.stringify(jwk)),
      );
      const theirs = header(path);
      assert.equal(
        { ...theirs, epk: undefined },
        { ...ours, epk: undefined },
        "the same header but for the ephemeral key",
      );
      await assertOpens(dir, annotation);
      await keygenHere(dir, "bob");
      assert.equal({ ...header(lockedFile(dir, "bob")), epk: undefined }, { ...ours, epk: undefined });
      assert.is(await unlockHere(dir), 2);
      assert.equal(readJson(path.replace(/e$/, "k")), jwk);
    },
  );
}

withTang("a stopped server: one line that names it, exit code 3, nothing changed; started again it opens", async () => {
  const tang = await Tang.started();
  const { dir, annotation } = await lockedStore(tang);
  await tang.stop();
  const line = assertFailure(exec(dir, annotation), 3);
  assert.is(await assertClosed(dir, annotation), line);
  assert.match(
    line,
    `locked key ${lockedFile(dir, "alice")}: the Tang server ${tang.url} does not answer: ECONNREFUSED; start it`,
  );
  for (const args of [
    ["lock", ...serverOf(tang)],
    ["rotate", "alice"],
    ["export", "alice", "--private"],
  ]) {
    assert.match(commands(dir).refuses(3, args), `the Tang server ${tang.url} does not answer`);
  }
  for (const work of [async () => await unlockHere(dir), async () => await keygenHere(dir, "bob")])
    assert.match(await refusedHere(dir, 3, work), `the Tang server ${tang.url} does not answer`);
  await wrapHere(dir, "alice");
  const checks = examine(dir);
  assertCheck(
    checks,
    "store.locked",
    "fail",
    /locked key .*: the Tang server http:.* does not answer: ECONNREFUSED; start it/,
  );
  assertCheck(checks, "round-trip", "fail", /does not answer/);
  await tang.start();
  assert.is(unwrap(dir, annotation), OPTSDATA);
});

withTang("doctor says that keys are locked for a server, and that it opened them", async () => {
  const tang = await steady();
  const { dir } = await lockedStore(tang, "bob");
  const checks = examine(dir);
  assert.equal(problems(checks), []);
  assertCheck(
    checks,
    "store.locked",
    "ok",
    new RegExp(`2 private keys are locked for the Tang server ${tang.url}, which is needed each time and opened them`),
  );
  assertCheck(checks, "round-trip", "ok", /unwrapped/);
});

withTang("new keys are locked for the same server, with the keys that it advertised then", async ({ clevis }) => {
  const tang = await Tang.started();
  const { dir, annotation } = await lockedStore(tang);
  const cli = commands(dir);
  const first = tangServer(readFileSync(lockedFile(dir, "alice")));
  tang.hideKeys();
  tang.addKeys();
  const file = secretFile(JSON.stringify(generateJwk({ type: "rsa", bits: 2048 })));
  await keygenHere(dir, "bob");
  for (const args of [
    ["keygen", "carol", "--type", "oct"],
    ["import", "dave", file],
    ["rotate", "alice"],
  ])
    cli(...args);
  assert.equal(
    entries(openStore(dir, noSecrets)).map((entry) => entry.private),
    Array.from({ length: 5 }, () => "locked"),
  );
  assert.equal(
    readdirSync(join(dir, "private")).filter((one) => !one.endsWith(".jwe")),
    [],
  );
  for (const name of ["alice", "bob", "carol", "dave"]) {
    assert.equal(tangServer(readFileSync(lockedFile(dir, name))), first);
    await assertOpens(dir, await wrapHere(dir, name));
    if (!FULL && name !== "alice" && name !== "carol") continue; // each start of clevis takes a second
    assert.is(
      (JSON.parse(use(clevis, ["decrypt"], readFileSync(lockedFile(dir, name)))) as Members)["kid"],
      kidOf(dir, name),
    );
  }
  await assertOpens(dir, annotation);
});

withTang(
  "a changed signing key is refused, keys that the server retired still open, and those that it lost are told",
  async () => {
    const tang = await Tang.started();
    const { dir, annotation } = await lockedStore(tang);
    const [url, former] = [tang.url, tang.thumbprint];
    await unlockHere(dir);
    tang.hideKeys();
    tang.addKeys();
    assert.match(
      commands(dir).refuses(1, ["lock", "--tang", url, "--thumbprint", former]),
      `${former} is not a signing key of the Tang server ${url}; run tang-show-keys on that server`,
    );

    const other = await lockedStore(tang);
    const second = serverOf(tang);
    tang.hideKeys();
    tang.addKeys();
    await assertOpens(other.dir, other.annotation);
    assert.match(commands(other.dir).refuses(1, ["lock", ...second]), "is not a signing key of the Tang server");
    assert.match(
      commands(other.dir).refuses(1, ["lock", ...serverOf(tang)]),
      "or the server has other signing keys now; run ocicrypt-keystore unlock first",
    );
    for (const file of readdirSync(tang.db).filter((one) => one.startsWith("."))) rmSync(join(tang.db, file));
    assert.match(
      await assertClosed(other.dir, other.annotation),
      `the Tang server ${url} no longer has the key that this file was locked with; put the server's old key files back`,
    );
    await assertOpens(dir, annotation);
  },
);

withTang("a server with several signing keys is trusted by any of them", async ({ jose }) => {
  const tang = await Tang.started();
  for (const alg of ["ES256", "ES384", "ES512"]) tang.addKey(jose, { alg });
  const printed = use(
    jose,
    ["jwk", "thp", "-a", "S256", "-i-"],
    JSON.stringify({
      keys: readdirSync(tang.db)
        .map((file) => readJson(join(tang.db, file)))
        .filter(({ alg }) => alg !== "ECMR"),
    }),
  );
  const thumbprints = printed.trim().split("\n");
  assert.is(thumbprints.length, 4);
  const dir = makeStore("alice");
  const annotation = await wrapHere(dir, "alice");
  for (const one of thumbprints) {
    assert.match(
      commands(dir).run(["lock", "--tang", `${tang.url}/`, "--thumbprint", one]).stderr,
      one === thumbprints[0] ? "locked 1 private key" : "locked 0 private keys",
    );
    await assertOpens(dir, annotation);
  }
});

withTang("does not mix with a secret", async () => {
  const tang = await steady();
  const { dir } = await lockedStore(tang);
  const masterKey = masterKeyFile();
  const withMasterKey = ["--master-key-file", masterKey];
  assert.match(
    commands(dir).refuses(1, ["lock", ...withMasterKey]),
    `keys of ${dir} are locked with a Tang server; run ocicrypt-keystore unlock first`,
  );
  const other = makeStore("alice");
  await lockHere(other, atRestBySecret("master key", secretFiles({ masterKeyFile: masterKey })));
  assert.match(
    commands(other).refuses(1, ["lock", ...serverOf(tang)]),
    "are locked with a master key; run ocicrypt-keystore unlock first",
  );
  assert.match(
    commands(other).refuses(2, ["lock", ...serverOf(tang), ...withMasterKey]),
    "--tang cannot be combined with --passphrase-file or --master-key-file",
  );
  const second = await Tang.started();
  assert.match(commands(dir).refuses(1, ["lock", ...serverOf(second)]), "are locked for another Tang server");
});

withTang("a locked key in removed/ is not imported, and says why", async () => {
  const tang = await steady();
  const { dir } = await lockedStore(tang);
  assert.match(
    commands(dir).refuses(1, ["import", "bob", lockedFile(dir, "alice")]),
    "the key to import is locked: run ocicrypt-keystore unlock",
  );
  assert.match(
    commands(dir).refuses(1, ["import", "bob", secretFile(readFileSync(lockedFile(dir, "alice")))]),
    "is a JWE that clevis wrote; nothing was imported; run clevis decrypt < FILE | ocicrypt-keystore import NAME -",
  );
});

withTang("swapped files are told", async () => {
  const tang = await steady();
  const { dir, annotation } = await lockedStore(tang, "bob");
  copyFileSync(lockedFile(dir, "bob"), lockedFile(dir, "alice"));
  assert.match(assertFailure(exec(dir, annotation), 3), "holds another key than its file name says");
});

test("asks nobody for an annotation, though it is locked as a key is", async () => {
  const tang = await LyingTang.started();
  const dir = makeStore("alice");
  await lockForTang(dir, tang.url);
  const lock = atRestByTang(tangServer(readFileSync(lockedFile(dir, "alice"))));
  const annotation = await lock.seal(Buffer.from(OPTSDATA));
  const before = tang.requests;
  assert.is((await lock.open(annotation))?.toString(), OPTSDATA, "as a file it would open");
  assert.is(tang.requests, before + 1);
  assert.match(
    assertFailure(await runBeside(["--keystore", dir], { input: unwrapRequest(annotation) }), 3),
    "this provider can open none of the annotation's recipients (alg ECDH-ES)",
  );
  assert.is(tang.requests, before + 1);
});

// Whether the server is the one that is meant.

for (const [name, args, exitCode, line] of [
  [
    "another thumbprint",
    () => ["--thumbprint", "A".repeat(43)],
    1,
    /A{43} is not a signing key of the Tang server http:.*; run tang-show-keys/,
  ],
  [
    "its exchange key's thumbprint",
    (tang: LyingTang) => ["--thumbprint", thumbprint(tang.exchangePoint)],
    1,
    /is not a signing key of the Tang server/,
  ],
  [
    "no thumbprint and no terminal",
    () => [],
    2,
    /there is no terminal to ask whether the Tang server http:.* is trusted; give its signing key with --thumbprint THUMBPRINT: run tang-show-keys/,
  ],
] as const) {
  test(`refuses a server with ${name}, and locks nothing`, async () => {
    const tang = await LyingTang.started();
    const dir = makeStore("alice");
    const before = tree(dir);
    assert.match(
      assertFailure(await runBeside(["lock", "--keystore", dir, "--tang", tang.url, ...args(tang)]), exitCode),
      line,
    );
    assert.equal(tree(dir), before);
  });
}

for (const url of [
  "file:///etc/passwd",
  "ftp://host/",
  "http://",
  "http:///adv",
  "http://user:secret@host/",
  "http://host/?x",
  "http://host/#x",
  "http://ho st/",
  "http://host/\u001b[2J",
  "http://h\u00f6st/",
  "https:\\\\host",
  `http://${"a".repeat(2000)}`,
  "http://host:99999",
]) {
  test(`refuses ${JSON.stringify(url.slice(0, 40))} as a server's URL`, async () => {
    const dir = makeStore("alice");
    assert.match(
      url === "http://" || url.includes("\u001b")
        ? commands(dir).refuses(2, ["lock", "--tang", url, "--thumbprint", "x"])
        : await refusedHere(dir, 2, async () => await lockForTang(dir, url)),
      /is not a Tang server's URL; use http:\/\/HOST/,
    );
  });
}

test("shows no password of a URL", async () => {
  const dir = makeStore("alice");
  for (const url of ["http://user:secret@host/", "http://user:se/cret@host", "user:secret@host"]) {
    const line = url.startsWith("user")
      ? commands(dir).refuses(2, ["lock", "--tang", url, "--thumbprint", "x"])
      : await refusedHere(dir, 2, async () => await lockForTang(dir, url));
    assert.match(line, /"(http:\/\/)?…@host\/?" is not a Tang server's URL/);
    assert.not.match(line, "cret");
  }
});

test("a thumbprint without a server is wrong usage, and there must be a store", () => {
  assert.match(
    commands(makeStore("alice")).refuses(2, ["lock", "--thumbprint", "x"]),
    "name the server with --tang URL",
  );
  const dir = join(temporaryFolder(), "none");
  assert.match(commands(dir).refuses(1, ["lock", "--tang", "http://127.0.0.1:1"]), `no key store at ${dir}`);
  assert.not.ok(existsSync(dir));
});

// TLS, by the machine's own authorities.

testWith(
  openssl,
  "openssl",
  "asks a server over https whose certificate the machine trusts, and no other",
  async () => {
    const { cert, key } = selfSigned();
    const { createServer: createTlsServer } = await import("node:https");
    const tang = await LyingTang.started();
    const front = createTlsServer(
      { key: readFileSync(key), cert: readFileSync(cert) },
      (request, response) => void tang.server.emit("request", request, response),
    )
      .listen(0, "localhost")
      .unref();
    await once(front, "listening");
    const url = `https://localhost:${(front.address() as { port: number }).port}`;
    const dir = makeStore("alice");
    const annotation = await wrapHere(dir, "alice");
    const args = ["lock", "--tang", url, "--thumbprint", tang.thumbprint, "--keystore", dir];
    assert.match(
      assertFailure(await runBeside(args), 3),
      `the Tang server ${url} does not answer: DEPTH_ZERO_SELF_SIGNED_CERT`,
    );
    const env = { SSL_CERT_FILE: cert };
    assert.is((await runBeside(args, { env })).stderr, `locked 1 private key for the Tang server ${url}\n`);
    assert.is((await runBeside(["--keystore", dir], { env, input: unwrapRequest(annotation) })).code, 0);
    assertFailure(await runBeside(["--keystore", dir], { input: unwrapRequest(annotation) }), 3);
  },
);

test.run();
