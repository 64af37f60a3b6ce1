// Keys locked with a passphrase or a master key: the file is standard, and a damaged one is told.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { atRestBySecret } from "../../src/at-rest/secret.ts";
import { secretFiles } from "../../src/at-rest/secret-files.ts";
import type { SecretKind } from "../../src/at-rest/locked-file.ts";
import { secretFile } from "../support/folders.ts";
import { lockHere } from "../support/here.ts";
import { testWith, tool, use } from "../support/parts.ts";
import { assertFailure } from "../support/program.ts";
import { exec } from "../support/requests.ts";
import {
  assertClosed,
  commands,
  kidOf,
  makeStore,
  masterKeyFile,
  readJson,
  wrapHere,
  type Members,
} from "../support/stores.ts";

const sealAtRest = async (jwk: Buffer, kind: SecretKind, secret: Buffer): Promise<Buffer> =>
  await atRestBySecret(kind, () => Promise.resolve(secret)).seal(jwk);

const masterKey = masterKeyFile();
const withMasterKey = ["--master-key-file", masterKey] as const;
const sealed = (await sealAtRest(Buffer.from("{}"), "passphrase", Buffer.from("secret"))).toString();

/** A store whose key is locked with the master key, and an annotation that it opens. */
async function sealedStore(): Promise<{ dir: string; annotation: Buffer; kid: string }> {
  const dir = makeStore("alice");
  const annotation = await wrapHere(dir, "alice");
  const secret = async (): Promise<Buffer> => readFileSync(masterKey);
  assert.is(await lockHere(dir, atRestBySecret("master key", secret)), 1);
  return { dir, annotation, kid: kidOf(dir, "alice") };
}

/** Why exec mode does not open an annotation with a passphrase: by the binary, or in this process. */
async function closed(dir: string, annotation: Buffer, byBinary: boolean): Promise<string> {
  const passphraseFile = secretFile("secret");
  return byBinary
    ? assertFailure(exec(dir, annotation, ["--passphrase-file", passphraseFile]), 3)
    : await assertClosed(dir, annotation, secretFiles({ passphraseFile }));
}

for (const p2c of [0, 1, 999, -1000, 1000.5, 10_000_001, 1e9, "x", "600000", null, undefined]) {
  test(`refuses a locked file with p2c ${JSON.stringify(p2c)} at once`, async () => {
    const { dir, annotation, kid } = await sealedStore();
    const path = join(dir, "private", `${kid}.jwe`);
    const jwe = JSON.parse(sealed) as {
      recipients: { header: Members }[];
    };
    for (const { header } of jwe.recipients) header["p2c"] = p2c;
    writeFileSync(path, JSON.stringify(jwe));
    const started = Date.now();
    assert.match(
      await closed(dir, annotation, p2c === 0),
      /is damaged: it has a p2c that is not an integer from 1000 to 10000000/,
    );
    assert.ok(Date.now() - started < 1000);
  });
}

for (const p2s of ["", "AAAAAAAA", "!", 7, Buffer.alloc(1025).toString("base64url")]) {
  test(`refuses a locked file with a p2s of ${JSON.stringify(p2s).length} characters`, async () => {
    const { dir, annotation, kid } = await sealedStore();
    const jwe = JSON.parse(sealed) as {
      recipients: { header: Members }[];
    };
    for (const { header } of jwe.recipients) header["p2s"] = p2s;
    writeFileSync(join(dir, "private", `${kid}.jwe`), JSON.stringify(jwe));
    assert.match(
      await closed(dir, annotation, p2s === ""),
      /is damaged: it has a p2s that is not base64url of 8 to 1024 bytes/,
    );
  });
}

testWith(tool("jose"), "jose", "jose opens a file locked with a master key: the same JWK", (jose) => {
  const dir = makeStore("alice");
  const jwk = readJson(join(dir, "private", `${kidOf(dir, "alice")}.jwk`));
  commands(dir)("lock", ...withMasterKey);
  const key = secretFile(
    JSON.stringify({ kty: "oct", alg: "A256KW", k: readFileSync(masterKey).toString("base64url") }),
  );
  assert.equal(
    JSON.parse(use(jose, ["jwe", "dec", "-i", join(dir, "private", `${kidOf(dir, "alice")}.jwe`), "-k", key])),
    jwk,
  );
});

test.run();
