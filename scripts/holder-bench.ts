// Measures unwrapping with keys that real HSMs and TPMs in software hold, compared with their own command alone, and
// with keys that are locked for a Tang server.

import { createPublicKey } from "node:crypto";
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { binary } from "./build.ts";
import { at, compare, run } from "./measure.ts";
import { KINDS } from "../test/support/hardware.ts";
import { Tang, tangParts } from "../test/support/tang.ts";

const ROUNDS = 20;

/** Writes a row for each part that is here. @param requests makes the request files of a recipient */
export async function heldElsewhere(
  store: string,
  requests: (store: string, recipient: string) => { unwrap: string },
): Promise<void> {
  for (const { name, needs, isThere, start } of KINDS) {
    if (!isThere()) {
      process.stderr.write(`${name} is not measured: it needs ${needs}\n`);
      continue;
    }
    const { publicKey, op, argv, env } = await start();
    const [held, recipient] = [at(`held-by-${name}`), name.toLowerCase()];
    run([binary, "import", recipient, publicKey, "--keystore", held, "--holder", op, "--", ...argv], { env });
    const { unwrap } = requests(held, recipient);
    const input = at(`input-${name}`);
    writeFileSync(input, holderInput(unwrap));
    compare(
      ROUNDS,
      "its own command alone",
      { argv, env, stdin: input },
      { [`unwrap, held by ${name}, ${op}`]: [{ argv: [binary, "--keystore", held], env, stdin: unwrap }, ""] },
    );
  }
  if (tangParts === undefined) return;
  const tang = await Tang.started();
  const locked = at("tang-locked");
  cpSync(store, locked, { recursive: true });
  run([binary, "lock", "--keystore", locked, "--tang", tang.url, "--thumbprint", tang.thumbprint]);
  const { unwrap } = requests(locked, "p256");
  const file = `${locked}/private/${readFileSync(`${locked}/names/p256`, "utf8").trim()}.jwe`;
  compare(
    ROUNDS,
    "`clevis decrypt` of the key file",
    { argv: [tangParts.clevis, "decrypt"], stdin: file, env: { PATH: process.env["PATH"] } },
    { "unwrap, locked for a Tang server": [{ argv: [binary, "--keystore", locked], stdin: unwrap }, ""] },
  );
  await tang.stop();
}

/** The input of the holder's command for an unwrap request: the encrypted key, or the other side's public key. */
function holderInput(unwrap: string): Buffer {
  const { keyunwrapparams } = JSON.parse(readFileSync(unwrap, "utf8")) as { keyunwrapparams: { annotation: string } };
  const jwe = JSON.parse(Buffer.from(keyunwrapparams.annotation, "base64").toString()) as {
    recipients: [{ header: { epk?: Record<string, string> }; encrypted_key: string }];
  };
  const [{ header, encrypted_key: encryptedKey }] = jwe.recipients;
  return header.epk === undefined
    ? Buffer.from(encryptedKey, "base64url")
    : createPublicKey({ key: header.epk, format: "jwk" }).export({ type: "spki", format: "der" });
}
