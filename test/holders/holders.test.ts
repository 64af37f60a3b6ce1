// Keys that have never been outside a real token or TPM: images for them open, six at a time, and a wrong PIN is told in one line.

import { spawn, spawnSync } from "node:child_process";
import {
  constants,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  publicEncrypt,
  randomBytes,
} from "node:crypto";
import { cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { temporaryFolder } from "../support/folders.ts";
import { KINDS, type Part } from "../support/hardware.ts";
import { layerDigests, makeImage } from "../support/images.ts";
import { endurance, testWith } from "../support/parts.ts";
import { assertFailure, BINARY, type Result, run, runHere, succeed } from "../support/program.ts";
import { OPTSDATA, unwrapRequest, wrap } from "../support/requests.ts";
import { findSkopeo } from "../support/skopeo.ts";

runHere();

const AT_ONCE = 6;
const skopeo = findSkopeo({ download: false, say: () => {} });
const hasStrace = spawnSync("strace", ["-V"]).status === 0;

/** A new store with the part's key, under the name `hsm`. */
function storeOf({ publicKey, op, argv, env }: Part, command = argv): string {
  const dir = join(temporaryFolder(), "store");
  succeed(["import", "hsm", publicKey, "--keystore", dir, "--holder", op, "--", ...command], { env });
  return dir;
}

/** What a holder is asked, and what it must answer, in hex. */
function question({ publicKey, op }: Part): { input: Buffer; answer: string } {
  const key = createPublicKey(readFileSync(publicKey));
  if (op === "ecdh") {
    const ephemeral = generateKeyPairSync("ec", { namedCurve: "P-256" });
    return {
      input: ephemeral.publicKey.export({ type: "spki", format: "der" }),
      answer: diffieHellman({ privateKey: ephemeral.privateKey, publicKey: key }).toString("hex"),
    };
  }
  const cek = randomBytes(32);
  return {
    input: publicEncrypt({ key, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: "sha256" }, cek),
    answer: cek.toString("hex"),
  };
}

function ask({ argv: [program = "", ...args], env }: Part, input: Buffer): string {
  const { status, stdout, stderr } = spawnSync(program, args, { input, env, cwd: "/" });
  assert.is(status, 0, stderr.toString());
  return stdout.toString("hex");
}

async function unwrapLater(dir: string, annotation: Buffer, env: NodeJS.ProcessEnv): Promise<Result> {
  const child = spawn(BINARY, ["--keystore", dir], { env, cwd: "/" });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (text: Buffer) => (stdout += text.toString()));
  child.stderr.on("data", (text: Buffer) => (stderr += text.toString()));
  child.stdin.end(unwrapRequest(annotation));
  return await new Promise((resolve) => child.on("close", (code) => resolve({ code, stdout, stderr })));
}

function opened({ code, stdout, stderr }: Result): string {
  if (code !== 0) return `exit code ${code}: ${stderr}`;
  return Buffer.from(
    (JSON.parse(stdout) as { keyunwrapresults: { optsdata: string } }).keyunwrapresults.optsdata,
    "base64",
  ).toString();
}

for (const { name, needs, isThere, start } of KINDS) {
  const part = isThere() ? await start() : undefined;
  const withPart = (what: string, body: (part: Part) => void | Promise<void>): void =>
    testWith(part, needs, `${name}: ${what}`, body);

  withPart("the command of the README gives the key, and no byte else", (holder) => {
    for (let count = 0; count < 5; count++) {
      const { input, answer } = question(holder);
      assert.is(ask(holder, input), answer);
    }
    if (holder.op !== "ecdh") return;
    let padded = question(holder);
    while (!padded.answer.startsWith("00")) padded = question(holder);
    assert.is(ask(holder, padded.input), padded.answer, "a shared secret that begins with zeros");
  });

  testWith(
    hasStrace ? part : undefined,
    `strace, ${needs}`,
    `${name}: no command line shows the PIN, and nothing is left in /tmp`,
    (holder) => {
      const { input, answer } = question(holder);
      const { stdout, stderr } = spawnSync(
        "strace",
        ["-f", "-qq", "-s", "4096", "-e", "trace=execve,%file", ...holder.argv],
        { input, env: holder.env, cwd: "/" },
      );
      assert.is(stdout.toString("hex"), answer);
      const calls = stderr.toString().split("\n");
      assert.ok(
        calls.some((line) => line.includes("execve(")),
        stderr.toString(),
      );
      assert.equal(
        calls.filter((line) => line.includes("execve(") && line.includes(holder.pin)),
        [],
      );
      const made = calls
        .filter((line) => /O_CREAT|mkdir|rename|link/.test(line))
        .flatMap((line) => /"(\/[^"]*)"/.exec(line)?.[1] ?? []);
      assert.equal(
        made.filter((path) => /^\/(var\/)?tmp\//.test(path) && !path.startsWith(dirname(holder.publicKey))),
        [],
      );
    },
  );

  withPart("its key opens what is wrapped for it, and has no private part in the store", (holder) => {
    const dir = storeOf(holder);
    assert.equal(
      readdirSync(join(dir, "private")).map((file) => file.replace(/^.*\./, "")),
      ["holder"],
    );
    assert.is(
      opened(run(["--keystore", dir], { input: unwrapRequest(wrap(dir, ["hsm"])), env: holder.env })),
      OPTSDATA,
    );
  });

  testWith(
    part && skopeo && { holder: part, skopeo },
    `a skopeo (test/support/skopeo.ts), ${needs}`,
    `${name}: skopeo decrypts an image that was encrypted with the public key alone`,
    ({
      holder,
      skopeo: {
        command: [file = "", ...options],
      },
    }) => {
      const dir = temporaryFolder();
      const copy = (store: string, env: NodeJS.ProcessEnv, ...args: readonly string[]): void => {
        const paths = { OCICRYPT_KEYPROVIDER_CONFIG: join(dir, "ocicrypt.conf"), OCICRYPT_KEYSTORE: store };
        const { status, stderr } = spawnSync(file, [...options, "copy", ...args], {
          cwd: dir,
          env: { ...env, ...paths },
          encoding: "utf8",
          timeout: 60_000,
        });
        assert.is(status, 0, stderr);
      };
      makeImage(join(dir, "plain"), { layers: 2 });
      writeFileSync(
        join(dir, "ocicrypt.conf"),
        JSON.stringify({ "key-providers": { ks: { cmd: { path: BINARY, args: [] } } } }),
      );
      const store = storeOf(holder);
      const builder = join(temporaryFolder(), "store");
      cpSync(store, builder, { recursive: true });
      rmSync(join(builder, "private"), { recursive: true });
      copy(builder, {}, "--encryption-key", "provider:ks:hsm", "oci:plain", "oci:encrypted");
      assert.is(
        layerDigests(join(dir, "encrypted")).filter((digest) => layerDigests(join(dir, "plain")).includes(digest))
          .length,
        0,
      );
      copy(store, holder.env, "--decryption-key", "provider:ks", "oci:encrypted", "oci:decrypted");
      assert.equal(layerDigests(join(dir, "decrypted")), layerDigests(join(dir, "plain")));
    },
  );

  withPart(`${AT_ONCE} at once, again and again, all open`, async (holder) => {
    const dir = storeOf(holder);
    const failures: string[] = [];
    for (let round = 0; round < endurance(100); round++) {
      const annotation = wrap(dir, ["hsm"], `round ${round}`);
      const results = await Promise.all(
        Array.from({ length: AT_ONCE }, async () => opened(await unwrapLater(dir, annotation, holder.env))),
      );
      failures.push(...results.filter((text) => text !== `round ${round}`));
    }
    assert.equal(failures, []);
  });

  withPart("a wrong PIN is one line that says so, and is not tried twice", (holder) => {
    const asked = join(temporaryFolder(), "asked");
    const dir = storeOf(holder, ["/bin/sh", "-c", 'echo >> "$0"; exec "$@"', asked, ...holder.argv]);
    const annotation = wrap(dir, ["hsm"]);
    const unwrapNow = (): Result => run(["--keystore", dir], { input: unwrapRequest(annotation), env: holder.env });
    rmSync(asked);
    holder.setPin(`${holder.pin.slice(0, -1)}?`);
    const line = assertFailure(unwrapNow(), 3);
    assert.match(line, /CKR_PIN_INCORRECT|authorization HMAC check failed|Could not read private key/);
    assert.not.match(line, holder.pin);
    assert.is(readFileSync(asked, "utf8"), "\n");
    holder.setPin(holder.pin);
    assert.is(opened(unwrapNow()), OPTSDATA);
  });
}

test.run();
