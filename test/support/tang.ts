// Tang servers for the tests: Debian's, behind tangd-inetd.ts, and one of ours that can lie.

import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { createECDH, generateKeyPairSync, sign, type KeyObject } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync } from "node:fs";
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { join } from "node:path";
import { p521 } from "@noble/curves/nist.js";
import * as assert from "uvu/assert";
import { CURVES, pointJwk, type Curve, type EcJwk } from "../../src/jwk/ec.ts";
import { checkJwk, thumbprint } from "../../src/jwk/jwk.ts";
import { temporaryFolder } from "./folders.ts";
import { tool } from "./parts.ts";
import { kidOf, readJson, type Members } from "./stores.ts";

const LIBEXEC = "/usr/libexec";

/** Debian's tang with clevis and jose, undefined where one is missing. */
export const tangParts = [`${LIBEXEC}/tangd`, `${LIBEXEC}/tangd-keygen`, tool("clevis"), tool("jose")].every(
  (path) => path !== undefined && existsSync(path),
)
  ? { clevis: tool("clevis") ?? "", jose: tool("jose") ?? "" }
  : undefined;

/** What to say is missing. */
export const TANG_PARTS = "tang, clevis and jose";

const children = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of children) child.kill("SIGKILL");
});

/** A real Tang server, its database in a folder of its own. */
export class Tang {
  readonly db = join(temporaryFolder(), "db");
  #port = 0;
  #child: ChildProcess | undefined;

  /** Started, with a signing key and an exchange key. */
  static async started(): Promise<Tang> {
    const tang = new Tang();
    mkdirSync(tang.db);
    tang.addKeys();
    await tang.start();
    return tang;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** Makes a new signing key and exchange key. */
  addKeys(): void {
    assert.is(spawnSync(`${LIBEXEC}/tangd-keygen`, [this.db]).status, 0);
  }

  /** A key that jose makes. */
  addKey(jose: string, template: object): void {
    const path = join(this.db, `${Math.random().toString(36).slice(2)}.jwk`);
    assert.is(spawnSync(jose, ["jwk", "gen", "-i", JSON.stringify(template), "-o", path]).status, 0);
  }

  /** The thumbprint of a signing key that it advertises. */
  get thumbprint(): string {
    const keys = readdirSync(this.db)
      .filter((file) => !file.startsWith("."))
      .map((file) => readJson(join(this.db, file)));
    return thumbprint(publicKey(keys.find(({ alg }) => String(alg).startsWith("ES")) ?? {}));
  }

  /** Advertises its keys no more, as tangd-rotate-keys does: those made before still open. */
  hideKeys(): void {
    for (const file of readdirSync(this.db).filter((one) => !one.startsWith(".")))
      renameSync(join(this.db, file), join(this.db, `.${file}`));
  }

  async start(): Promise<void> {
    const child = spawn(
      process.execPath,
      [join(import.meta.dirname, "tangd-inetd.ts"), `${LIBEXEC}/tangd`, this.db, String(this.#port)],
      { stdio: ["pipe", "pipe", "inherit"] },
    );
    children.add(child);
    this.#child = child;
    const [line] = (await once(child.stdout, "data")) as [Buffer];
    this.#port = Number(line.toString());
    child.unref();
    for (const stream of [child.stdin, child.stdout]) (stream as Socket).unref();
  }

  async stop(): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    children.delete(child);
    child.ref();
    child.kill("SIGKILL");
    await once(child, "exit");
  }
}

function publicKey({ d: _d, ...jwk }: Members): EcJwk {
  const checked = checkJwk(jwk, (reason) => new Error(reason));
  if (checked.kty !== "EC") throw new Error("no EC key");
  return checked;
}

/** Answers a request; `right` is what an honest server would send. */
export type Lie = (request: { method: string; body: Buffer }, response: ServerResponse, right: Buffer) => void;

/** A Tang server in this process, which answers as it should until it is told to lie. */
export class LyingTang {
  readonly signer = generateKeyPairSync("ec", { namedCurve: "secp521r1" });
  readonly exchange = createECDH(CURVES["P-521"].openssl);
  /** What it does instead of answering GET /adv, and POST /rec. */
  adv: Lie | undefined;
  rec: Lie | undefined;
  requests = 0;
  readonly server = createHttpServer((request, response) => {
    this.#answer(request, response).catch((error: unknown) => response.destroy(error as Error));
  });

  static async started(): Promise<LyingTang> {
    const tang = new LyingTang();
    tang.exchange.generateKeys();
    tang.server.listen(0, "127.0.0.1");
    tang.server.unref();
    await once(tang.server, "listening");
    return tang;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  get thumbprint(): string {
    return thumbprint(publicKey({ ...this.signer.publicKey.export({ format: "jwk" }) }));
  }

  get exchangePoint(): EcJwk {
    return pointJwk("P-521", this.exchange.getPublicKey());
  }

  get keys(): Members[] {
    return [
      { alg: "ECMR", key_ops: ["deriveKey"], ...this.exchangePoint },
      { alg: "ES512", key_ops: ["verify"], ...this.signer.publicKey.export({ format: "jwk" }) },
    ];
  }

  /** What it answers to a point: s times it. */
  multiply(jwk: EcJwk): EcJwk {
    return pointJwk(
      "P-521",
      pointOf(jwk)
        .multiply(BigInt(`0x${this.exchange.getPrivateKey("hex")}`))
        .toBytes(false),
    );
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.requests++;
    const body = Buffer.concat(await request.toArray());
    const asked = request.method === "GET" ? ("adv" as const) : ("rec" as const);
    const right =
      asked === "adv"
        ? advertisement(this.keys, [this.signer.privateKey])
        : this.multiply(publicKey(JSON.parse(body.toString()) as Members));
    const lie = this[asked];
    if (lie === undefined) response.end(JSON.stringify(right));
    else lie({ method: request.method ?? "", body }, response, Buffer.from(JSON.stringify(right)));
  }
}

/** The point of a P-521 key. */
export function pointOf({ x, y }: EcJwk): InstanceType<typeof p521.Point> {
  return p521.Point.fromBytes(Buffer.concat([Buffer.of(4), Buffer.from(x, "base64url"), Buffer.from(y, "base64url")]));
}

/** A JWS over a JWK set, with a signature of each P-521 key. */
export function advertisement(
  keys: unknown,
  signers: readonly KeyObject[],
  said: object = { alg: "ES512", cty: "jwk-set+json" },
): object {
  const payload = encoded({ keys });
  const protectedHeader = encoded(said);
  const signatures = signers.map((key) => ({
    protected: protectedHeader,
    signature: sign("sha512", Buffer.from(`${protectedHeader}.${payload}`), {
      key,
      dsaEncoding: "ieee-p1363",
    }).toString("base64url"),
  }));
  return signatures.length === 1 ? { payload, ...signatures[0] } : { payload, signatures };
}

/** JSON in base64url. */
export function encoded(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString("base64url");
}

/** A fresh public key on a curve. */
export function freshPoint(crv: Curve): EcJwk {
  return pointJwk(crv, createECDH(CURVES[crv].openssl).generateKeys());
}

/** What lock is told of a server. */
export const serverOf = (tang: Tang | LyingTang): string[] => ["--tang", tang.url, "--thumbprint", tang.thumbprint];

/** The locked file of a name. */
export function lockedFile(dir: string, name: string): string {
  return join(dir, "private", `${kidOf(dir, name)}.jwe`);
}

/** A compact JWE's protected header. */
export function header(path: string): Members {
  return JSON.parse(Buffer.from(readFileSync(path, "latin1").split(".")[0] ?? "", "base64url").toString()) as Members;
}
