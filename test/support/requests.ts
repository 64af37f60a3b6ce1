// Key provider requests as clients send them, and the binary's answers to them.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT, run, succeed, type Result } from "./program.ts";

/** A request that a real client sent, from test/protocol. */
export function recorded(name: string): string {
  return readFileSync(join(ROOT, "test/protocol", `${name}.json`), "utf8");
}

/** What a layer's key looks like. */
export const OPTSDATA =
  '{"symkey":"UDF0CHxhvdjr2p5QymafHz5f9nGuHpPVBSKfXUby0Y=","digest":"sha256:0","cipheroptions":{"nonce":"AA=="}}';

/** A wrap request of a provider with values, as skopeo sends it. */
export function wrapRequest(
  values: readonly string[],
  provider = "keystore",
  optsdata: string | Buffer = OPTSDATA,
): string {
  const parameters = { [provider]: values.map((value) => Buffer.from(value).toString("base64")) };
  return JSON.stringify({
    op: "keywrap",
    keywrapparams: {
      ec: { Parameters: parameters, DecryptConfig: { Parameters: {} } },
      optsdata: Buffer.from(optsdata).toString("base64"),
    },
    keyunwrapparams: { dc: null, annotation: null },
  });
}

/** An unwrap request for an annotation, as containerd sends it. */
export function unwrapRequest(annotation: string | Buffer): string {
  return JSON.stringify({
    op: "keyunwrap",
    keywrapparams: { ec: null, optsdata: null },
    keyunwrapparams: { dc: { Parameters: null }, annotation: Buffer.from(annotation).toString("base64") },
  });
}

/** Wraps for recipients with the binary: the annotation, decoded. */
export function wrap(dir: string, values: readonly string[], optsdata?: string | Buffer): Buffer {
  const { keywrapresults } = JSON.parse(
    succeed(["--keystore", dir], { input: wrapRequest(values, "keystore", optsdata) }),
  ) as {
    keywrapresults: { annotation: string };
  };
  return Buffer.from(keywrapresults.annotation, "base64");
}

/** Unwraps an annotation with the binary: the optsdata as text. */
export function unwrap(dir: string, annotation: string | Buffer): string {
  const { keyunwrapresults } = JSON.parse(succeed(["--keystore", dir], { input: unwrapRequest(annotation) })) as {
    keyunwrapresults: { optsdata: string };
  };
  return Buffer.from(keyunwrapresults.optsdata, "base64").toString();
}

/** Exec mode's answer to an unwrap request, whatever it is. */
export function exec(
  dir: string,
  annotation: string | Buffer,
  options: readonly string[] = [],
  env: NodeJS.ProcessEnv = {},
): Result {
  return run(["--keystore", dir, ...options], { input: unwrapRequest(annotation), env });
}

/** The kids in an annotation. */
export function headerKids(annotation: Buffer): string[] {
  const { recipients } = JSON.parse(annotation.toString()) as { recipients: { header: { kid: string } }[] };
  return recipients.map(({ header }) => header.kid);
}
