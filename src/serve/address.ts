// Where serve listens and who can reach it: on a unix socket, whom its mode allows; on loopback, every user of this
// machine; on other addresses, clients with a certificate (mutual TLS).

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
export type Address =
  | { readonly kind: "unix"; readonly path: string }
  | { readonly kind: "tcp"; readonly host: string; readonly port: number };

const MAX_SOCKET_PATH = 107; // bytes: sun_path of unix(7) without its NUL
const PATIENCE = 2_000; // ms in which a running server accepts a connection
const LOOPBACK = new BlockList();
LOOPBACK.addSubnet("127.0.0.0", 8, "ipv4");
LOOPBACK.addAddress("::1", "ipv6");

/**
 * `unix:PATH` (also `unix:///PATH`, as clients write it) or `HOST:PORT`.
 *
 * @param what what cannot be done with it otherwise
 * @throws KeystoreError `usage`
 */
export function parseAddress(text: string, what: "listen on" | "call" = "listen on"): Address {
  const refused = (reason: string): KeystoreError => unusable(text, reason, what);
  if (printable(text, text.length) !== text)
    throw refused("it has characters that cannot be shown: use another path or host");
  const [, path] = /^unix:(?:\/\/(?=\/))?(.+)$/s.exec(text) ?? [];
  if (path !== undefined) {
    const absolute = resolve(path);
    const tooLong = [absolute, temporarySocket(absolute)].some((socket) => Buffer.byteLength(socket) > MAX_SOCKET_PATH);
    if (tooLong || absolute.includes("\0")) throw refused(`use a path of at most ${MAX_SOCKET_PATH} bytes`);
    return { kind: "unix", path: absolute };
  }
  const [, bracketed, plain, port] = /^(?:\[([^\]]+)\]|([^:[\]/]*)):(\d{1,5})$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  if (host === undefined || Number(port) > 65_535)
    throw refused("write unix:PATH or HOST:PORT, such as localhost:50051");
  if (host === "" && what === "call") throw refused("write the server's host before the port: HOST:PORT");
  if (host === "") throw refused("without a host it would be every interface of this machine: write localhost:PORT");
  return { kind: "tcp", host, port: Number(port) };
}

/** The address as a client's configuration names it. */
export function shownAddress(address: Address): string {
  if (address.kind === "unix") return `unix://${address.path}`;
  return isIP(address.host) === 6 ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}

/**
 * The addresses of a host that is used without TLS. All of them must be bound: if one is left free, another user's
 * program may bind it, and would receive the layer keys of clients that try that address first.
 *
 * @throws KeystoreError `usage` if the host is not this machine's loopback
 */
export async function loopbackHosts(host: string): Promise<string[]> {
  const addresses = await lookup(host, { all: true }).catch(() => {
    throw unusable(host, "this host name cannot be resolved: use another one");
  });
  if (!addresses.every(({ address, family }) => LOOPBACK.check(address, family === 6 ? "ipv6" : "ipv4"))) {
    const hint = "add --tls-cert, --tls-key and --tls-client-ca, or listen on localhost or a unix socket";
    throw unusable(host, `other machines can reach it there: ${hint}`);
  }
  const hosts = [...new Set(addresses.map(({ address }) => address))];
  const local = Object.values(networkInterfaces()).flatMap((list) => list?.map(({ address }) => address) ?? []);
  // localhost resolves to ::1 even if IPv6 is disabled.
  const bindable = hosts.filter((one) => one !== "::1" || local.includes(one));
  return bindable.length === 0 ? hosts : bindable;
}

/** The path that a socket is bound at before it gets its name: a short one, since its length is limited. */
function temporarySocket(path: string): string {
  return join(dirname(path), `.${randomBytes(3).toString("hex")}`);
}

/**
 * Binds a unix socket, which has its mode from the first moment. A socket that no server listens on is replaced. When a
 * server closes a socket, Node deletes the path that it was bound at, even if that is the next server's socket by then.
 * So the socket is bound at a temporary path.
 *
 * @param bind listens at the path that it gets
 * @returns a function that removes the socket, unless another one has replaced it
 * @throws KeystoreError `usage` if a server listens at `path`, or `path` is not a socket
 */
export async function bindSocket(
  path: string,
  mode: number,
  bind: (path: string) => Promise<unknown>,
): Promise<() => Promise<void>> {
  const temporary = temporarySocket(path);
  const lock = `${path}.lock`;
  return await withLock(lock, async () => {
    await removeStaleSocket(path);
    writeGuard.getStore()?.(); // bind creates a file too
    const before = process.umask(0o777 & ~mode); // not chmod: it would follow a symlink that somebody put there
    try {
      await bind(temporary);
    } finally {
      process.umask(before);
    }
    const bound = identity(temporary);
    linkSync(temporary, path); // not rename: it would replace a file that was made in the meantime
    unlinkSync(temporary);
    const remove = (): void => {
      if (identity(path) === bound) unlinkSync(path);
    };
    // The folder may be gone or no longer writable.
    return async () => await withLock(lock, remove).catch(() => undefined);
  });
}

/** The device and inode of a file: two paths with the same identity are the same file. */
function identity(path: string): string | undefined {
  const stat = lstatSync(path, { bigint: true, throwIfNoEntry: false });
  return stat && `${stat.dev} ${stat.ino}`;
}

async function removeStaleSocket(path: string): Promise<void> {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return;
  if (!stat.isSocket()) throw unusable(`unix://${path}`, "it is not a socket: move it away, or use another path");
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
    // With any other error, such as EAGAIN or EACCES, a server listens.
    socket.once("error", (error) => done(errorCode(error) !== "ECONNREFUSED" && errorCode(error) !== "ENOENT"));
    socket.setTimeout(PATIENCE, () => done(true));
  });
}

function unusable(address: string, reason: string, what = "listen on"): KeystoreError {
  return usageError(`cannot ${what} ${printable(address, 200)}`, reason);
}
