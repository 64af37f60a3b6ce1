// Where serve listens, and who can reach it there: a unix socket by its mode, TCP on loopback alone, else by mutual TLS.

import { randomBytes } from "node:crypto";
import { linkSync, lstatSync, unlinkSync } from "node:fs";
import { lookup } from "node:dns/promises";
import { BlockList, connect, isIP } from "node:net";
import { networkInterfaces } from "node:os";
import { dirname, join, resolve } from "node:path";
import { errorCode, KeystoreError, printable, usageError } from "../errors.ts";
import { removeFile, writeGuard } from "../fs/write.ts";
import { withLock } from "../fs/lock.ts";

/** An address to listen on. */
export type Address = { readonly kind: "unix"; readonly path: string } | { readonly kind: "tcp"; readonly host: string; readonly port: number };

const MAX_SOCKET_PATH = 107; // bytes: sun_path of unix(7), less its NUL
const PATIENCE = 2_000; // ms for a live server to accept
const LOOPBACK = new BlockList();
LOOPBACK.addSubnet("127.0.0.0", 8, "ipv4");
LOOPBACK.addAddress("::1", "ipv6");

/** `unix:PATH` (also `unix:///PATH`, as clients write it) or `HOST:PORT`. @throws KeystoreError `usage` */
export function parseAddress(text: string): Address {
  if (printable(text, text.length) !== text) throw unusable(text, "it has characters that cannot be shown: take another path or host");
  const [, path] = /^unix:(?:\/\/(?=\/))?(.+)$/s.exec(text) ?? [];
  if (path !== undefined) {
    const absolute = resolve(path);
    if ([absolute, temporarySocket(absolute)].some((one) => Buffer.byteLength(one) > MAX_SOCKET_PATH) || absolute.includes("\0")) throw unusable(text, `a socket's path has at most ${MAX_SOCKET_PATH} bytes`);
    return { kind: "unix", path: absolute };
  }
  const [, bracketed, plain, port] = /^(?:\[([^\]]+)\]|([^:[\]/]*)):(\d{1,5})$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  if (host === undefined || Number(port) > 65_535) throw unusable(text, "write unix:PATH or HOST:PORT, such as localhost:50051");
  if (host === "") throw unusable(text, "without a host it is every interface of this machine: write localhost:PORT");
  return { kind: "tcp", host, port: Number(port) };
}

/** The address as a client's configuration names it. */
export function shownAddress(address: Address): string {
  if (address.kind === "unix") return `unix://${address.path}`;
  return isIP(address.host) === 6 ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}

/**
 * The addresses that a host without TLS stands for, each of which must be bound: where one is left free, another user's program may take it,
 * and clients that try it first would tell it what they wrap.
 *
 * @throws KeystoreError `usage` if the host is any but this machine's loopback
 */
export async function loopbackHosts(host: string): Promise<string[]> {
  const found = await lookup(host, { all: true }).catch(() => {
    throw unusable(host, "its host is unknown here");
  });
  if (!found.every((one) => LOOPBACK.check(one.address, one.family === 6 ? "ipv6" : "ipv4"))) {
    throw unusable(host, "others can reach it there: add --tls-cert, --tls-key and --tls-client-ca, or listen on localhost or a unix socket");
  }
  const hosts = [...new Set(found.map((one) => one.address))];
  const own = Object.values(networkInterfaces()).flatMap((addresses) => addresses?.map((one) => one.address) ?? []);
  const bindable = hosts.filter((one) => one !== "::1" || own.includes(one)); // the name has it also where IPv6 is off
  return bindable.length === 0 ? hosts : bindable;
}

/** Where a socket is bound before it gets its name: short, since the whole path has a limit. */
function temporarySocket(path: string): string {
  return join(dirname(path), `.${randomBytes(3).toString("hex")}`);
}

/**
 * Makes way for a unix socket and binds it, with its mode from the first moment. A socket that nobody listens on is removed. When a server closes
 * a socket, Node deletes whatever has the name that it was bound with, perhaps the socket of the next server: hence it is bound with another name.
 *
 * @param bind listens at the path that it is given
 * @returns what removes the socket again, unless another one is there by now
 * @throws KeystoreError `usage` if a server listens there, or something else than a socket is there
 */
export async function bindSocket(path: string, mode: number, bind: (path: string) => Promise<unknown>): Promise<() => Promise<void>> {
  const temporary = temporarySocket(path);
  const lock = `${path}.lock`;
  return await withLock(lock, async () => {
    await removeStaleSocket(path);
    writeGuard.getStore()?.(); // bind puts a file in place too
    const before = process.umask(0o777 & ~mode); // no chmod, which would follow what somebody put in its place
    try {
      await bind(temporary);
    } finally {
      process.umask(before);
    }
    const bound = identity(temporary);
    linkSync(temporary, path); // a rename would replace what is there by now
    unlinkSync(temporary);
    const remove = (): void => {
      if (identity(path) === bound) unlinkSync(path);
    };
    return async () => await withLock(lock, remove).catch(() => undefined); // its folder may be gone, or no longer ours to write
  });
}

/** Two files that are there at the same time have the same one only if they are one. */
function identity(path: string): string | undefined {
  const found = lstatSync(path, { bigint: true, throwIfNoEntry: false });
  return found && `${found.dev} ${found.ino}`;
}

async function removeStaleSocket(path: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) throw unusable(`unix://${path}`, "there is a file, and it is no socket: move it away or take another path");
  if (await isLive(path)) throw unusable(`unix://${path}`, "another server listens there: stop that one first");
  removeFile(path);
}

async function isLive(path: string): Promise<boolean> {
  return await new Promise((answer) => {
    const socket = connect(path);
    const done = (live: boolean): void => {
      socket.destroy();
      answer(live);
    };
    socket.once("connect", () => done(true));
    socket.once("error", (error) => done(errorCode(error) !== "ECONNREFUSED" && errorCode(error) !== "ENOENT")); // EAGAIN, EACCES: somebody is there
    socket.setTimeout(PATIENCE, () => done(true));
  });
}

function unusable(address: string, reason: string): KeystoreError {
  return usageError(`cannot listen on ${printable(address, 200)}`, reason);
}
