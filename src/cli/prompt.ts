// Asks for a passphrase on the terminal, whatever standard input is. Nothing of it is echoed.

import { openSync, writeSync } from "node:fs";
import { createInterface } from "node:readline";
import { Writable } from "node:stream";
import { ReadStream } from "node:tty";
import { KeystoreError } from "../errors.ts";

/**
 * Reads a line from /dev/tty without echo.
 *
 * @param hint what to do where there is no terminal
 * @throws KeystoreError `usage` without a terminal, `io` after Ctrl-C or Ctrl-D
 */
export async function askSecret(question: string, hint: string): Promise<Buffer> {
  const fd = openTerminal(hint);
  const input = new ReadStream(fd);
  if (process.env["TERM"] === "dumb") delete process.env["TERM"]; // readline would not edit the line, and nothing is drawn here
  const silent = new Writable({ write: (_chunk, _encoding, done) => done() });
  const lines = createInterface({ input, output: silent, terminal: true, historySize: 0 });
  writeSync(fd, question);
  try {
    const answer = await new Promise<string | undefined>((resolve) => {
      lines.once("line", resolve);
      lines.once("SIGINT", () => resolve(undefined));
      lines.once("close", () => resolve(undefined));
    });
    if (answer === undefined) throw new KeystoreError("io", "cancelled", "nothing was changed");
    return Buffer.from(answer);
  } finally {
    lines.close();
    input.setRawMode(false);
    writeSync(fd, "\n");
    input.destroy();
  }
}

function openTerminal(hint: string): number {
  try {
    return openSync("/dev/tty", "r+");
  } catch {
    throw new KeystoreError("usage", "there is no terminal to ask for the passphrase", hint);
  }
}
