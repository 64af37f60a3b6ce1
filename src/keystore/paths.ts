// The files of a key store directory: the one place that spells their names (README.md beside this file has the
// layout).

import { basename, dirname, join } from "node:path";
import { printable, usageError } from "../errors.ts";

/**
 * The forms of a private key in the store, by the ending of its file. If a key has several files, the first form
 * counts.
 */
export const FORMS = { jwe: "locked", jwk: "file", holder: "holder" } as const;

/** The ending of a private key's file. */
export type Form = keyof typeof FORMS;

/** Where a private key is, as `list` shows it. */
export type Place = (typeof FORMS)[Form];

/** The forms in the order in which they count. */
export const FORM_ORDER: readonly Form[] = ["jwe", "jwk", "holder"];

const PUBLIC = "public"; // marks a removed public key's file
const TEMPORARY = /^\.tmp-(\d+)-/;

/** The parts of the name of a key's file. */
export interface KeyFileName {
  readonly kid: string;
  /** 1; in removed/ further symmetric keys with the same kid have 2 and up. */
  readonly copy: number;
  readonly form: Form;
  /** Whether it is a removed public key. */
  readonly public: boolean;
}

/**
 * Reads the name of a key's file: `KID.jwk`, `KID.jwe`, `KID.holder`; in removed/ also `KID.2.jwk` and
 * `KID.public.jwk`.
 */
export function parseKeyFileName(file: string): KeyFileName | undefined {
  const [kid = "", ...rest] = file.split(".");
  const [form = "", mark, ...more] = rest.toReversed();
  if (!isKid(kid) || !isForm(form) || more.length > 0) return undefined;
  if (mark === PUBLIC) return form === "jwk" ? { kid, copy: 1, form, public: true } : undefined;
  const copy = mark === undefined ? 1 : /^[1-9]\d{0,3}$/.test(mark) ? Number(mark) : 0;
  return copy === 0 || (mark !== undefined && copy === 1) ? undefined : { kid, copy, form, public: false };
}

/** The name of a key's file: {@link parseKeyFileName} reads it. */
export function keyFileName({ kid, copy, form, public: isPublic }: KeyFileName): string {
  return [kid, ...(isPublic ? [PUBLIC] : copy === 1 ? [] : [String(copy)]), form].join(".");
}

/** The path of the same private key's file in another form. */
export function inForm(path: string, form: Form): string {
  const name = parseKeyFileName(basename(path));
  if (name === undefined) throw new Error("not the name of a key's file");
  return join(dirname(path), keyFileName({ ...name, form }));
}

/** A name for a temporary file of this process: {@link temporaryWriter} reads it. */
export function temporaryName(text: string): string {
  return `.tmp-${process.pid}-${text}`;
}

/** The pid of the process that wrote a temporary file, undefined if the name is not that of a temporary file. */
export function temporaryWriter(file: string): number | undefined {
  const [, pid] = TEMPORARY.exec(file) ?? [];
  return pid === undefined ? undefined : Number(pid);
}

/** The paths inside a key store directory. */
export class Paths {
  readonly dir: string;
  /** Public keys: `KID.jwk`. */
  readonly public: string;
  /** Private keys: {@link FORMS}. */
  readonly private: string;
  /** Names: a kid a line, the current one first. */
  readonly names: string;
  /** What `remove` moved aside. */
  readonly removed: string;
  /** The name of the default key. */
  readonly default: string;
  /** The writers' lock. */
  readonly lock: string;

  constructor(dir: string) {
    this.dir = dir;
    [this.public, this.private] = [join(dir, "public"), join(dir, "private")];
    [this.names, this.removed] = [join(dir, "names"), join(dir, "removed")];
    [this.default, this.lock] = [join(dir, "default"), join(dir, ".lock")];
  }

  publicKey(kid: string): string {
    return join(this.public, keyFileName({ kid, copy: 1, form: "jwk", public: false }));
  }

  privateKey(kid: string, form: Form): string {
    return join(this.private, keyFileName({ kid, copy: 1, form, public: false }));
  }

  name(name: string): string {
    return join(this.names, name);
  }

  removedFile(file: string): string {
    return join(this.removed, file);
  }
}

function isForm(ending: string): ending is Form {
  return Object.hasOwn(FORMS, ending);
}

/** What clients send in place of a key's name for `provider:NAME` without a key. */
export const NO_RECIPIENT = "Enabled";

/**
 * Whether text may be a key's name: 1 to 64 of the characters a-z A-Z 0-9 . _ - and no dot first. `Enabled` is
 * reserved: it is {@link NO_RECIPIENT}.
 */
export function isName(text: string): boolean {
  return /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$/.test(text) && text !== NO_RECIPIENT;
}

/** Whether text may be a kid, and so part of a file name: base64url, 1 to 128 characters. */
export function isKid(text: string): boolean {
  return /^[A-Za-z0-9_-]{1,128}$/.test(text);
}

/** A name that a user chose, checked. @throws KeystoreError `usage` */
export function mustBeName(text: string): string {
  if (isName(text)) return text;
  throw usageError(
    `"${printable(text, 64)}" cannot be a key's name`,
    "use 1 to 64 of the characters a-z A-Z 0-9 . _ - with no dot first; Enabled is reserved",
  );
}
