// Runs the cases of test/vectors: through src with all keys, and through the built binary with the case's own key.

import { randomInt } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { KeystoreError } from "../../src/errors.ts";
import { open } from "../../src/jwe/open.ts";
import { assertOpens, assertRefused, assertUnopened, privateKeys, storeOf } from "../support/attacks.ts";
import { endurance } from "../support/parts.ts";
import { ROOT } from "../support/program.ts";
import { unforge, type Forged, type PlainJwk } from "../support/second-jwe.ts";

/** A case, as test/vectors/README.md describes it. */
interface Vector {
  readonly name: string;
  readonly key: string | PlainJwk;
  readonly annotation: string;
  readonly expected: "opens" | "malformed" | "foreign";
  readonly plaintext?: string;
  readonly reason?: string;
}

const FOLDER = join(ROOT, "test/vectors");
const parse = (file: string): unknown => JSON.parse(readFileSync(join(FOLDER, file), "utf8"));

const KEYS: Record<string, PlainJwk> = {};
for (const jwk of (parse("keys.jwks") as { keys: PlainJwk[] }).keys) KEYS[jwk["kid"] ?? ""] = jwk;

const stores = new Map(Object.entries(KEYS).map(([id, jwk]) => [id, storeOf({ [id]: jwk })]));

const IN_THE_BINARY: Record<Vector["expected"], (annotation: Buffer, dir: string, vector: Vector) => string> = {
  opens(annotation, dir, { plaintext }) {
    assertOpens(annotation, dir, plaintext);
    return "";
  },
  malformed: (annotation, dir, { reason = "" }) => assertRefused(annotation, reason, dir),
  foreign(annotation, dir, { reason = "" }) {
    const line = assertUnopened(annotation, dir);
    assert.match(line, reason);
    return line;
  },
};

/** What src makes of an annotation: the plaintext, or the kind of failure. */
async function outcome(
  annotation: Buffer,
  jwks: Record<string, PlainJwk>,
): Promise<Pick<Vector, "expected" | "plaintext">> {
  try {
    return { expected: "opens", plaintext: (await open(annotation, privateKeys(jwks))).toString() };
  } catch (error) {
    if (!(error instanceof KeystoreError)) throw error;
    return { expected: error.exitCode === 1 ? "malformed" : "foreign" };
  }
}

/** Every form as general JSON, which the second implementation reads. */
function general(annotation: string): Forged {
  if (!annotation.startsWith("{")) {
    const [header, encrypted_key = "", iv = "", ciphertext = "", tag = ""] = annotation.split(".");
    return {
      ...(header === undefined ? {} : { protected: header }),
      iv,
      ciphertext,
      tag,
      recipients: [{ encrypted_key }],
    };
  }
  const jwe = JSON.parse(annotation) as Forged & { header?: object; encrypted_key?: string };
  return "recipients" in jwe ? jwe : { ...(jwe as Forged), recipients: [jwe] };
}

/** Whether the second implementation opens an annotation for one of its recipients. */
function opensElsewhere(annotation: Buffer, jwk: PlainJwk, plaintext: string): boolean {
  const jwe = general(annotation.toString());
  return jwe.recipients.some((_, at) => {
    try {
      return unforge(jwe, at, jwk) === plaintext;
    } catch {
      return false; // a recipient for another key
    }
  });
}

// Every case runs through src. Through the binary runs every one in CI, elsewhere every fifth, starting anywhere.
const STEP = endurance(100) >= 100 ? 1 : 5;
let turn = randomInt(STEP);

const failures = new Map<string, Set<string>>(); // by key, the lines that the binary wrote for tampered.json

for (const file of readdirSync(FOLDER).filter((name) => name.endsWith(".json"))) {
  for (const vector of parse(file) as Vector[]) {
    const { name, key, expected, plaintext } = vector;
    test(`${file}: ${expected}: ${name}`, async () => {
      const annotation = Buffer.from(vector.annotation, "base64");
      const [id, held] = typeof key === "string" ? [key, KEYS] : ["own", { own: key }];
      const jwk = held[id];
      if (jwk === undefined) throw new Error(`keys.jwks has no ${id}`);
      assert.equal(await outcome(annotation, held), { expected, ...(plaintext === undefined ? {} : { plaintext }) });
      if (plaintext !== undefined) assert.ok(opensElsewhere(annotation, jwk, plaintext), "the second implementation");
      if (turn++ % STEP !== 0) return;
      const line = IN_THE_BINARY[expected](annotation, stores.get(id) ?? storeOf({ [id]: jwk }), vector);
      if (file === "tampered.json") failures.set(id, (failures.get(id) ?? new Set()).add(line));
    });
  }
}

test("says the same, byte for byte, of every failure to open for one recipient: tampered.json", () => {
  assert.equal([...failures.keys()].toSorted(), Object.keys(KEYS).toSorted());
  for (const [key, lines] of failures) assert.is(lines.size, 1, `${key}: ${[...lines].join("\n")}`);
});

test.run();
