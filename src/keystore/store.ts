// The key store in a directory, as wrapping and unwrapping read it. One request costs one or two small reads. What
// changes it has a file of its own: add, add-holder, rotate, remove, relock.

import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import type { SecretSource } from "../at-rest/locked-file.ts";
import { asUnusable, keyError, KeystoreError, printable, recipientError, storeError } from "../errors.ts";
import { listFolder, readSmallFile, refuseOpenMode, type SmallFile } from "../fs/read.ts";
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

/** Opens the store in `dir`, which may not be there yet. Nothing is read before it is asked for, and `secrets` only for a locked key. */
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

  /** @throws KeystoreError `store` if the directory is not there */
  mustExist(): this {
    if (statSync(this.dir, { throwIfNoEntry: false }) !== undefined) return this;
    const hint = "make one with ocicrypt-keystore keygen NAME, or say where it is with --keystore DIR";
    throw storeError(`no key store at ${this.dir}`, hint);
  }

  /** The names in the store, sorted. */
  names(): string[] {
    return listFolder(this.paths.names).filter(isName);
  }

  /** The kids of a name, the current one first; undefined if there is no such name. @throws KeystoreError `store` if damaged */
  kidsOf(name: string): string[] | undefined {
    const path = this.paths.name(name);
    const file = isName(name) ? readSmallFile(path) : undefined;
    if (file === undefined) return undefined;
    const kids = file.bytes.toString("latin1").replace(/\n$/, "").split("\n");
    if (kids.every(isKid)) return kids;
    throw storeError(`${path} is damaged: it must hold a kid a line`, "restore it from a backup");
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

  /** The error for a name or kid that nothing in the store has. */
  noKey(nameOrKid: string): KeystoreError {
    return recipientError(`no key named ${nameOrKid} in ${this.dir}`, "see ocicrypt-keystore list");
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
    throw recipientError(`no default key in ${this.mustExist().dir}`, hint);
  }

  /** A public key, checked; undefined if the store has none of that kid. @throws KeystoreError `key` if damaged */
  publicKey(kid: string): PublicJwk | undefined {
    const path = this.paths.publicKey(kid);
    const file = readSmallFile(path);
    return file && publicJwk(parseKeyFile(path, kid, file.bytes)); // whatever somebody put there, no private part goes on
  }

  /** Where a kid's private key is: the first of its forms counts where several are there. */
  locate(kid: string): Located | undefined {
    const found = lookAgain(() => FORM_ORDER.find((form) => existsSync(this.paths.privateKey(kid, form))));
    return found && { path: this.paths.privateKey(kid, found), form: found, place: FORMS[found] };
  }

  /**
   * The private JWK of a kid, checked; undefined if the store has none itself, but perhaps a holder of it. Where a key
   * is there locked and not, the locked one counts.
   *
   * @throws KeystoreError `key` if it is damaged, if others can read a file that the caller owns, or if it stays locked
   */
  async privateJwk(kid: string): Promise<PrivateJwk | undefined> {
    const found = lookAgain(() => this.#read(kid, "jwe") ?? this.#read(kid, "jwk"));
    if (found === undefined) return undefined;
    const { path, form, file } = found;
    if (form === "jwe") return await unlockKeyFile(path, kid, file.bytes, this.secrets);
    refuseOpenMode(path, "private key", file);
    return parsePrivateFile(path, kid, file.bytes);
  }

  #read(kid: string, form: Form): { readonly path: string; readonly form: Form; readonly file: SmallFile } | undefined {
    const path = this.paths.privateKey(kid, form);
    const file = readSmallFile(path);
    return file && { path, form, file };
  }

  /** The holder of a private key, with its public key; undefined if there is none. @throws KeystoreError `key` if it cannot be asked */
  held(kid: string): { readonly holder: Holder; readonly jwk: PublicJwk } | undefined {
    const holder = readHolder(this.paths.privateKey(kid, "holder"), kid);
    if (holder === undefined) return undefined;
    const jwk = this.publicKey(kid);
    if (jwk !== undefined) return { holder, jwk };
    const hint = `restore ${this.paths.publicKey(kid)} from a backup, or import the key with its holder again`;
    throw keyError(`key ${kid} is held by a command, and its public file is missing`, hint);
  }

  /** The kids that have a file of their own in public/. */
  publicKids(): string[] {
    return this.#kidsIn(this.paths.public, ({ form }) => form === "jwk");
  }

  /** Every kid that has a private key, those that only a command holds last. */
  allPrivateKids(): string[] {
    const held = this.#kidsIn(this.paths.private, ({ form }) => form === "holder");
    return [...new Set([...this.#kidsIn(this.paths.private, ({ form }) => form !== "holder"), ...held])];
  }

  /** The kids that a command holds. */
  heldKids(): string[] {
    return this.#kidsIn(this.paths.private, ({ form }) => form === "holder");
  }

  /** The files of private keys in a form, in private/ and in removed/. */
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
      const found = await this.#byKid(current);
      if (found !== undefined) return found;
      if (this.kidsOf(nameOrKid)?.[0] !== current) return await this.recipient(nameOrKid); // removed or replaced while we read
      const message = `key ${current} of ${nameOrKid} is missing in ${this.paths.public}`;
      throw storeError(message, "restore that file from a backup");
    }
    const found = isKid(nameOrKid) ? await this.#byKid(nameOrKid) : undefined;
    if (found === undefined) throw this.mustExist().#noRecipient(nameOrKid);
    const successor = this.#retiredFor(nameOrKid);
    if (successor === undefined) return found;
    const hint = `use ${successor}, the name it was rotated under`;
    throw recipientError(`key ${nameOrKid} is retired and cannot encrypt`, hint);
  }

  async defaultRecipient(): Promise<Recipient> {
    return await this.recipient(this.mustHaveDefault());
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
    const secret = await this.privateJwk(kid); // whoever wraps with a symmetric key needs it
    if (secret !== undefined) return { kid, jwk: secret };
    if (this.locate(kid) !== undefined) {
      const hint = "wrap where the key itself is, or for another recipient";
      throw keyError(`symmetric key ${kid} is held by a command, which only unwraps`, hint);
    }
    const hint = "wrap where the key is, or for another recipient";
    throw keyError(`symmetric key ${kid} of ${this.dir} has no private file`, hint);
  }

  #noRecipient(nameOrKid: string): KeystoreError {
    const message = `unknown recipient "${printable(nameOrKid, 64)}": no such name or kid in ${this.dir}`;
    return recipientError(message, "see ocicrypt-keystore list, or make a key with ocicrypt-keystore keygen NAME");
  }

  /** The name under which a kid is retired and nowhere current. */
  #retiredFor(kid: string): string | undefined {
    const places = this.names().map((name) => [name, this.kidsOf(name)?.indexOf(kid) ?? -1] as const);
    if (places.some(([, place]) => place === 0)) return undefined;
    return places.find(([, place]) => place > 0)?.[0];
  }
}

/** Looks again where nothing was found: between the looks for a locked file and an open one, either may turn into the other. */
function lookAgain<T>(look: () => T | undefined): T | undefined {
  for (let tries = 0; tries < 4; tries++) {
    const found = look();
    if (found !== undefined) return found;
  }
  return undefined;
}
