// The requests of a client to a provider. Several checks use this.

/** What clients send for `provider:NAME` without a recipient. */
export const NO_RECIPIENT = "Enabled";

/** A request to wrap for one recipient, or {@link NO_RECIPIENT}. */
export function wrapRequest(provider: string, recipient: string, optsdata: Buffer): string {
  const parameters = { [provider]: [Buffer.from(recipient).toString("base64")] };
  const keywrapparams = { ec: { Parameters: parameters }, optsdata: optsdata.toString("base64") };
  return JSON.stringify({ op: "keywrap", keywrapparams });
}

/** A request to unwrap. */
export function unwrapRequest(annotation: Buffer): string {
  const keyunwrapparams = { dc: { Parameters: null }, annotation: annotation.toString("base64") };
  return JSON.stringify({ op: "keyunwrap", keyunwrapparams });
}
