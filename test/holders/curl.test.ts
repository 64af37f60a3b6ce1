// The README's scripts for curl, run against a server that answers as the vendors' do: they give the key, and the server's reason where it refuses.

import { spawn } from "node:child_process";
import { constants, createPrivateKey, privateDecrypt, publicEncrypt, randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { temporaryFolder } from "../support/folders.ts";
import { newRsa } from "../support/holders.ts";
import { tool, testWith } from "../support/parts.ts";
import { runBeside } from "../support/program.ts";
import { install } from "../support/recipes.ts";
import { OPTSDATA, unwrapRequest, wrap } from "../support/requests.ts";
import { readJson, kidOf } from "../support/stores.ts";

const KEY = newRsa();
const TOKEN = "Bearer abc+/=";
const folder = temporaryFolder();
const headers = join(folder, "headers");
const PATH = "/usr/bin:/bin";

const decrypt = (text: string, encoding: "base64" | "base64url"): string => {
  const key = createPrivateKey(readFileSync(KEY.privateFile));
  return privateDecrypt(
    { key, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: "sha256" },
    Buffer.from(text, encoding),
  ).toString(encoding);
};

/** What each vendor answers to the members of a request, as its documents show it. */
const VENDORS: Readonly<Record<string, (asked: Readonly<Record<string, string>>) => object>> = {
  "/google": ({ ciphertext = "" }) => ({
    plaintext: decrypt(ciphertext, "base64"),
    plaintextCrc32c: "1",
    protectionLevel: "HSM",
  }),
  "/vault": ({ ciphertext = "" }) => ({
    request_id: "x",
    data: { plaintext: decrypt(/^vault:v1:(.*)$/.exec(ciphertext)?.[1] ?? "", "base64") },
  }),
  "/azure": ({ alg, value = "" }) => ({
    kid: "https://x/keys/y",
    value: alg === "RSA-OAEP-256" ? decrypt(value, "base64url") : "",
  }),
};

const server = createServer((request, response) => {
  void request.toArray().then((chunks) => {
    const allowed = request.headers.authorization === TOKEN;
    const vendor = VENDORS[request.url ?? ""];
    if (!allowed || vendor === undefined) response.writeHead(403).end('{"errors":["permission denied"]}');
    else
      response.end(
        JSON.stringify(
          vendor(JSON.parse(Buffer.concat(chunks).toString()) as Record<string, string>),
          null,
          request.url === "/google" ? 2 : 0,
        ),
      );
  });
});
server.unref();
const parts = ["curl", "base64", "sed"].every((name) => tool(name) !== undefined) ? true : undefined;

async function ask(
  command: readonly string[],
  input: Buffer,
): Promise<{ code: number | null; answer: Buffer; complaint: string }> {
  const [program = "", ...args] = command;
  const child = spawn(program, args, { env: { PATH }, cwd: "/" });
  const [answer, complaint]: [Buffer[], Buffer[]] = [[], []];
  child.stdout.on("data", (chunk: Buffer) => answer.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => complaint.push(chunk));
  child.stdin.end(input);
  const [code] = (await once(child, "close")) as [number | null];
  return { code, answer: Buffer.concat(answer), complaint: Buffer.concat(complaint).toString() };
}

for (const [script, path, more] of [
  ["curl-decrypt", "/google", []],
  ["curl-decrypt", "/vault", ["vault:v1:"]],
  ["curl-azure", "/azure", []],
] as const) {
  testWith(parts, "curl, base64 and sed", `${script} for ${path.slice(1)}`, async () => {
    if (!server.listening) await once(server.listen(0, "127.0.0.1"), "listening");
    install(folder, script);
    writeFileSync(headers, `Authorization: ${TOKEN}\n`, { mode: 0o600 });
    const command = [
      join(folder, script),
      headers,
      `http://127.0.0.1:${(server.address() as AddressInfo).port}${path}`,
      ...more,
    ];
    for (const length of [16, 24, 32, 48, 64]) {
      const cek = randomBytes(length);
      const { code, answer, complaint } = await ask(
        command,
        publicEncrypt({ key: KEY.publicPem, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: "sha256" }, cek),
      );
      assert.is(code, 0, complaint);
      assert.is(answer.toString("hex"), cek.toString("hex"));
    }
    const dir = join(temporaryFolder(), "store");
    const { code, stderr } = await runBeside(
      ["import", "kms", KEY.publicFile, "--keystore", dir, "--holder", "rsa-oaep-256", "--", ...command],
      { env: { PATH } },
    );
    assert.is(code, 0, stderr);
    assert.equal(Object.keys(readJson(join(dir, "private", `${kidOf(dir, "kms")}.holder`))["ops"] as object), [
      "rsa-oaep-256",
    ]);
    const annotation = wrap(dir, ["kms"]);
    const unwrapped = await runBeside(["--keystore", dir], { env: { PATH }, input: unwrapRequest(annotation) });
    assert.match(unwrapped.stdout, Buffer.from(OPTSDATA).toString("base64"), unwrapped.stderr);
    writeFileSync(headers, "Authorization: Bearer other\n");
    const refused = await runBeside(["--keystore", dir], { env: { PATH }, input: unwrapRequest(annotation) });
    assert.is(refused.code, 3);
    assert.match(
      refused.stderr,
      /failed \(exit code 22\): "curl: \(22\) The requested URL returned error: 403 \/ \{"errors":\["permission denied"\]\}"/,
    );
    assert.not.match(refused.stderr, "other");
  });
}

test.run();
