// A certificate authority for tests, made with openssl: a server's certificate for localhost, and clients'.

import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { temporaryFolder } from "./folders.ts";

/** PEM files of an authority and of what it signed. */
export interface Authority {
  readonly ca: string;
  /** Makes a key and a certificate, for a server and a client alike. @param subject instead of the name as common name */
  issue(name: string, subject?: string): { readonly cert: string; readonly key: string };
}

/** Whether openssl is here. */
export const openssl = spawnSync("openssl", ["version"]).status === 0 ? true : undefined;

/** A new authority. @param hosts names that its certificates are for, besides this machine's */
export function makeAuthority(...hosts: readonly string[]): Authority {
  const dir = temporaryFolder();
  const file = (name: string): string => join(dir, name);
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  run(
    "req",
    "-x509",
    ...key,
    "-keyout",
    file("ca.key"),
    "-out",
    file("ca.pem"),
    "-days",
    "2",
    "-subj",
    "/CN=test authority",
  );
  writeFileSync(
    file("names"),
    `subjectAltName=${["localhost", ...hosts].map((host) => `DNS:${host}`).join(",")},IP:127.0.0.1,IP:::1\n`,
  );
  return {
    ca: file("ca.pem"),
    issue: (name, subject = `/CN=${name}`) => {
      const [cert, secret, request] = [file(`${name}.pem`), file(`${name}.key`), file(`${name}.csr`)];
      run("req", ...key, "-keyout", secret, "-out", request, "-subj", subject);
      run(
        "x509",
        "-req",
        "-in",
        request,
        "-CA",
        file("ca.pem"),
        "-CAkey",
        file("ca.key"),
        "-CAcreateserial",
        "-days",
        "2",
        "-extfile",
        file("names"),
        "-out",
        cert,
      );
      return { cert, key: secret };
    },
  };
}

/** PEM files of an RSA key and a certificate for localhost that is its own authority. */
export function selfSigned(): { readonly cert: string; readonly key: string } {
  const dir = temporaryFolder();
  const [cert, key] = [join(dir, "cert.pem"), join(dir, "key.pem")];
  run(
    "req",
    "-x509",
    "-newkey",
    "rsa:2048",
    "-nodes",
    "-keyout",
    key,
    "-out",
    cert,
    "-days",
    "2",
    "-subj",
    "/CN=localhost",
    "-addext",
    "subjectAltName=DNS:localhost",
  );
  return { cert, key };
}

function run(...args: readonly string[]): void {
  const { status, stderr } = spawnSync("openssl", args, { encoding: "utf8" });
  assert.is(status, 0, stderr);
}
