// The store against a model of it: whatever is done to it in whatever order, it holds what the model says, and every
// annotation opens whose key was not removed.

import { rmSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { asKeystoreError } from "../../src/errors.ts";
import { generateJwk, isPrivate, publicJwk, thumbprint, type Jwk } from "../../src/jwk/jwk.ts";
import { addKey } from "../../src/keystore/add.ts";
import { entries } from "../../src/keystore/listing.ts";
import { removeKey } from "../../src/keystore/remove.ts";
import { rotateKey, setDefault } from "../../src/keystore/rotate.ts";
import { openStore } from "../../src/keystore/store.ts";
import { parseKey } from "../../src/keys/import.ts";
import { atRestBySecret } from "../../src/at-rest/secret.ts";
import { lockKeys, unlockKeys } from "../../src/keystore/relock.ts";
import { secretFiles } from "../../src/at-rest/secret-files.ts";
import { tree, temporaryFolder } from "../support/folders.ts";
import { endurance } from "../support/parts.ts";
import { assertClosed, assertOpens, masterKeyFile, noSecrets, wrapHere } from "../support/stores.ts";

// The store's model.

const PAIR = generateJwk({ type: "ec" });
const OTHER = generateJwk({ type: "ec", curve: "P-384" });
const SYMMETRIC = generateJwk({ type: "oct" });
/** The keys that are imported again and again: pairs, halves of them, a symmetric one. */
const FIXED: readonly Jwk[] = [PAIR, publicJwk(PAIR), OTHER, publicJwk(OTHER), SYMMETRIC];
const NAMES = ["a", "b", "c", "default", PAIR.kid ?? ""];

type Step =
  | { readonly do: "keygen"; readonly name: string; readonly type: "ec" | "oct" }
  | { readonly do: "import"; readonly name: string; readonly key: Jwk; readonly force: boolean }
  | { readonly do: "rotate" | "default"; readonly name: string }
  | { readonly do: "remove"; readonly target: string | number; readonly force: boolean; readonly purge: boolean }
  | { readonly do: "lock" | "unlock" };

const name = fc.constantFrom(...NAMES);
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ do: fc.constant("keygen" as const), name, type: fc.constantFrom("ec" as const, "oct" as const) }),
  fc.record({ do: fc.constant("import" as const), name, key: fc.constantFrom(...FIXED), force: fc.boolean() }),
  fc.record({ do: fc.constantFrom("rotate" as const, "rotate" as const, "default" as const), name }),
  // a number stands for one of the kids that were ever there
  fc.record({
    do: fc.constant("remove" as const),
    target: fc.oneof(name, fc.nat(20)),
    force: fc.boolean(),
    purge: fc.boolean(),
  }),
  fc.record({ do: fc.constantFrom("lock" as const, "unlock" as const) }),
);

/** What should happen: an error's code, or a kid that is not known before it is made. */
type Outcome = "store" | "recipient" | "done";

class Model {
  readonly names = new Map<string, string[]>();
  /** Each key of the store, and whether its private half is there. */
  readonly keys = new Map<string, boolean>();
  /** The kids whose private keys lie in removed/: they are locked with the others. */
  readonly removed = new Set<string>();
  readonly seen: string[] = [];
  default: string | undefined;
  locked = false;

  /** The state after adding, if it is allowed. */
  add(into: string, kid: string, secret: boolean, force: boolean): Outcome {
    const former = this.names.get(into);
    const isThere = former?.[0] === kid && (!secret || this.keys.get(kid) === true);
    if (isThere && !force && !this.keys.has(into)) return "done";
    if (this.keys.has(into) || (former !== undefined && !force) || this.names.has(kid)) return "store";
    this.keys.set(kid, secret || this.keys.get(kid) === true);
    this.names.set(into, [kid, ...(former ?? []).filter((one) => one !== kid)]);
    if (secret) this.default ??= into;
    if (!this.seen.includes(kid)) this.seen.push(kid);
    return "done";
  }

  /** The state after rotating: of the default it changes nothing. */
  rotate(which: string, kid: string): Outcome {
    const { default: before } = this;
    const outcome = this.add(which, kid, true, true);
    this.default = before;
    return outcome;
  }

  canRotate(which: string): boolean {
    return this.keys.get(this.names.get(which)?.[0] ?? "") === true;
  }

  remove(target: string, force: boolean, purge: boolean): Outcome {
    const ofName = this.names.get(target);
    if (ofName === undefined && !this.keys.has(target)) return "recipient";
    const holders =
      ofName === undefined ? [...this.names].filter(([, kids]) => kids.includes(target)) : [[target, ofName] as const];
    const rest = (kids: readonly string[]): string[] =>
      ofName === undefined ? kids.filter((kid) => kid !== target) : [];
    if (ofName === undefined && holders.some(([, kids]) => kids[0] === target && kids.length > 1)) return "store";
    const untouched = [...this.names]
      .filter(([one]) => holders.every(([holder]) => holder !== one))
      .flatMap(([, kids]) => kids);
    const gone = (ofName ?? [target]).filter((kid) => !untouched.includes(kid));
    if (!force && gone.some((kid) => this.keys.get(kid) === true)) return "store";
    for (const [holder, kids] of holders) {
      if (rest(kids).length > 0) this.names.set(holder, rest(kids));
      else this.names.delete(holder);
      if (rest(kids).length === 0 && this.default === holder) this.default = undefined;
    }
    for (const kid of gone) {
      if (this.keys.get(kid) === true && !purge) this.removed.add(kid);
      this.keys.delete(kid);
    }
    if (!this.anyPrivate) this.locked = false; // nothing is left to tell
    return "done";
  }

  get anyPrivate(): boolean {
    return this.removed.size > 0 || [...this.keys.values()].includes(true);
  }

  get rows(): string[] {
    return [...this.names]
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .flatMap(([one, kids]) =>
        kids.map((kid, place) => {
          const secret = this.keys.get(kid) === true ? (this.locked ? "locked" : "file") : "none";
          return `${one} ${kid} ${place === 0 ? "current" : "retired"} ${secret}${place === 0 && this.default === one ? " default" : ""}`;
        }),
      );
  }
}

const withMasterKey = secretFiles({ masterKeyFile: masterKeyFile() });

/** Does a step to the store and the model. @returns what should have happened and what did */
async function take(dir: string, model: Model, one: Step): Promise<readonly [expected: Outcome, actual: string]> {
  const outcome = async (work: Promise<unknown>): Promise<string> =>
    await work.then(
      () => "done",
      (error: unknown) => asKeystoreError(error).code,
    );
  switch (one.do) {
    case "keygen": {
      const key = generateJwk({ type: one.type });
      return [
        model.add(one.name, key.kid ?? "", true, false),
        await outcome(addKey(openStore(dir, withMasterKey), one.name, key)),
      ];
    }
    case "import": {
      if (one.name === kidOfFixed(one.key)) return ["done", "done"]; // test/cli/import.test.ts has that
      const key = await parseKey(Buffer.from(JSON.stringify(one.key)), () => Promise.resolve(Buffer.alloc(0)));
      return [
        model.add(one.name, kidOfFixed(one.key), isPrivate(one.key), one.force),
        await outcome(addKey(openStore(dir, withMasterKey), one.name, key, one.force)),
      ];
    }
    case "rotate": {
      if (!model.canRotate(one.name))
        return ["recipient", await outcome(rotateKey(openStore(dir, withMasterKey), one.name))];
      return [model.rotate(one.name, await rotateKey(openStore(dir, withMasterKey), one.name)), "done"];
    }
    case "default": {
      const actual = await outcome(setDefault(openStore(dir, withMasterKey), one.name));
      if (!model.names.has(one.name)) return ["recipient", actual];
      model.default = one.name;
      return ["done", actual];
    }
    case "remove": {
      const target =
        typeof one.target === "string"
          ? one.target
          : (model.seen[one.target % Math.max(1, model.seen.length)] ?? "never");
      return [
        model.remove(target, one.force, one.purge),
        await outcome(removeKey(openStore(dir, withMasterKey), target, one)),
      ];
    }
    case "lock":
    case "unlock": {
      const work =
        one.do === "lock"
          ? lockKeys(openStore(dir, withMasterKey), atRestBySecret("master key", withMasterKey))
          : unlockKeys(openStore(dir, withMasterKey));
      model.locked = one.do === "lock" && model.anyPrivate;
      return ["done", await outcome(work)];
    }
  }
  throw new Error("no such step");
}

function kidOfFixed(jwk: Jwk): string {
  return jwk.kty === "oct" ? (jwk.kid ?? "") : thumbprint(jwk);
}

/** Everything that a user relies on, read from the store. */
async function assertIsAsModelled(dir: string, model: Model, annotations: Map<string, Buffer>): Promise<void> {
  assert.equal(
    entries(openStore(dir, noSecrets)).map(
      (entry) => `${entry.name} ${entry.kid} ${entry.state} ${entry.private}${entry.default ? " default" : ""}`,
    ),
    model.rows,
  );
  assert.is(openStore(dir, noSecrets).defaultName(), model.default);
  for (const [kid, annotation] of annotations) {
    if (model.keys.get(kid) === true) await assertOpens(dir, annotation, withMasterKey);
    else await assertClosed(dir, annotation, withMasterKey);
  }
  const current = new Set([...model.names.values()].map(([kid]) => kid));
  for (const [one, [kid = "", ...retired]] of model.names) {
    const annotation = await wrapHere(dir, one, withMasterKey);
    const { recipients } = JSON.parse(annotation.toString()) as { recipients: { header: { kid: string } }[] };
    assert.equal(
      recipients.map(({ header }) => header.kid),
      [kid],
      `${one} wraps for its current key`,
    );
    annotations.set(kid, annotation);
    for (const old of retired.filter((other) => !current.has(other))) {
      const error = await wrapHere(dir, old, withMasterKey).catch((reason: unknown) => reason);
      assert.match(String(error), "is retired and cannot encrypt");
    }
  }
  const files = Object.keys(tree(dir));
  assert.equal(
    files.filter((file) => /\.lock|\.tmp/.test(file)),
    [],
  );
  assert.equal(
    files.filter((file) => /^(private|removed)\/[^.]+\.jw[ek]$/.test(file) && file.endsWith(".jwk") === model.locked),
    [],
    "all are locked, or none is",
  );
}

test("a store holds what its model says, after any commands in any order", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 25 }), async (steps) => {
      const dir = join(temporaryFolder(), "store");
      const model = new Model();
      const annotations = new Map<string, Buffer>();
      await addKey(openStore(dir, withMasterKey), "a", PAIR);
      model.add("a", kidOfFixed(PAIR), true, false);
      for (const one of steps) {
        const [expected, actual] = await take(dir, model, one);
        assert.is(actual, expected, JSON.stringify(one));
        await assertIsAsModelled(dir, model, annotations);
      }
      rmSync(dir, { recursive: true });
    }),
    { numRuns: endurance(2500), includeErrorInReport: true },
  );
});

test.run();
