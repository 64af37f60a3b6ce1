// What the checks of containerd and CRI-O share: the file of providers that a service is told, and a folder of keys.

import { lstatSync, readdirSync } from "node:fs";
import { attempt, type Note } from "./check.ts";
import { readConfigFile } from "./config-file.ts";
import type { Context } from "./context.ts";
import { lookPath } from "./programs.ts";
import { tryAll } from "./round-trip.ts";

/**
 * Warns if a service cannot use any provider of a file.
 *
 * @returns what the file names
 */
export async function usableProviders(
  root: string,
  path: string,
  who: string,
  hint: string,
  warn: Note,
  context: Context,
): Promise<string> {
  const config = readConfigFile(root + path);
  const { exists, error, refused, names, providers, servers } = config;
  if (!exists) {
    warn(`there is no ${path}: ${who} knows no provider`, hint);
  } else if (error !== undefined) {
    await attempt(warn, () => {
      throw error;
    });
  } else if (refused !== undefined) {
    warn(`${path} ${refused}: ${who} knows no provider`, hint);
  } else if (providers.length + servers.length === 0) {
    const what = names.length === 0 ? "names no provider" : "has no entry with a cmd or grpc that can be used";
    warn(`${path} ${what}: ${who} knows no provider`, hint);
  } else if (root + path !== context.config?.path) {
    for (const { name, path: program, own, options } of providers) {
      const { obstacle } = lookPath(program);
      if (obstacle !== undefined) {
        warn(`the program of provider ${name} of ${path} ${obstacle.message}: ${program}`, obstacle.hint ?? hint);
      } else if (own && options === undefined) {
        warn(`this program does not accept the args of provider ${name} of ${path}`, hint);
      }
    }
    await tryAll(config, context, warn);
  }
  return [
    ...providers.map(({ name, own }) => `${path} names ${own ? "this program" : "a program"} as ${name}`),
    ...servers.map(({ name, address }) => `${path} names the server at ${address} as ${name}`),
  ].join(", ");
}

/**
 * Warns if a folder of key files is or holds a symlink, which decoders refuse.
 *
 * @returns whether there is a folder
 */
export async function keysFolder(root: string, path: string, who: string, warn: Note): Promise<boolean> {
  const whole = (root + path).replace(/\/+$/, "");
  const stat = lstatSync(whole, { throwIfNoEntry: false });
  if (stat === undefined) return false;
  const list = { recursive: true, withFileTypes: true } as const;
  const files = stat.isDirectory() ? await attempt(warn, () => readdirSync(whole, list)) : [];
  if (stat.isSymbolicLink() || files?.some((file) => file.isSymbolicLink()) === true) {
    warn(`${path} is or holds a symlink, which ${who} refuses`, "put a real folder with real files there");
  }
  return true;
}
