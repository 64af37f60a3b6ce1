// import --holder, and every other command on a key that a command holds.

import { chmodSync, existsSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { generateJwk } from "../../src/jwk/jwk.ts";
import { assertCheck, examine, problems } from "../support/checks.ts";
import { secretFile, temporaryFolder, tree } from "../support/folders.ts";
import {
  held,
  heldStore,
  holds,
  linesOf,
  newEc,
  newRsa,
  openssl,
  script,
  writeHolder,
  type Outside,
} from "../support/holders.ts";
import { testWith, use } from "../support/parts.ts";
import { assertFailure, run, runHere, throughBinary } from "../support/program.ts";
import { OPTSDATA, unwrap, wrap, wrapRequest } from "../support/requests.ts";
import { commands, kidOf, makeStore, masterKeyFile, readJson, secretsOf } from "../support/stores.ts";

runHere();

const RSA = newRsa();
const EC = newEc();
const OCT = generateJwk({ type: "oct" });
const newStore = (): string => join(temporaryFolder(), "store");
const algOf = (annotation: Buffer): unknown =>
  (JSON.parse(annotation.toString()) as { recipients: { header: { alg: string } }[] }).recipients[0]?.header.alg;
const holderOf = (dir: string, name = "hsm"): string => join(dir, "private", `${kidOf(dir, name)}.holder`);
const publicOf = (dir: string, name = "hsm"): string => join(dir, "public", `${kidOf(dir, name)}.jwk`);
const forced = (op: "rsa-oaep-256" | "rsa-oaep" | "ecdh", key: Outside): string[] => [
  "import",
  "--force",
  ...held(op, key).slice(1),
];
/** What holds a symmetric key: OpenSSL's AES key wrap. */
const heldOct = (): { file: string; command: string } => ({
  file: secretFile(JSON.stringify(OCT)),
  command: script(
    `exec ${openssl ?? ""} enc -d -id-aes256-wrap -iv A6A6A6A6A6A6A6A6 -K ${Buffer.from(OCT.kty === "oct" ? (OCT.k ?? "") : "", "base64url").toString("hex")}`,
  ),
});

for (const [op, key, alg] of [
  ["rsa-oaep-256", RSA, "RSA-OAEP-256"],
  ["rsa-oaep", RSA, "RSA-OAEP"],
  ["ecdh", EC, "ECDH-ES+A256KW"],
] as const) {
  testWith(
    openssl,
    "openssl",
    `import --holder ${op} stores the public key and the command, and it opens what is wrapped for it`,
    () => {
      const dir = newStore();
      const kid = throughBinary(() => commands(dir)(...held(op, key))).trim();
      assert.is(kidOf(dir, "hsm"), kid);
      assert.equal(readJson(holderOf(dir)), {
        kid,
        ops: { [op]: (readJson(holderOf(dir))["ops"] as Record<string, unknown>)[op] },
      });
      assert.is(statSync(holderOf(dir)).mode & 0o7777, 0o600);
      assert.equal(readdirSync(join(dir, "private")), [`${kid}.holder`]);
      const annotation = wrap(dir, ["hsm"]);
      assert.is(algOf(annotation), alg);
      assert.is(
        throughBinary(() => unwrap(dir, annotation)),
        OPTSDATA,
      );
    },
  );
}

test("the command behind -- arrives untouched, and its trial gets {kid} too", () => {
  const dir = newStore();
  const log = join(temporaryFolder(), "log");
  const program = script(`printf '%s\\n' "$@" > ${log}; exec ${holds("rsa-oaep-256", RSA).join(" ")}`);
  const args = [
    "--with-dashes",
    "-x",
    "--",
    "",
    "-",
    '"quoted"',
    "'quoted'",
    "--keystore",
    "/nowhere",
    "--holder=ecdh",
    "a b",
    "1e3",
    "007",
    "$HOME",
    "{kid}",
    "-A".padEnd(43, "-"),
  ];
  const kid = commands(dir)("import", "hsm", RSA.publicFile, "--holder=rsa-oaep-256", "--", program, ...args).trim();
  assert.equal(
    linesOf(log),
    args.map((arg) => arg.replace("{kid}", kid)),
  );
  assert.equal(readJson(holderOf(dir))["ops"], { "rsa-oaep-256": [program, ...args] });
});

testWith(
  openssl,
  "openssl",
  "import --holder that was killed is repeated as it was also where the key has another name",
  () => {
    const dir = newStore();
    commands(dir)("import", "bob", RSA.publicFile);
    const kid = commands(dir)(...held("rsa-oaep-256", RSA)).trim();
    rmSync(join(dir, "names/hsm"));
    assert.is(commands(dir)(...held("rsa-oaep-256", RSA)).trim(), kid);
    assert.is(unwrap(dir, wrap(dir, ["hsm"])), OPTSDATA);
  },
);

testWith(
  openssl,
  "openssl",
  "import --holder that was killed between its files is repeated as it was; another command for the operation needs --force",
  () => {
    for (const [op, key] of [
      ["rsa-oaep-256", RSA],
      ["rsa-oaep", RSA],
      ["ecdh", EC],
    ] as const) {
      for (const missing of [["names/hsm"], ["names/hsm", "default"], ["names/hsm", "default", "public/KID.jwk"]]) {
        const dir = newStore();
        const command = held(op, key);
        const kid = commands(dir)(...command).trim();
        for (const file of missing) rmSync(join(dir, file.replace("KID", kid)));
        const other = script(`exec ${holds(op, key).join(" ")}`);
        commands(dir).refuses(1, ["import", "hsm", key.publicFile, "--holder", op, "--", other]);
        assert.is(commands(dir)(...command).trim(), kid);
        const again = commands(dir).run(command);
        assert.equal([again.code, again.stdout.trim()], [0, kid]);
        assert.match(again.stderr, "already there: hsm names this key");
        assert.is(unwrap(dir, wrap(dir, ["hsm"])), OPTSDATA);
      }
    }
  },
);

test("a further operation comes with --force: the key is wrapped for with OAEP-256 from then on, and still opens what was SHA-1's", () => {
  const dir = heldStore("rsa-oaep", RSA);
  const cli = commands(dir);
  assert.is(readJson(publicOf(dir))["alg"], "RSA-OAEP");
  const former = wrap(dir, ["hsm"]);
  const created = readJson(publicOf(dir))["created"];
  writeHolder(dir, kidOf(dir, "hsm"), { "rsa-oaep": holds("rsa-oaep", RSA) }, { timeout_ms: 9000 });
  assert.match(cli.refuses(1, held("rsa-oaep-256", RSA)), /hsm already names this key; add --force/);
  cli(...forced("rsa-oaep-256", RSA));
  assert.equal(Object.keys(readJson(holderOf(dir))["ops"] as object), ["rsa-oaep", "rsa-oaep-256"]);
  assert.is(readJson(holderOf(dir))["timeout_ms"], 9000, "what was set by hand stays");
  assert.is(readJson(publicOf(dir))["alg"], undefined);
  assert.is(readJson(publicOf(dir))["created"], created);
  assert.is(algOf(wrap(dir, ["hsm"])), "RSA-OAEP-256");
  for (const annotation of [former, wrap(dir, ["hsm"])]) assert.is(unwrap(dir, annotation), OPTSDATA);
  cli(...forced("rsa-oaep", RSA));
  assert.is(algOf(wrap(dir, ["hsm"])), "RSA-OAEP-256", "RSA-OAEP takes nothing away");
  assert.is(readFileSync(join(dir, "names/hsm"), "utf8").trim(), kidOf(dir, "hsm"), "one key, not a retired one");
});

test("a recipient becomes a key with a holder, and another key with --force retires it", () => {
  const dir = newStore();
  const cli = commands(dir);
  cli("import", "hsm", RSA.publicFile);
  assert.match(cli.refuses(1, held("rsa-oaep", RSA)), /hsm already names this key; add --force/);
  cli(...forced("rsa-oaep", RSA));
  const former = wrap(dir, ["hsm"]);
  assert.is(algOf(former), "RSA-OAEP");
  assert.match(cli.refuses(1, held("ecdh", EC)), "the name hsm is taken");
  cli(...forced("ecdh", EC));
  assert.is(unwrap(dir, wrap(dir, ["hsm"])), OPTSDATA);
  assert.is(unwrap(dir, former), OPTSDATA);
  assert.match(cli("list"), /current +holder[^]+retired +holder/);
});

test("a held key gets a second name by its public key; its holder is changed under another name only with --force", () => {
  const dir = heldStore("rsa-oaep-256", RSA);
  const cli = commands(dir);
  cli("import", "other", RSA.publicFile);
  assert.is(unwrap(dir, wrap(dir, ["other"])), OPTSDATA);
  assert.match(
    cli.refuses(1, ["import", "third", ...held("rsa-oaep", RSA).slice(2)]),
    /the key [\w-]{43} has a holder under another name; add --force/,
  );
});

testWith(
  openssl,
  "openssl",
  "takes the public key out of a JWK, a certificate and a private key, whose private part it does not store",
  () => {
    const certificate = secretFile(
      use(openssl ?? "", ["req", "-x509", "-key", RSA.privateFile, "-subj", "/CN=hsm", "-days", "1"]),
    );
    const cli = commands(newStore());
    cli("import", "hsm", RSA.publicFile);
    const jwk = secretFile(cli("export", "hsm"));
    const command = holds("rsa-oaep-256", RSA);
    for (const file of [certificate, jwk, RSA.privateFile]) {
      const dir = newStore();
      const { code, stderr } = run([
        "import",
        "hsm",
        file,
        "--holder",
        "rsa-oaep-256",
        "--keystore",
        dir,
        "--",
        ...command,
      ]);
      assert.is(code, 0, stderr);
      const notes = new Map([
        [RSA.privateFile, `the private key in ${file} was not stored: its holder has it\n`],
        [certificate, "the key is that of the certificate of CN=hsm\n"],
      ]);
      assert.is(stderr, notes.get(file) ?? "");
      assert.is(unwrap(dir, wrap(dir, ["hsm"])), OPTSDATA);
      assert.equal(Object.keys(readJson(publicOf(dir))).toSorted(), ["created", "e", "kid", "kty", "n"]);
    }
  },
);

testWith(
  openssl,
  "openssl",
  "a symmetric key's k is used for the trial alone: it opens, and is not wrapped for",
  () => {
    const dir = newStore();
    const { file, command } = heldOct();
    const cli = commands(dir);
    const full = makeStore();
    commands(full)("import", "aes", file);
    const annotation = wrap(full, ["aes"]);
    const kid = cli("import", "aes", file, "--holder", "a256kw", "--", command).trim();
    assert.is(kid, OCT.kid);
    for (const secret of secretsOf({ ...OCT })) assert.not.match(JSON.stringify(tree(dir)), secret);
    assert.is(unwrap(dir, annotation), OPTSDATA);
    assert.match(
      assertFailure(run(["--keystore", dir], { input: wrapRequest(["aes"]) }), 1),
      `symmetric key ${kid} is held by a command, which can only decrypt; encrypt where the key itself is`,
    );
    assert.match(cli("list"), /aes \(default\) +A256KW +current +holder/);
    const checks = examine(dir);
    assert.equal(problems(checks), ["warn round-trip"]);
    assertCheck(
      checks,
      "store.holders",
      "ok",
      /0 operations of which were tried; 1 of a256kw were not, since that needs the key itself/,
    );
  },
);

const tried = join(temporaryFolder(), "tried");
const logs = script(`echo >> ${tried}; exec ${holds("rsa-oaep-256", RSA).join(" ")}`);
const jwkOf = (jwk: object): string => secretFile(JSON.stringify(jwk));
const OTHER = newRsa();
for (const [what, code, args, line] of [
  [
    "no command",
    2,
    ["import", "hsm", RSA.publicFile, "--holder", "rsa-oaep-256"],
    "the holder's command is missing; end the line with -- COMMAND",
  ],
  [
    "no command behind --",
    2,
    ["import", "hsm", RSA.publicFile, "--holder", "rsa-oaep-256", "--"],
    "the holder's command is missing",
  ],
  ["a command without --", 2, ["import", "hsm", RSA.publicFile, "--holder", "rsa-oaep-256", logs], "unknown argument"],
  [
    "a relative command",
    2,
    ["import", "hsm", RSA.publicFile, "--holder", "rsa-oaep-256", "--", "openssl"],
    "the holder's command is not an absolute path",
  ],
  [
    "a command of more words than a holder file may have",
    2,
    ["import", "hsm", RSA.publicFile, "--holder", "rsa-oaep-256", "--", logs, ...Array.from({ length: 64 }, () => "x")],
    "the holder's command has more than 64 words",
  ],
  ["an unknown operation", 2, ["import", "hsm", RSA.publicFile, "--holder", "decrypt", "--", logs], "invalid values"],
  [
    "an operation twice",
    2,
    ["import", "hsm", RSA.publicFile, "--holder", "ecdh", "--holder", "ecdh", "--", logs],
    "--holder is given twice",
  ],
  [
    "another type's operation",
    2,
    ["import", "hsm", RSA.publicFile, "--holder", "ecdh", "--", logs],
    "ecdh is not for rsa keys; name an operation of this type of key, or another key",
  ],
  [
    "a symmetric key of 128 bits",
    2,
    ["import", "hsm", jwkOf(generateJwk({ type: "oct", bits: 128 })), "--holder", "a256kw", "--", logs],
    "a256kw is for symmetric keys of 256 bits",
  ],
  [
    "another alg than the operation's",
    1,
    [
      "import",
      "hsm",
      jwkOf({ ...generateJwk({ type: "rsa", bits: 2048 }), alg: "RSA-OAEP" }),
      "--holder",
      "rsa-oaep-256",
      "--",
      logs,
    ],
    'the key cannot be used with rsa-oaep-256: its "alg" is not RSA-OAEP-256',
  ],
  [
    "no public key",
    1,
    ["import", "hsm", "/bin/sh", "--holder", "rsa-oaep-256", "--", logs],
    "/bin/sh is larger than 64 KiB",
  ],
  [
    "a wrong name",
    2,
    ["import", "h/m", RSA.publicFile, "--holder", "rsa-oaep-256", "--", logs],
    "cannot be a key's name",
  ],
] as const) {
  test(`import --holder refuses, and runs nothing: ${what}`, () => {
    const refuses = (): string => commands(newStore()).refuses(code, args);
    assert.match(what.startsWith("no ") ? throughBinary(refuses) : refuses(), line);
    assert.not.ok(existsSync(tried));
  });
}

for (const [what, command, line] of [
  ["that holds another key", holds("rsa-oaep-256", OTHER), /failed \(exit code 1\)/],
  ["that does the other operation", holds("rsa-oaep", RSA), /failed \(exit code 1\)/],
  [
    "that answers a wrong key",
    [script("exec head -c 32 /dev/urandom")],
    /answered, but not with what was wrapped for that key/,
  ],
  [
    "that answers the right key and fails",
    [script(`${holds("rsa-oaep-256", RSA).join(" ")}; exit 1`)],
    /failed \(exit code 1\)/,
  ],
  ["that answers nothing", ["/bin/true"], /answered nothing/],
  ["that floods", [script("exec cat /dev/zero")], /answered more than 4096 bytes/],
  ["that is ended by a signal", [script("kill -TERM $$")], /was killed by SIGTERM/],
  ["that is not there", ["/nowhere/holder"], /does not exist/],
  ["that others can write", [script("exit 0", 0o755)], /can be written by others \(mode 0777\)/],
] as const) {
  test(`import --holder stores nothing of a command ${what}`, () => {
    if (what === "that others can write") chmodSync(command[0] ?? "", 0o777);
    const dir = newStore();
    const args = ["import", "hsm", RSA.publicFile, "--holder", "rsa-oaep-256", "--", ...command];
    const refuses = (): string => commands(dir).refuses(1, args);
    const found = what === "that floods" || what === "that is ended by a signal" ? throughBinary(refuses) : refuses();
    assert.match(found, line);
    assert.match(found, "; nothing was imported; ");
    assert.not.match(found, /private\/|\.holder\b|doctor/, "what was not written");
    if (!/does not exist|can be written/.test(found))
      assert.match(found, `run ${command[0]} by hand with the same arguments`);
    assert.not.ok(existsSync(dir), "not even the folder");
  });
}

test("neither of a private key and its holder takes the other's place: remove --force makes way", () => {
  for (const secret of [undefined, masterKeyFile()]) {
    const dir = newStore();
    const cli = commands(dir, ...(secret === undefined ? [] : ["--master-key-file", secret]));
    cli("import", "hsm", RSA.privateFile);
    if (secret !== undefined) cli("lock");
    for (const args of [["import", "other", ...held("rsa-oaep-256", RSA).slice(2)], forced("rsa-oaep-256", RSA)]) {
      assert.match(
        cli.refuses(1, args),
        /the private key [\w-]{43} is in the store, so its holder would never be asked; run ocicrypt-keystore remove/,
      );
    }
    cli("remove", "hsm", "--force");
    cli(...held("rsa-oaep-256", RSA));
    for (const args of [
      ["import", "other", RSA.privateFile],
      ["import", "hsm", RSA.privateFile, "--force"],
    ]) {
      assert.match(cli.refuses(1, args), /importing [\w-]{43} would bypass its holder;/);
    }
    const file = holderOf(dir).replace("/private/", "/removed/");
    assert.match(
      cli.refuses(1, ["remove", "hsm"]),
      /would remove the holder of private key [\w-]{43}: images .* add --force to move it to removed\/; import with --holder adds it again/,
    );
    assert.match(cli.run(["remove", "hsm", "--force"]).stderr, `its holder file is now ${file}\n`);
    assert.ok(existsSync(file));
    cli("import", "hsm", RSA.privateFile);
  }
});

test("remove --purge deletes a holder", () => {
  const dir = heldStore("rsa-oaep-256", RSA);
  const file = holderOf(dir);
  commands(dir)("remove", "hsm", "--force", "--purge");
  assert.not.ok(existsSync(file) || existsSync(file.replace("/private/", "/removed/")));
});

test("show and list say who holds a key, and no argument of a command", () => {
  const dir = newStore();
  const cli = commands(dir);
  cli(
    "import",
    "hsm",
    RSA.publicFile,
    "--holder",
    "rsa-oaep-256",
    "--",
    script(`exec ${holds("rsa-oaep-256", RSA).join(" ")}`),
    "--pin",
    "12345678",
  );
  assert.match(cli("list"), /hsm \(default\) +RSA-OAEP-256 +current +holder/);
  const [listed] = JSON.parse(cli("list", "--json")) as Record<string, unknown>[];
  assert.is(listed?.["private"], "holder");
  const [shown] = JSON.parse(cli("show", "hsm", "--json")) as Record<string, unknown>[];
  assert.is(shown?.["private"], "holder");
  assert.equal(Object.keys(shown?.["holder"] as object), ["rsa-oaep-256"]);
  assert.match(cli("show", "hsm"), /\nprivate: holder\nholder: +rsa-oaep-256 by \/.*\/holder\n/);
  assert.not.match(cli("show", "hsm") + cli("show", "hsm", "--json"), "12345678");
});

test("rotate and export --private say where the key is", () => {
  const { refuses } = commands(heldStore("rsa-oaep-256", RSA));
  assert.match(
    refuses(1, ["rotate", "hsm"]),
    "the key of hsm is held by a command, and only its holder can make a new one; make it there, then run ocicrypt-keystore import hsm PUBLIC --force --holder",
  );
  assert.match(
    refuses(1, ["export", "hsm", "--private"]),
    "the private key of hsm is held by a command and cannot be exported",
  );
});

test("lock and unlock leave holders alone, and a locked store needs no secret for one", () => {
  const dir = makeStore("alice");
  const cli = commands(dir);
  cli(...held("rsa-oaep-256", RSA));
  const before = readFileSync(holderOf(dir));
  const secret = masterKeyFile();
  assert.match(cli.run(["lock", "--master-key-file", secret]).stderr, "locked 1 private key");
  assert.is(unwrap(dir, wrap(dir, ["hsm"])), OPTSDATA);
  assert.equal(problems(examine(dir, ["--master-key-file", secret])), []);
  cli("import", "second", ...held("ecdh", EC).slice(2));
  assert.match(cli.run(["unlock", "--master-key-file", secret]).stderr, "unlocked 1 private key");
  assert.equal(readFileSync(holderOf(dir)), before);
});

test.run();
