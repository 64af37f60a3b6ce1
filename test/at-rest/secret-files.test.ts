// Where the secret of locked keys is looked for, and which files are refused.

import { randomBytes } from "node:crypto";
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { readPassphrase, secretFiles } from "../../src/at-rest/secret-files.ts";
import { newAtRest } from "../../src/cli/secrets.ts";
import { errorLine } from "../../src/errors.ts";
import { secretFile, temporaryFolder } from "../support/folders.ts";
import { lockHere, refusedHere } from "../support/here.ts";
import { assertFailure, run, succeed } from "../support/program.ts";
import { exec } from "../support/requests.ts";
import { commands, lockedStore, makeStore, masterKeyFile } from "../support/stores.ts";

const PASSPHRASE_FILE = "OCICRYPT_KEYSTORE_PASSPHRASE_FILE";
const MASTER_KEY_FILE = "OCICRYPT_KEYSTORE_MASTER_KEY_FILE";
const masterKey = masterKeyFile();
const withMasterKey = ["--master-key-file", masterKey] as const;
const passphrase = secretFile("correct horse battery staple\n");

for (const [kind, right, wrong, variable, credential, option] of [
  ["master key", masterKey, masterKeyFile(), MASTER_KEY_FILE, "ocicrypt-keystore.master-key", "--master-key-file"],
  [
    "passphrase",
    passphrase,
    secretFile("another"),
    PASSPHRASE_FILE,
    "ocicrypt-keystore.passphrase",
    "--passphrase-file",
  ],
] as const) {
  test(`finds a ${kind}: the option before the environment before systemd's credential`, async () => {
    const { dir, annotation } = await lockedStore(option, right);
    const credentials = (path: string): string => {
      const folder = temporaryFolder();
      copyFileSync(path, join(folder, credential));
      return folder;
    };
    const opens = async (options: readonly string[], env: NodeJS.ProcessEnv): Promise<boolean> => {
      // A passphrase costs 600,000 rounds each time: it is only looked for, and unlock and lock below use it.
      if (kind === "passphrase") return await findsHere(options[1], env);
      const result = exec(dir, annotation, options, env);
      if (result.code !== 0) assertFailure(result, 3);
      return result.code === 0;
    };
    assert.ok(
      await opens([option, right], { [variable]: wrong, CREDENTIALS_DIRECTORY: credentials(wrong) }),
      "the option counts first",
    );
    assert.not.ok(await opens([option, wrong], { [variable]: right, CREDENTIALS_DIRECTORY: credentials(right) }));
    assert.ok(
      await opens([], { [variable]: right, CREDENTIALS_DIRECTORY: credentials(wrong) }),
      "then the environment",
    );
    assert.not.ok(await opens([], { [variable]: wrong, CREDENTIALS_DIRECTORY: credentials(right) }));
    assert.ok(await opens([], { CREDENTIALS_DIRECTORY: credentials(right) }), "then the credential");
    assert.not.ok(await opens([], { CREDENTIALS_DIRECTORY: temporaryFolder() }), "which may be missing");
    succeed(["unlock", "--keystore", dir], { env: { CREDENTIALS_DIRECTORY: credentials(right) } });
    assert.match(run(["lock", "--keystore", dir], { env: { [variable]: right } }).stderr, `with a ${kind}`);
  });
}

test("lock takes what the command line names before what the environment names, and not both at once", () => {
  const dir = makeStore("alice");
  assert.match(
    commands(dir).run(["lock", ...withMasterKey], { env: { [PASSPHRASE_FILE]: passphrase } }).stderr,
    "with a master key",
  );
  commands(dir)("unlock", ...withMasterKey);
  assert.match(
    commands(dir).refuses(2, ["lock", ...withMasterKey, "--passphrase-file", passphrase]),
    "--passphrase-file cannot be combined with --master-key-file",
  );
});

test("a passphrase file loses exactly one final newline", async () => {
  const { dir, annotation } = await lockedStore("--passphrase-file", secretFile("secret\n\n"));
  for (const [text, code] of [
    ["secret\n\n", 0],
    ["secret\n", 3],
    ["secret", 3],
    ["secret\n\n\n", 3],
    ["secret\n\r", 3],
  ] as const) {
    // Each opening costs 600,000 rounds: what is read from the other files is compared with what is read from these.
    const read = (content: string): Buffer => readPassphrase(secretFile(content), "");
    assert.is(read(text).equals(read("secret\n\n")), code === 0, JSON.stringify(text));
    if (text !== "secret\n\n" && text !== "secret\n") continue;
    assert.is(exec(dir, annotation, ["--passphrase-file", secretFile(text)]).code, code, JSON.stringify(text));
  }
  assert.is(readPassphrase(secretFile("secret\n"), "").toString(), "secret");
  assert.is(readPassphrase(secretFile("secret"), "").toString(), "secret");
});

/** Whether this process finds the right passphrase file, else another or none. */
async function findsHere(passphraseFile: string | undefined, env: NodeJS.ProcessEnv): Promise<boolean> {
  Object.assign(process.env, env);
  try {
    const found = await secretFiles({ passphraseFile })("passphrase").catch((error: unknown) => errorLine(error));
    if (typeof found !== "string") return found.equals(readPassphrase(passphrase, ""));
    assert.match(found, "the private key is locked with a passphrase; give it with --passphrase-file FILE");
    return false;
  } finally {
    for (const name of Object.keys(env)) delete process.env[name];
  }
}

const folder = temporaryFolder();
for (const [name, option, path, line] of [
  [
    "an empty passphrase",
    "--passphrase-file",
    secretFile(""),
    /the passphrase is empty; give a passphrase that is not empty/,
  ],
  ["a passphrase that is a newline", "--passphrase-file", secretFile("\n"), /the passphrase is empty/],
  [
    "a passphrase that others can read",
    "--passphrase-file",
    secretFile("secret", 0o644),
    /passphrase .* can be read by others \(mode 0644\); run chmod 600 /,
  ],
  [
    "a missing passphrase file",
    "--passphrase-file",
    join(folder, "none"),
    /the passphrase file .*none is missing; name it with --passphrase-file FILE or OCICRYPT_KEYSTORE_PASSPHRASE_FILE/,
  ],
  [
    "a short master key",
    "--master-key-file",
    secretFile(randomBytes(31)),
    /has 31 bytes; it must hold 32 random bytes/,
  ],
  [
    "a master key with a newline",
    "--master-key-file",
    secretFile(Buffer.concat([randomBytes(32), Buffer.from("\n")])),
    /has 33 bytes/,
  ],
  ["an empty master key", "--master-key-file", secretFile(""), /has 0 bytes/],
  [
    "a master key that its group can read",
    "--master-key-file",
    secretFile(randomBytes(32), 0o640),
    /master key .* can be read by others \(mode 0640\); run chmod 600 /,
  ],
  [
    "a missing master key file",
    "--master-key-file",
    join(folder, "none"),
    /the master key file .*none is missing; name it with --master-key-file FILE/,
  ],
  ["a master key that is a folder", "--master-key-file", folder, /is not a regular file/],
] as const) {
  test(`refuses ${name}, exit code 3, and locks nothing`, async () => {
    const dir = makeStore("alice");
    const files = option === "--passphrase-file" ? { passphraseFile: path } : { masterKeyFile: path };
    const lock = async (): Promise<number> => await lockHere(dir, await newAtRest(files));
    assert.match(await refusedHere(dir, 3, lock), line);
    if (/^(an empty passphrase|a short master key)$/.test(name))
      assert.match(commands(dir).refuses(3, ["lock", option, path]), line);
  });
}

test.run();
