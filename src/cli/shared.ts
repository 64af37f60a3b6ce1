// What the commands share: the parser's type, and how they print.

import { statSync } from "node:fs";
import type { Argv } from "yargs";
import { errorCode, ioError } from "../errors.ts";
import { noModes, systemWithoutModes } from "../fs/mount.ts";
import { readSmallFile, type SmallFile } from "../fs/read.ts";
import type { Store } from "../keystore/store.ts";
import { outputError, writeStandardError, writeStandardOutput } from "../exec/stdio.ts";

/** The parser that a command adds itself to, with the options that every command has. */
export type Cli = Argv<{
  keystore: string | undefined;
  "passphrase-file": string | undefined;
  "master-key-file": string | undefined;
}>;

/** Prints a message for the user, which is not data, on standard error. */
export function tell(text: string): void {
  writeStandardError(`${text}\n`);
}

/**
 * Prints text and a newline to standard output. A reader such as head may close it early: then only the exit code tells
 * that, and the command goes on.
 *
 * @throws KeystoreError `io` if it cannot be written for another reason
 */
export function print(text: string): void {
  try {
    writeStandardOutput(`${text}\n`);
  } catch (error) {
    if (errorCode(error) !== "EPIPE") throw outputError(error);
    process.exitCode = 1;
  }
}

/**
 * Prints the kid of a key that was just stored, and warns if others can read it.
 *
 * @throws KeystoreError `io` that says it was stored, if it cannot be written
 */
export function printKid(kid: string, store: Store): void {
  tellReaders(store);
  try {
    writeStandardOutput(`${kid}\n`);
  } catch (error) {
    const { message } = outputError(error);
    throw ioError(
      `the key ${kid} is in the store, but its kid was not printed: ${message}`,
      "see ocicrypt-keystore list",
    );
  }
}

/**
 * Says that other users can read private keys that were just written, if the file system cannot keep them secret. The
 * change is done by then: if that cannot be looked up, nothing is said.
 */
export function tellReaders(store: Store): void {
  try {
    const readable = store.keyFiles("jwk").find(({ path }) => {
      const mode = statSync(path, { throwIfNoEntry: false })?.mode ?? 0; // a lock has just removed it
      return (mode & 0o044) !== 0;
    });
    const type = readable && systemWithoutModes(readable.path);
    if (type === undefined) return;
    tell(`warning: others can read the private keys in ${store.dir}; ${noModes(type)}, or run ocicrypt-keystore lock`);
  } catch {
    // doctor says what is wrong there
  }
}

/** Prints a value as JSON for programs. */
export function printJson(value: unknown): void {
  print(JSON.stringify(value, null, 2));
}

/** Prints rows under a heading. Each column is as wide as its widest cell. */
export function printTable(heading: readonly string[], rows: readonly (readonly string[])[]): void {
  const table = [heading, ...rows];
  const widths = heading.map((_, column) => table.reduce((width, row) => Math.max(width, row[column]?.length ?? 0), 0));
  print(
    table
      .map((row) =>
        row
          .map((cell, column) => cell.padEnd(widths[column] ?? 0))
          .join("  ")
          .trimEnd(),
      )
      .join("\n"),
  );
}

/** Reads a file that the command line names. @throws KeystoreError `io` if there is no file */
export function mustReadFile(path: string, hint: string): SmallFile {
  const file = readSmallFile(path);
  if (file === undefined) throw ioError(`there is no file ${path}`, hint);
  return file;
}
