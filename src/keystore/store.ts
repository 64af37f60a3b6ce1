// The key store in a directory, as wrapping and unwrapping read it. One request costs one or two small reads. Each
// change has its own file: add, add-holder, rotate, remove, relock.

import { existsSync } from "node:fs";
import { join } from "node:path";
import type { SecretSource } from "../at-rest/locked-file.ts";
import { asUnusable, keyError, KeystoreError, printable, recipientError, storeError } from "../errors.ts";
import { listFolder, readSmallFile, refuseOpenMode, statOf, type SmallFile } from "../fs/read.ts";
import type { PrivateKey, Recipient } from "../jwe/key.ts";
import { isSymmetric, publicJwk, type PrivateJwk, type PublicJwk } from "../jwk/jwk.ts";
import { holderKey, readHolder, type Holder } from "../keys/holder.ts";
import { memoryKey } from "../keys/memory.ts";
import { parseKeyFile, parsePrivateFile, unlockKeyFile } from "./key-file.ts";
import type { KeyStore } from "./keystore.ts";
import { FORM_ORDER, FORMS, isKid, isName, parseKeyFileName, Paths, type Form, type Place } from "./paths.ts";

/** A file of a private key, current, retired or removed. */
export interface KeyFile {
  readonly path: string;
  readonly kid: string;
  readonly form: Form;
}

/** A private key's file. */
export interface Located {
  readonly path: string;
  readonly form: Form;
  readonly place: Place;
}

/**
 * Opens the store in `dir`, which need not exist yet. Nothing is read here. `secrets` is called only for a locked
 * key.
 */
export function openStore(dir: string, secrets: SecretSource): Store {
  return new Store(dir, secrets);
}

/** A key store directory. */
export class Store implements KeyStore {
  readonly paths: Paths;
  readonly secrets: SecretSource;

  constructor(dir: string, secrets: SecretSource) {
    this.paths = new Paths(dir);
    this.secrets = secrets;
  }

  get dir(): string {
    return this.paths.dir;
  }

  /** @throws KeystoreError `store` if the directory does not exist, or is not a directory */
  mustExist(): this {
    const stat = statOf(this.dir);
    if (stat?.isDirectory() === true) return this;
    const elsewhere = "say where it is with --keystore DIR";
    if (stat !== undefined) throw storeError(`the key store ${this.dir} is not a directory`, elsewhere);
    throw storeError(`no key store at ${this.dir}`, `make one with ocicrypt-keystore keygen NAME, or ${elsewhere}`);
  }

  /** {@link Store.mustExist}. @throws KeystoreError `store` also if its keys have lost all names */
  mustHaveNames(): this {
    if (statOf(this.mustExist().paths.names) !== undefined) return this;
    const [kid, ...others] = this.publicKids();
    if (kid === undefined) return this;
    // doctor gives a name back only where one key can be meant.
    const fix = others.length === 0 ? "run ocicrypt-keystore doctor --fix, or " : "";
    const hint = `${fix}give each key a name: ocicrypt-keystore import NAME ${this.paths.publicKey(kid)}`;
    throw storeError(`${this.paths.names} is missing, and ${this.paths.public} has keys`, hint);
  }

  /** The names in the store, sorted. */
  names(): string[] {
    return listFolder(this.paths.names).filter(isName);
  }

  /**
   * The kids of a name, the current one first; undefined if there is no such name.
   *
   * @throws KeystoreError `store` if damaged
   */
  kidsOf(name: string): string[] | undefined {
    const path = this.paths.name(name);
    const file = isName(name) ? readSmallFile(path) : undefined;
    if (file === undefined) return undefined;
    const kids = file.bytes.toString("latin1").replace(/\n$/, "").split("\n");
    if (kids.every(isKid)) return kids;
    const hint = "restore it from a backup, or see ocicrypt-keystore doctor";
    throw storeError(`${path} is damaged: each line must be a kid`, hint);
  }

  /** {@link Store.kidsOf}. @throws KeystoreError `recipient` if there is no such name */
  mustHaveName(name: string): string[] {
    const kids = this.kidsOf(name);
    if (kids === undefined) throw this.noKey(name);
    return kids;
  }

  /** The names that a kid has, current or retired. */
  namesOf(kid: string): string[] {
    return this.names().filter((name) => this.kidsOf(name)?.includes(kid));
  }

  /** The error for a name or kid that is not in the store. @throws KeystoreError as {@link Store.mustHaveNames} */
  noKey(nameOrKid: string): KeystoreError {
    return recipientError(`no key named ${nameOrKid} in ${this.mustHaveNames().dir}`, "see ocicrypt-keystore list");
  }

  /** The name of the default key, if one is set. @throws KeystoreError `store` if damaged */
  defaultName(): string | undefined {
    const file = readSmallFile(this.paths.default);
    if (file === undefined) return undefined;
    const name = file.bytes.toString("latin1").trim();
    if (isName(name)) return name;
    const hint = "set it again with ocicrypt-keystore default NAME";
    throw storeError(`${this.paths.default} is damaged: it must hold a name`, hint);
  }

  /** {@link Store.defaultName}. @throws KeystoreError `recipient` if none is set */
  mustHaveDefault(): string {
    const name = this.defaultName();
    if (name !== undefined) return name;
    const hint = "set one with ocicrypt-keystore default NAME, or name a recipient: provider:PROVIDER:NAME";
    throw recipientError(`no default key in ${this.mustHaveNames().dir}`, hint);
  }

  /** The error for a kid that a name leads to and that has no public file. */
  noPublicKey(name: string, kid: string): KeystoreError {
    const message = `the name ${name} points to ${kid}, which is missing in ${this.paths.public}`;
    return storeError(message, this.#restore(kid, "restore that file from a backup"));
  }

  /** How to get a public file back: from the private key, if the store has it. */
  #restore(kid: string, otherwise: string): string {
    const has = (["jwe", "jwk"] as const).some((form) => existsSync(this.paths.privateKey(kid, form)));
    return has ? "run ocicrypt-keystore doctor --fix, which makes it again from the private key" : otherwise;
  }

  /** A public key, checked; undefined if the store has none of that kid. @throws KeystoreError `key` if damaged */
  publicKey(kid: string): PublicJwk | undefined {
    const path = this.paths.publicKey(kid);
    const file = readSmallFile(path);
    try {
      return file && publicJwk(parseKeyFile(path, kid, file.bytes)); // without a private part, even if the file has one
    } catch (error) {
      if (!(error instanceof KeystoreError)) throw error;
      throw new KeystoreError(error.code, error.message, this.#restore(kid, error.hint));
    }
  }

  /**
   * Where a kid's private key is. If it has several files, the first form counts.
   *
   * @throws KeystoreError `store` if this user cannot look into private/
   */
  locate(kid: string): Located | undefined {
    const form = lookAgain(() => FORM_ORDER.find((one) => statOf(this.paths.privateKey(kid, one)) !== undefined));
    return form && { path: this.paths.privateKey(kid, form), form, place: FORMS[form] };
  }

  /**
   * The private JWK of a kid, checked; undefined if the store does not have it (it may have a holder). If there is a
   * locked and an open file, the locked one counts.
   *
   * @throws KeystoreError `key` if it is damaged, if others can read a file that the caller owns, or if it stays locked
   */
  async privateJwk(kid: string): Promise<PrivateJwk | undefined> {
    const keyFile = lookAgain(() => this.#read(kid, "jwe") ?? this.#read(kid, "jwk"));
    if (keyFile === undefined) return undefined;
    const { path, form, file } = keyFile;
    if (form === "jwe") return await unlockKeyFile(path, kid, file.bytes, this.secrets);
    refuseOpenMode(path, "private key", file);
    return parsePrivateFile(path, kid, file.bytes);
  }

  #read(kid: string, form: Form): { readonly path: string; readonly form: Form; readonly file: SmallFile } | undefined {
    const path = this.paths.privateKey(kid, form);
    const file = readSmallFile(path);
    return file && { path, form, file };
  }

  /**
   * The holder of a private key, and its public key; undefined if there is no holder.
   *
   * @throws KeystoreError `key` if damaged
   */
  held(kid: string): { readonly holder: Holder; readonly jwk: PublicJwk } | undefined {
    const holder = readHolder(this.paths.privateKey(kid, "holder"), kid);
    if (holder === undefined) return undefined;
    const jwk = this.publicKey(kid);
    if (jwk !== undefined) return { holder, jwk };
    const hint = `restore ${this.paths.publicKey(kid)} from a backup, or import the key with --holder again`;
    throw keyError(`key ${kid} is held by a command, and its public file is missing`, hint);
  }

  /** The kids that have a file in public/. */
  publicKids(): string[] {
    return this.#kidsIn(this.paths.public, ({ form }) => form === "jwk");
  }

  /** Every kid that has a private key. Those that only a command holds come last. */
  allPrivateKids(): string[] {
    const held = this.#kidsIn(this.paths.private, ({ form }) => form === "holder");
    return [...new Set([...this.#kidsIn(this.paths.private, ({ form }) => form !== "holder"), ...held])];
  }

  /** The kids that a command holds. */
  heldKids(): string[] {
    return this.#kidsIn(this.paths.private, ({ form }) => form === "holder");
  }

  /** The files of private keys in one form, in private/ and in removed/. */
  keyFiles(form: Form): KeyFile[] {
    return [this.paths.private, this.paths.removed].flatMap((folder) =>
      listFolder(folder).flatMap((file) => {
        const name = parseKeyFileName(file);
        return name?.form === form && !name.public ? [{ path: join(folder, file), kid: name.kid, form }] : [];
      }),
    );
  }

  #kidsIn(folder: string, wanted: (name: { form: Form }) => boolean): string[] {
    return listFolder(folder).flatMap((file) => {
      const name = parseKeyFileName(file);
      return name !== undefined && name.copy === 1 && !name.public && wanted(name) ? [name.kid] : [];
    });
  }

  async recipient(nameOrKid: string): Promise<Recipient> {
    const [current] = this.kidsOf(nameOrKid) ?? [];
    if (current !== undefined) {
      const named = await this.#byKid(current);
      if (named !== undefined) return named;
      // The name was removed or got another key in the meantime.
      if (this.kidsOf(nameOrKid)?.[0] !== current) return await this.recipient(nameOrKid);
      throw this.noPublicKey(nameOrKid, current);
    }
    const byKid = isKid(nameOrKid) ? await this.#byKid(nameOrKid) : undefined;
    if (byKid === undefined) throw this.mustHaveNames().#noRecipient(nameOrKid);
    const successor = this.#retiredFor(nameOrKid);
    if (successor === undefined) return byKid;
    const hint = `use ${successor}, the name it was rotated under`;
    throw recipientError(`key ${nameOrKid} is retired and cannot encrypt`, hint);
  }

  async defaultRecipient(): Promise<Recipient> {
    const name = this.mustHaveDefault();
    if (this.kidsOf(name) !== undefined) return await this.recipient(name);
    const message = `the default key is ${name}, and there is no such name in ${this.mustHaveNames().dir}`;
    throw recipientError(message, "set another with ocicrypt-keystore default NAME");
  }

  async privateKey(kid: string): Promise<PrivateKey | undefined> {
    if (!isKid(kid)) return undefined;
    try {
      const jwk = await this.privateJwk(kid);
      if (jwk !== undefined) return memoryKey(kid, jwk);
      const held = this.held(kid);
      return held && holderKey(held.holder, held.jwk);
    } catch (error) {
      throw asUnusable(error);
    }
  }

  async privateKids(): Promise<string[]> {
    try {
      return this.mustExist().allPrivateKids();
    } catch (error) {
      throw asUnusable(error);
    }
  }

  async #byKid(kid: string): Promise<Recipient | undefined> {
    const jwk = this.publicKey(kid);
    if (jwk === undefined || !isSymmetric(jwk)) return jwk && { kid, jwk };
    const secret = await this.privateJwk(kid); // wrapping with a symmetric key needs its secret
    if (secret !== undefined) return { kid, jwk: secret };
    if (this.locate(kid) !== undefined) {
      const hint = "encrypt where the key itself is, or for another recipient";
      throw keyError(`symmetric key ${kid} is held by a command, which can only decrypt`, hint);
    }
    const hint = "encrypt where the key is, or for another recipient";
    throw keyError(`symmetric key ${kid} of ${this.dir} has no private file`, hint);
  }

  #noRecipient(nameOrKid: string): KeystoreError {
    const message = `unknown recipient "${printable(nameOrKid, 64)}": no such name or kid in ${this.dir}`;
    return recipientError(message, "see ocicrypt-keystore list, or make a key with ocicrypt-keystore keygen NAME");
  }

  /** The name under which a kid is retired; undefined if it is the current key of a name. */
  #retiredFor(kid: string): string | undefined {
    const places = this.names().map((name) => [name, this.kidsOf(name)?.indexOf(kid) ?? -1] as const);
    if (places.some(([, place]) => place === 0)) return undefined;
    return places.find(([, place]) => place > 0)?.[0];
  }
}

/** Looks up to four times: a lock or unlock may turn a file into its other form between the two look-ups. */
function lookAgain<T>(look: () => T | undefined): T | undefined {
  for (let tries = 0; tries < 4; tries++) {
    const result = look();
    if (result !== undefined) return result;
  }
  return undefined;
}
