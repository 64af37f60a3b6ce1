// The gate's limits: annotations that a store's own key would open, but for their size. Small cases are in test/vectors.

import { test } from "uvu";
import { assertOpens, assertRefused, keys, type Annotation } from "../support/attacks.ts";
import { b64u, forge, newKey, type Forged } from "../support/second-jwe.ts";

const ours = { jwk: keys.p256 };
const good = forge([ours]);
const pad = (jwe: Forged, length: number): string => {
  const padded = JSON.stringify({ ...jwe, pad: "" });
  return padded.replace('"pad":""', `"pad":"${"x".repeat(length - padded.length)}"`);
};
/** JSON text as it is in the protected header, which is encrypted with. */
const withProtected = (header: string | Buffer): Annotation => ({ ...good, protected: b64u(header) });

// Rule 1 of src/jwe/README.md

test("takes an annotation of 256 KiB and refuses one a byte larger", () => {
  assertOpens(pad(good, 256 * 1024));
  assertRefused(pad(good, 256 * 1024 + 1), /larger than 256 KiB/);
});

test("takes headers of 16 KiB and refuses each of the three when it is larger", () => {
  const fill = (length: number): { x: string } => ({ x: "x".repeat(length) });
  assertOpens(forge([ours], { protected: fill(16_384 - '{"enc":"A256GCM","x":""}'.length) }));
  assertRefused(
    forge([ours], { protected: fill(16_385 - '{"enc":"A256GCM","x":""}'.length) }),
    /header larger than 16 KiB/,
  );
  assertOpens(forge([ours], { unprotected: fill(16_384 - '{"x":""}'.length) }));
  assertRefused(forge([ours], { unprotected: fill(16_385 - '{"x":""}'.length) }), /header larger than 16 KiB/);
  assertOpens(forge([{ ...ours, header: fill(16_000) }]));
  assertRefused(forge([{ ...ours, header: fill(16_384) }]), /header larger than 16 KiB/);
});

test("refuses nesting without bound, in the annotation and in the protected header", () => {
  assertRefused(`{"x":${"[".repeat(100_000)}${"]".repeat(100_000)}}`, /nested too deep/);
  assertRefused(`{"x":${"[".repeat(100_000)}`, /not JSON/);
  assertRefused(withProtected("[".repeat(8000) + "]".repeat(8000)), /nested too deep/);
});

// Rule 10 of src/jwe/README.md

test("opens for the last of 64 recipients and refuses 65", () => {
  const stranger = { jwk: newKey("P-256") };
  assertOpens(forge([...Array.from({ length: 63 }, () => stranger), ours]));
  assertRefused(forge([ours, ...Array.from({ length: 64 }, () => stranger)]), /more than 64 recipients/);
});

test("refuses a forbidden annotation before any key is looked for", () => {
  assertRefused(forge([ours], { protected: { zip: "DEF" } }), /uses "zip"/, "/nonexistent");
});

test.run();
