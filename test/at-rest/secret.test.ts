// Keys locked with a passphrase or a master key: the file is standard, and a damaged one is told.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { atRestBySecret } from "../../src/at-rest/secret.ts";
import type { SecretKind } from "../../src/at-rest/locked-file.ts";
import { secretFile } from "../support/folders.ts";
import { testWith, tool, use } from "../support/parts.ts";
import { assertFailure } from "../support/program.ts";
import { exec } from "../support/requests.ts";
import { commands, kidOf, lockedStore, makeStore, masterKeyFile, readJson, type Members } from "../support/stores.ts";

const sealAtRest = async (jwk: Buffer, kind: SecretKind, secret: Buffer): Promise<Buffer> =>
  await atRestBySecret(kind, () => Promise.resolve(secret)).seal(jwk);

const masterKey = masterKeyFile();
const withMasterKey = ["--master-key-file", masterKey] as const;

for (const p2c of [0, 1, 999, -1000, 1000.5, 10_000_001, 1e9, "x", "600000", null, undefined]) {
  test(`refuses a locked file with p2c ${JSON.stringify(p2c)} at once`, async () => {
    const { dir, annotation, kid } = await lockedStore(...withMasterKey);
    const path = join(dir, "private", `${kid}.jwe`);
    const jwe = JSON.parse((await sealAtRest(Buffer.from("{}"), "passphrase", Buffer.from("secret"))).toString()) as {
      recipients: { header: Members }[];
    };
    for (const { header } of jwe.recipients) header["p2c"] = p2c;
    writeFileSync(path, JSON.stringify(jwe));
    const started = Date.now();
    assert.match(
      assertFailure(exec(dir, annotation, ["--passphrase-file", secretFile("secret")]), 3),
      /is damaged: it has a p2c that is not an integer from 1000 to 10000000/,
    );
    assert.ok(Date.now() - started < 1000);
  });
}

for (const p2s of ["", "AAAAAAAA", "!", 7, Buffer.alloc(1025).toString("base64url")]) {
  test(`refuses a locked file with a p2s of ${JSON.stringify(p2s).length} characters`, async () => {
    const { dir, annotation, kid } = await lockedStore(...withMasterKey);
    const jwe = JSON.parse((await sealAtRest(Buffer.from("{}"), "passphrase", Buffer.from("secret"))).toString()) as {
      recipients: { header: Members }[];
    };
    for (const { header } of jwe.recipients) header["p2s"] = p2s;
    writeFileSync(join(dir, "private", `${kid}.jwe`), JSON.stringify(jwe));
    assert.match(
      assertFailure(exec(dir, annotation, ["--passphrase-file", secretFile("secret")]), 3),
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
