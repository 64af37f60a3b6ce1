// Debian's docker-registry on loopback, with and without a password.

import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { temporaryFolder } from "./folders.ts";

const running: ChildProcess[] = [];
process.on("exit", () => running.forEach((child) => child.kill()));

/** A port of 127.0.0.1 that nobody listens on. */
export async function freePort(): Promise<number> {
  return await new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0));
    });
  });
}

/** Starts a registry of its own, which ends with this process; its log tells what was asked of it. */
export async function startRegistry(password?: string): Promise<{ host: string; log: () => string }> {
  const dir = temporaryFolder();
  const port = await freePort();
  mkdirSync(join(dir, "data"));
  const auth = password === undefined ? "" : `auth:\n  htpasswd:\n    realm: test\n    path: ${dir}/htpasswd\n`;
  if (password !== undefined)
    writeFileSync(join(dir, "htpasswd"), spawnSync("htpasswd", ["-nbB", "user", password]).stdout);
  writeFileSync(
    join(dir, "config.yml"),
    `version: 0.1\nlog:\n  accesslog:\n    disabled: false\nstorage:\n  filesystem:\n    rootdirectory: ${dir}/data\nhttp:\n  addr: 127.0.0.1:${port}\n${auth}`,
  );
  const server = spawn("docker-registry", ["serve", join(dir, "config.yml")], { stdio: ["ignore", "pipe", "pipe"] });
  running.push(server);
  server.unref();
  let log = "";
  for (const stream of [server.stdout, server.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => (log += text));
    (stream as Socket).unref();
  }
  for (let tries = 0; tries < 100; tries++) {
    const answer = await fetch(`http://127.0.0.1:${port}/v2/`).catch(() => undefined);
    if (answer !== undefined) return { host: `localhost:${port}`, log: () => log };
    await sleep(50);
  }
  throw new Error(`docker-registry does not start: ${log}`);
}
