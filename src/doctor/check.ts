// What a check is, and how one is run.

import { asKeystoreError, printable } from "../errors.ts";
import type { Context } from "./context.ts";

/** One row of doctor's list. */
export interface Check {
  /** Stable: programs rely on it. */
  readonly id: string;
  /**
   * Looks for problems and reports each.
   *
   * @returns the message if there was no problem, or {@link skip} if it could not look
   * @throws any error, which is reported as a failure
   */
  readonly run: (context: Context, report: Report) => Outcome | Promise<Outcome>;
}

/** What a check returns. */
export type Outcome = string | Skipped;

/** Why a check could not look: the thing that it looks at does not exist. */
export interface Skipped {
  readonly skipped: string;
}

/** How a check reports problems. */
export interface Report {
  readonly warn: Note;
  readonly fail: Note;
}

/** Reports one problem. `fix` solves it and loses nothing; it runs while the store's lock is held. */
export type Note = (message: string, hint: string, fix?: () => void) => void;

/** A finding of doctor: one if the check passed or was skipped, else one for each problem. */
export interface Finding {
  readonly id: string;
  readonly status: "ok" | "warn" | "fail" | "skip";
  readonly message: string;
  /** What the user can do about a problem. */
  readonly hint?: string;
  readonly fix?: () => void;
}

const MAX_LINE = 1024; // characters of a message or a hint: file names may be long

/** What a check returns if it could not look. */
export function skip(reason: string): Skipped {
  return { skipped: reason };
}

/** Runs one check. */
export async function runCheck({ id, run }: Check, context: Context): Promise<Finding[]> {
  const problems: Finding[] = [];
  const note =
    (status: "warn" | "fail"): Note =>
    (message, hint, fix) => {
      const lines = { message: printable(message, MAX_LINE), hint: printable(hint, MAX_LINE) };
      problems.push({ id, status, ...lines, ...(fix && { fix }) });
    };
  const report = { warn: note("warn"), fail: note("fail") };
  const outcome = (await attempt(report.fail, async () => await run(context, report))) ?? "";
  if (problems.length > 0) return problems;
  if (typeof outcome === "string") return [{ id, status: "ok", message: printable(outcome, MAX_LINE) }];
  return [{ id, status: "skip", message: printable(outcome.skipped, MAX_LINE) }];
}

/** Runs a part of a check. What it throws is reported, and the check goes on with undefined. */
export async function attempt<T>(note: Note, part: () => T | Promise<T>, fix?: () => void): Promise<T | undefined> {
  try {
    return await part();
  } catch (error) {
    const { message, hint } = asKeystoreError(error);
    note(message, hint, fix);
    return undefined;
  }
}

/** What a part of a check reads; undefined if that fails, which is for another check to report. */
export function quietly<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
