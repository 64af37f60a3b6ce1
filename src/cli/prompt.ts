// Asks on the terminal, even if standard input is not the terminal: for a passphrase, without echo, or for a yes.

import { openSync, writeSync } from "node:fs";
import { createInterface } from "node:readline";
import { Writable } from "node:stream";
import { ReadStream } from "node:tty";
import { ioError, usageError } from "../errors.ts";

/**
 * Reads a line from /dev/tty without echo.
 *
 * @param hint what to do if there is no terminal
 * @throws KeystoreError `usage` without a terminal, `io` after Ctrl-C or Ctrl-D
 */
export async function askSecret(question: string, hint: string): Promise<Buffer> {
  return Buffer.from(await askLine(question, openTerminal("for the passphrase", hint), false));
}

/**
 * Whether the line typed at /dev/tty is `yes`.
 *
 * @param what completes the error "there is no terminal to ask …"
 * @param hint what to do if there is no terminal
 * @throws KeystoreError `usage` without a terminal, `io` after Ctrl-C or Ctrl-D
 */
export async function askYes(question: string, what: string, hint: string): Promise<boolean> {
  return (await askLine(question, openTerminal(what, hint), true)).trim().toLowerCase() === "yes";
}

async function askLine(question: string, fd: number, echo: boolean): Promise<string> {
  const input = new ReadStream(fd);
  if (process.env["TERM"] === "dumb") delete process.env["TERM"]; // or readline does not edit the line
  const silent = new Writable({ write: (_chunk, _encoding, done) => done() });
  // With echo, the terminal itself edits the line.
  const lines = createInterface({ input, output: silent, terminal: !echo, historySize: 0 });
  writeSync(fd, question);
  try {
    const answer = await new Promise<string | undefined>((resolve) => {
      lines.once("line", resolve);
      lines.once("SIGINT", () => resolve(undefined));
      lines.once("close", () => resolve(undefined));
    });
    if (answer === undefined) throw ioError("cancelled", "nothing was changed");
    return answer;
  } finally {
    lines.close();
    input.setRawMode(false);
    if (!echo) writeSync(fd, "\n");
    input.destroy();
  }
}

function openTerminal(what: string, hint: string): number {
  try {
    return openSync("/dev/tty", "r+");
  } catch {
    throw usageError(`there is no terminal to ask ${what}`, hint);
  }
}
