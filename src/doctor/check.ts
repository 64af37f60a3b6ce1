// What a check is, and how one is made.

import { accessSync, constants, statSync } from "node:fs";
import { join } from "node:path";
import { asKeystoreError, printable } from "../errors.ts";

/** What one look came to. An id is there once where all is well, else once for each thing found. */
export interface Check {
  readonly id: string;
  readonly status: "ok" | "warn" | "fail";
  readonly message: string;
  /** The way out, where it is not ok. */
  readonly hint?: string;
  /** Mends it without losing anything; runs while the store's lock is held. */
  readonly mend?: () => void;
}

/** Notes something found. */
export type Note = (message: string, hint: string, mend?: () => void) => void;

const MAX_LINE = 1024; // characters of a message or a hint: paths and names of files may be anything

/** Runs one check: `look` notes what it finds, and gives the message for where that is nothing. What it throws is a failure. */
export async function check(id: string, look: (warn: Note, fail: Note) => string | Promise<string>): Promise<Check[]> {
  const found: Check[] = [];
  const note = (status: "warn" | "fail"): Note => (message, hint, mend) =>
    void found.push({ id, status, message: printable(message, MAX_LINE), hint: printable(hint, MAX_LINE), ...(mend && { mend }) });
  const fine = await attempt(note("fail"), async () => await look(note("warn"), note("fail")));
  return found.length > 0 ? found : [{ id, status: "ok", message: printable(fine ?? "", MAX_LINE) }];
}

/** A part of a check that may throw, which is noted then: undefined. */
export async function attempt<T>(note: Note, part: () => T | Promise<T>, mend?: () => void): Promise<T | undefined> {
  try {
    return await part();
  } catch (error) {
    const { message, hint } = asKeystoreError(error);
    note(message, hint, mend);
    return undefined;
  }
}

/** Whether there is a file at `path` that this user may execute. */
export function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/** Where a program is found on a PATH. */
export function findProgram(name: string, path = process.env["PATH"] ?? ""): string | undefined {
  return path.split(":").filter((folder) => folder.startsWith("/")).map((folder) => join(folder, name)).find(isProgram);
}
