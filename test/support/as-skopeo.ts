// skopeo and this program before the same registry: both must send the same, and both read the image or refuse it.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import * as assert from "uvu/assert";
import { asKeystoreError, errorLine } from "../../src/errors.ts";
import { openRegistry } from "../../src/image/source/registry.ts";
import { makeAuthority, openssl, type Authority } from "./certificates.ts";
import { skopeo } from "./encrypted-images.ts";
import { temporaryFolder } from "./folders.ts";
import { startRecorder, type Registry } from "./recorder.ts";
import type { Skopeo } from "./skopeo.ts";

/** skopeo, where openssl is here too. */
export const skopeoHere = openssl && skopeo;
export const NEEDED = "openssl and a skopeo that knows provider:";
/** The registry's name, which only the proxy knows. */
export const HOST = "registry.test";

const MANIFEST = "application/vnd.oci.image.manifest.v1+json";
const DIGEST = `sha256:${"0".repeat(64)}`;
const MANIFEST_TEXT = JSON.stringify({
  schemaVersion: 2,
  mediaType: MANIFEST,
  config: { mediaType: "application/vnd.oci.image.config.v1+json", digest: DIGEST, size: 2 },
  layers: [],
});

/**
 * A machine and a registry. In image, files, names of files and env, HOME is the user's folder, TLS and PLAIN are the
 * registry's own addresses, PROXY is the proxy that leads every host to it (PROXY_HOST without http://), and CA is its authority.
 */
export interface Row {
  readonly name: string;
  readonly image?: string;
  /** Content of files below HOME: a text, or what is to be written as JSON. */
  readonly files?: Readonly<Record<string, unknown>>;
  /** Links below HOME, which are made after the files, and their targets. */
  readonly links?: Readonly<Record<string, string>>;
  readonly env?: Readonly<Record<string, string>>;
  readonly tlsVerify?: boolean;
  /** Below HOME. */
  readonly certDir?: string;
  /** Whether the registry wants a client's certificate. */
  readonly mutual?: boolean;
  /** WWW-Authenticate of the ping, which is 401 if there is one. */
  readonly challenge?: string | readonly string[];
  /** The status of the ping without a challenge. */
  readonly ping?: number;
  /** What the token server answers. */
  readonly token?: string;
  readonly tokenStatus?: number;
  /** The status of a manifest, by its host. */
  readonly status?: number | Readonly<Record<string, number>>;
  /** The Authorization that the manifest is asked for with (`-` for none), or this program's line. */
  readonly expect: string | RegExp;
  /** Why this program does something else than skopeo, which is not run then. */
  readonly departure?: string;
}

let made: Authority | undefined;
/** The authority of every registry here. */
export function authority(): Authority {
  return (made ??= makeAuthority(HOST, "auth.test", "registry-1.docker.io", "mirror.test", "other.test"));
}

async function registryFor(row: Row): Promise<Registry> {
  const { challenge = 'Basic realm="r"', token = '{"token":"T"}', tokenStatus = 200, status = 200, ping = 200 } = row;
  const challenges = [challenge].flat();
  return await startRecorder(
    authority(),
    ({ url = "", headers }, response) => {
      const path = url.replace(/^http:\/\/[^/]+/, "");
      if (path.startsWith("/token")) return response.writeHead(tokenStatus).end(token);
      if (path === "/v2/") {
        return response.writeHead(challenges.length === 0 ? ping : 401, { "www-authenticate": challenges }).end();
      }
      const code = typeof status === "number" ? status : (status[headers.host ?? ""] ?? 200);
      return response.writeHead(code, { "content-type": MANIFEST }).end(MANIFEST_TEXT);
    },
    row.mutual,
  );
}

/** A row on a machine of its own. */
interface Machine {
  readonly image: string;
  readonly certDir: string | undefined;
  readonly env: NodeJS.ProcessEnv;
}

function machine(
  { image = `${HOST}/ns/app:1`, files = {}, links = {}, env = {}, certDir }: Row,
  registry: Registry,
): Machine {
  const home = join(temporaryFolder(), "a home");
  const filled = (text: string): string =>
    text
      .replaceAll("HOME", home)
      .replaceAll("TLS", registry.tls)
      .replaceAll("PLAIN", registry.plain)
      .replaceAll("PROXY_HOST", registry.proxy.replace("http://", ""))
      .replaceAll("PROXY", registry.proxy)
      .replaceAll("CA", authority().ca);
  mkdirSync(home, { recursive: true });
  for (const [path, content] of Object.entries(files)) {
    const file = join(home, filled(path));
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
    const text = typeof content === "string" ? content : JSON.stringify(content);
    writeFileSync(file, path.includes("certs") ? text : filled(text), {
      mode: path.startsWith("bin/") ? 0o700 : 0o600,
    });
  }
  for (const [path, target] of Object.entries(links)) symlinkSync(target, join(home, path));
  const settings = {
    HTTPS_PROXY: registry.proxy,
    SSL_CERT_FILE: authority().ca,
    SSL_CERT_DIR: "/nonexistent",
    ...Object.fromEntries(Object.entries(env).map(([name, value]) => [name, filled(value)])),
  };
  return {
    image: filled(image),
    certDir: certDir === undefined ? undefined : join(home, certDir),
    env: { HOME: home, PATH: `${home}/bin:/usr/bin:/bin`, ...settings },
  };
}

/** skopeo's words if it fails. */
async function runSkopeo({ command }: Skopeo, row: Row, { image, certDir, env }: Machine): Promise<string> {
  const [file = "", ...prefix] = command;
  const flags = [
    ...(row.tlsVerify === undefined ? [] : [`--tls-verify=${row.tlsVerify}`]),
    ...(certDir === undefined ? [] : [`--cert-dir=${certDir}`]),
  ];
  const args = [...prefix, "inspect", "--raw", "--retry-times=0", ...flags, `docker://${image}`];
  const child = spawn(file, args, { env, stdio: ["ignore", "ignore", "pipe"], timeout: 60_000 });
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const [code] = (await once(child, "close")) as [number | null];
  return code === 0 ? "" : `exit code ${code}: ${stderr}`;
}

/** This program's line if it fails. */
async function runOurs({ tlsVerify }: Row, { image, certDir, env }: Machine): Promise<string> {
  const former = process.env;
  process.env = env;
  try {
    await openRegistry(image, { tlsVerify, certDir, change: false });
    return "";
  } catch (error) {
    return errorLine(asKeystoreError(error));
  } finally {
    process.env = former;
  }
}

// How many connections serve the requests is up to each program, and a token server may know its client. A URL has its
// host in lower case, without the port that it has anyway. The two have registries of their own.
function comparable({ asked, proxied, tls, plain }: Registry): string[] {
  return [...asked, ...new Set(proxied)].map((line) =>
    line
      .replace(/client_id=[^&]+/, "client_id=C")
      .replaceAll(tls.replace(/.*:/, ":"), ":TLS")
      .replaceAll(plain.replace(/.*:/, ":"), ":PLAIN")
      .replace(/https?:\/\/[^/]+|^CONNECT \S+/, (host) => host.toLowerCase())
      .replace(/^(\w+ https:\/\/[^/]+):443\//, "$1/"),
  );
}

/** Runs both for each row. */
export async function assertAsSkopeo(tool: Skopeo, rows: readonly Row[]): Promise<void> {
  const pairs = await Promise.all(
    rows.map(async (row) => ({ row, theirs: await registryFor(row), ours: await registryFor(row) })),
  );
  const failures: string[] = [];
  const queue = pairs.filter(({ row }) => row.departure === undefined);
  const worker = async (): Promise<void> => {
    for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
      const failure = await runSkopeo(tool, next.row, machine(next.row, next.theirs));
      const wanted = next.row.expect instanceof RegExp;
      if ((failure !== "") !== wanted) failures.push(`${next.row.name}: skopeo: ${failure || "accepts"}`);
    }
  };
  await Promise.all([worker(), worker(), worker()]);
  for (const { row, theirs, ours } of pairs) {
    const { name, expect, departure } = row;
    const line = await runOurs(row, machine(row, ours));
    const sent = ours.asked.findLast((request) => request.includes("/manifests/"))?.replace(/^GET \S+ /, "") ?? "";
    if (typeof expect === "string" && (line !== "" || sent !== expect)) failures.push(`${name}: ${line} ${sent}`);
    if (expect instanceof RegExp && !expect.test(line)) failures.push(`${name}: ${line}`);
    const [skopeos, own] = [comparable(theirs).join("\n  "), comparable(ours).join("\n  ")];
    if (departure === undefined && skopeos !== own) {
      failures.push(`${name}: skopeo asked\n  ${skopeos}\nand this program\n  ${own}`);
    }
    theirs.close();
    ours.close();
  }
  assert.equal(failures, []);
}
