// The files that registries' credentials are in: how large they may be.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { KeystoreError } from "../../../src/errors.ts";
import { credentialsFor } from "../../../src/image/source/credentials.ts";
import { temporaryFolder } from "../../support/folders.ts";

/** An auth.json with the credentials of `example.org` after those of `count` other hosts; its size in bytes. */
function authFile(count: number): number {
  const entry = { auth: Buffer.from("user:password").toString("base64") };
  const text = JSON.stringify({
    auths: Object.fromEntries([
      ...Array.from({ length: count }, (_, place) => [`registry-${place}.example.org`, entry]),
      ["example.org", entry],
    ]),
  });
  const file = join(temporaryFolder(), "auth.json");
  writeFileSync(file, text);
  process.env["REGISTRY_AUTH_FILE"] = file;
  return text.length;
}

test("reads an auth.json of up to 1 MiB, and says where one is larger", () => {
  assert.ok(authFile(16_000) > 900 * 1024);
  const { credentials } = credentialsFor("example.org", "app");
  assert.equal(credentials, { username: "user", password: "password", identityToken: "" });
  assert.ok(authFile(20_000) > 1024 * 1024);
  assert.throws(
    () => credentialsFor("example.org", "app"),
    (error: unknown) => error instanceof KeystoreError && /auth\.json is larger than 1024 KiB/.test(error.message),
  );
});

test.run();
