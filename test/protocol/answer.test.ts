// Answers: one result, for the recipients that the request names.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { answerRequest, wireForm, type Answer } from "../../src/protocol/answer.ts";
import { parseRequest } from "../../src/protocol/request.ts";
import { openStore } from "../../src/keystore/store.ts";
import { headerKids, OPTSDATA, unwrapRequest, wrapRequest } from "../support/requests.ts";
import { kidOf, makeStore, noSecrets } from "../support/stores.ts";

const dir = makeStore("alice", "bob");
const store = openStore(dir, noSecrets);
const answer = async (request: string): Promise<Answer> =>
  await answerRequest(parseRequest(Buffer.from(request)), store, { provider: undefined, startedAs: "" });
const wrapped = async (...values: readonly string[]): Promise<Buffer> => {
  const given = await answer(wrapRequest(values));
  if (given.op !== "keywrap") throw new Error("another result");
  return given.annotation;
};

test("wraps for the default key, or for each that is named, once", async () => {
  const [alice, bob] = [kidOf(dir, "alice"), kidOf(dir, "bob")];
  assert.equal(headerKids(await wrapped("")), [alice]);
  assert.equal(headerKids(await wrapped("bob", "alice:bob")), [bob, alice]);
});

test("unwraps what it wrapped", async () => {
  assert.equal(await answer(unwrapRequest(await wrapped("bob"))), { op: "keyunwrap", optsdata: Buffer.from(OPTSDATA) });
});

test("refuses more names than 64 recipients can have before it looks one up", async () => {
  const names = Array.from({ length: 129 }, (_, index) => `nobody${index}`);
  await answer(wrapRequest(names)).then(
    () => assert.unreachable(),
    (error: unknown) => assert.match(String(error), "more than 64 recipients"),
  );
});

test("writes one result, its bytes as the transport wants them", () => {
  const hex = (bytes: Buffer): string => bytes.toString("hex");
  const bytes = Buffer.from("a");
  assert.is(wireForm({ op: "keywrap", annotation: bytes }, hex), '{"keywrapresults":{"annotation":"61"}}');
  assert.is(wireForm({ op: "keyunwrap", optsdata: bytes }, hex), '{"keyunwrapresults":{"optsdata":"61"}}');
});

test.run();
