// Keys on their way between a store and other programs. Written against the layout in the top README, not with src/.

import { createHash, createPrivateKey, randomBytes } from "node:crypto";
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { temporaryFolder } from "./folders.ts";
import { kidOf } from "./stores.ts";

/** A parsed JSON Web Key, private part included. */
export type PrivateJwk = Readonly<Record<string, unknown>>;

const THUMBPRINT_MEMBERS: Partial<Record<string, readonly string[]>> = {
  EC: ["crv", "kty", "x", "y"],
  RSA: ["e", "kty", "n"],
}; // RFC 7638, section 3.2
const PRIVATE_MEMBERS = ["d", "p", "q", "dp", "dq", "qi", "k"];

/** Puts a foreign private key into a store under a name, file by file. Returns its kid. */
export function placeKey(dir: string, name: string, jwk: PrivateJwk): string {
  const members = THUMBPRINT_MEMBERS[String(jwk["kty"])];
  const kid =
    members === undefined
      ? randomBytes(16).toString("base64url")
      : createHash("sha256")
          .update(JSON.stringify(pick(jwk, members)))
          .digest("base64url");
  const shown = Object.keys(jwk).filter((member) => !PRIVATE_MEMBERS.includes(member));
  mkdirSync(join(dir, "private"), { recursive: true, mode: 0o700 });
  for (const folder of ["public", "names"]) mkdirSync(join(dir, folder), { recursive: true });
  writeFileSync(join(dir, "private", `${kid}.jwk`), JSON.stringify({ ...jwk, kid }), { mode: 0o600 });
  writeFileSync(join(dir, "public", `${kid}.jwk`), JSON.stringify({ ...pick(jwk, shown), kid }));
  writeFileSync(join(dir, "names", name), `${kid}\n`);
  return kid;
}

/** The path of a name's private key in a store. */
export function privateKeyFile(dir: string, name: string): string {
  return join(dir, "private", `${kidOf(dir, name)}.jwk`);
}

/** A store that holds one private key of another store and nothing else, not even its name. */
export function storeWithOnly(dir: string, name: string): string {
  const only = temporaryFolder();
  mkdirSync(join(only, "private"), { mode: 0o700 });
  copyFileSync(privateKeyFile(dir, name), join(only, "private", `${kidOf(dir, name)}.jwk`));
  return only;
}

/** A private key of a store as PKCS #8 PEM, in a file that other programs read. */
export function privateKeyPem(dir: string, name: string): string {
  const jwk = JSON.parse(readFileSync(privateKeyFile(dir, name), "utf8")) as Record<string, string>;
  const file = join(temporaryFolder(), `${name}.pem`);
  writeFileSync(file, createPrivateKey({ key: jwk, format: "jwk" }).export({ type: "pkcs8", format: "pem" }), {
    mode: 0o600,
  });
  return file;
}

function pick(jwk: PrivateJwk, members: readonly string[]): PrivateJwk {
  return Object.fromEntries(members.map((member) => [member, jwk[member]]));
}
