// Which layers count as encrypted.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { countLayers, type LayerReport } from "../../src/image/inspect.ts";

const PART = { recipients: [{ alg: "ECDH-ES+A256KW" }], told: true };
const layer = (changes: Partial<LayerReport>): LayerReport => ({
  digest: "sha256:0",
  size: 1,
  mediaType: "application/vnd.oci.image.layer.v1.tar+encrypted",
  encrypted: true,
  annotations: [{ scheme: "provider:ks", parts: [PART] }],
  ...changes,
});
const counted = (...layers: readonly LayerReport[]): readonly number[] => {
  const { encrypted, plain, untold } = countLayers([{ digest: "sha256:1", layers }]);
  return [encrypted.length, plain.length, untold.length];
};

test("counts a layer as encrypted if an annotation tells for whom", () => {
  assert.equal(counted(layer({})), [1, 0, 0]);
  const pgp = { scheme: "pgp", parts: [{ recipients: [], told: false }] };
  assert.equal(counted(layer({ annotations: [pgp, { scheme: "jwe", parts: [PART] }] })), [1, 0, 0]);
});

test("counts a layer as plain if it is not encrypted, or nobody has its key", () => {
  assert.equal(counted(layer({ encrypted: false }), layer({ annotations: [] })), [0, 2, 0]);
});

test("counts a layer apart if no annotation tells for whom", () => {
  for (const scheme of ["pgp", "pkcs7", "provider:"]) {
    assert.equal(counted(layer({ annotations: [{ scheme, parts: [PART] }] })), [0, 0, 1], scheme);
  }
  for (const recipients of [[], [{ alg: "none" }], [{ alg: "dir" }]]) {
    assert.equal(counted(layer({ annotations: [{ scheme: "jwe", parts: [{ recipients, told: false }] }] })), [0, 0, 1]);
  }
});

test("leaves attestations out, which clients never encrypt", () => {
  assert.equal(counted(layer({ encrypted: false, attestation: true }), layer({})), [1, 0, 0]);
});

test.run();
