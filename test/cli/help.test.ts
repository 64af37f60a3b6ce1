// help: the topics, and what troubleshooting answers.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { assertFailure, ROOT, run, succeed } from "../support/program.ts";

// As the clients print them.
const MESSAGES = [
  "missing private key needed for decryption",
  "no wrapped keys produced by encryption",
  "Provided protocol not recognized",
  "Unsupported keyprovider invocation",
  "invalid wire-format data",
  "could not UnmarshalAny() the decrypt data",
  "wrong diff id sha256:e3b0c442",
  'wrong diff id "sha256:e3b0c442',
  "does not match config's DiffID",
  "server preface: EOF",
  "error reading server preface: EOF",
  "exec format error",
];

test("help troubleshooting answers the clients' literal messages", () => {
  const text = succeed(["help", "troubleshooting"]);
  assert.is(text, readFileSync(join(ROOT, "src/help/troubleshooting.md"), "utf8"));
  for (const message of MESSAGES) assert.ok(text.includes(message), message);
});

test("help without a topic shows the commands and the topics, and an unknown topic is wrong usage", () => {
  assert.match(succeed(["help"]), /keygen NAME[^]* help TOPIC +Explain a topic: troubleshooting/);
  const line = assertFailure(run(["help", "nothing"]), 2);
  assert.match(line, /there is no help topic "nothing"; topics: .*troubleshooting/);
});

test.run();
