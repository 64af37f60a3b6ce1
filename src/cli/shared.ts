// What the commands share: the parser's type, and how they print.

import type { Argv } from "yargs";
import { KeystoreError } from "../errors.ts";
import { readSmallFile, type SmallFile } from "../keystore/files.ts";
import { writeStandardOutput } from "../transport/stdio.ts";

/** The parser a command adds itself to, with the options every command has. */
export type Cli = Argv<{ keystore: string | undefined; "passphrase-file": string | undefined; "master-key-file": string | undefined }>;

/** Tells a person something that is no data, on standard error. */
export function tell(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** Prints data and a newline to standard output. */
export function print(text: string): void {
  writeStandardOutput(`${text}\n`);
}

/** Prints a value as JSON for programs. */
export function printJson(value: unknown): void {
  print(JSON.stringify(value, null, 2));
}

/** Prints rows as columns under a heading, as wide as their widest cell. */
export function printTable(heading: readonly string[], rows: readonly (readonly string[])[]): void {
  const table = [heading, ...rows];
  const widths = heading.map((_, column) => Math.max(...table.map((row) => row[column]?.length ?? 0)));
  print(table.map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  ").trimEnd()).join("\n"));
}

/** Reads a file that the command line names. @throws KeystoreError `io` if it is not there */
export function mustReadFile(path: string, hint: string): SmallFile {
  const file = readSmallFile(path);
  if (file === undefined) throw new KeystoreError("io", `there is no file ${path}`, hint);
  return file;
}
