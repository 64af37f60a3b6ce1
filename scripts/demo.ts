// npm run demo: shows the tool, from a new key store to an encrypted image and back. Each printed command is the one
// that runs. Without a usable skopeo it runs the other commands and says what it left out.

import { execFile } from "node:child_process";
import { chmodSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { promisify } from "node:util";
import { binary } from "./build.ts";
import { layerDigests, makeImage, manifestLayers } from "../test/support/images.ts";
import { findSkopeo, type Skopeo } from "../test/support/skopeo.ts";

const ROOT = join(import.meta.dirname, "..");
const WIDTH = 160; // characters of an output line that are shown
const ANNOTATION = "org.opencontainers.image.enc.keys.provider.simplecrypt";
const LAYERS = 3;
const ENCRYPT = "skopeo copy --encryption-key provider:simplecrypt:abc oci:alpine oci:encrypted";
const DECRYPT = "skopeo copy --decryption-key provider:simplecrypt:extra-params oci:encrypted oci:decrypted";

const say = (text: string): void => void process.stdout.write(`${text}\n`);
const shown = (text: string): string =>
  text.trimEnd().replace(/^.*$/gm, (line) => (line.length > WIDTH ? `${line.slice(0, WIDTH)}…` : line));
const quoted = (word: string): string => (/^[\w./:@%+=-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);
const inBase64 = (text: string): string => Buffer.from(text).toString("base64");
const fromBase64 = (text: string | undefined): string => Buffer.from(text ?? "", "base64").toString();

// A signal ends the demo after the running command: otherwise that command would write into a folder that is gone.
let stoppedBy: string | undefined;
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => (stoppedBy = signal));

/** Runs a program. @throws with what it said, or if a signal came meanwhile */
async function run(
  file: string,
  args: readonly string[],
  options: { cwd: string; env: NodeJS.ProcessEnv },
): Promise<string> {
  const { stdout, stderr } = await promisify(execFile)(file, args, options).catch(
    (error: Error & { stderr?: string }) => {
      throw new Error(error.stderr?.trim() || error.message, { cause: error });
    },
  );
  if (stoppedBy !== undefined) throw new Error("stopped");
  return stdout + stderr;
}

/** A shell in the demo's folder that shows its commands, and the environment that `set` changes. */
function shell(cwd: string): { type: (line: string) => Promise<string>; set: (name: string, value: string) => void } {
  const env: NodeJS.ProcessEnv = {
    ...process.env,
    PATH: [join(cwd, "tools"), dirname(binary), process.env["PATH"]].join(delimiter),
  };
  return {
    set(name, value) {
      env[name] = value;
      say(`$ export ${name}=${quoted(value)}`);
    },
    async type(line) {
      say(`$ ${line}`);
      const output = await run("/bin/sh", ["-c", line], { cwd, env });
      if (output !== "") say(shown(output));
      return output;
    },
  };
}

async function buildIfStale(): Promise<void> {
  const sources = globSync(["src/**/*", "scripts/*.ts", "package*.json"], { cwd: ROOT }).map(
    (file) => statSync(join(ROOT, file)).mtimeMs,
  );
  const built = statSync(binary, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  if (built > Math.max(...sources)) return;
  say("$ npm run build   # takes some seconds");
  await run(process.execPath, [join(ROOT, "scripts/build.ts")], { cwd: ROOT, env: process.env });
}

/** The request that skopeo sent for one recipient, with this demo's provider and key in it, and what it has to wrap. */
function recordedRequest(): { request: string; optsdata: string } {
  const recorded = readFileSync(join(ROOT, "test/protocol/wrap-skopeo-one.json"), "utf8");
  const request = recorded.replace(`"keystore":["${inBase64("alice")}"]`, `"simplecrypt":["${inBase64("abc")}"]`);
  if (request === recorded) throw new Error("the recorded request is another than this demo knows");
  const { keywrapparams } = JSON.parse(request) as { keywrapparams: { optsdata: string } };
  return { request, optsdata: keywrapparams.optsdata };
}

/** A `skopeo` for the demo's PATH, so that its lines run as they are written. */
function putOnPath(folder: string, { command }: Skopeo): void {
  writeFileSync(join(folder, "skopeo"), `#!/bin/sh\nexec ${command.map(quoted).join(" ")} "$@"\n`);
  chmodSync(join(folder, "skopeo"), 0o755);
}

async function demo(dir: string): Promise<string> {
  const { type, set } = shell(dir);
  for (const folder of ["tools", "bin"]) mkdirSync(join(dir, folder));

  say("\n== A key store with one key\n");
  await buildIfStale();
  say(`$ cd ${quoted(dir)}\n$ export PATH=${quoted(dirname(binary))}:$PATH`);
  set("OCICRYPT_KEYSTORE", join(dir, "store"));
  await type("ocicrypt-keystore keygen abc");
  await type("ocicrypt-keystore list");

  say("\n== What a client says to it: one request on standard input, one answer on standard output\n");
  say(
    "This one was recorded from skopeo. Two names in it are changed, the provider's to simplecrypt and the key's to abc.",
  );
  const { request, optsdata } = recordedRequest();
  writeFileSync(join(dir, "wrap.json"), `${request.trimEnd()}\n`);
  await type("cat wrap.json");
  const { keywrapresults } = JSON.parse(await type("ocicrypt-keystore < wrap.json")) as {
    keywrapresults: { annotation: string };
  };
  say(
    `\nThe annotation is a JWE, which goes into the image beside its layer:\n${shown(fromBase64(keywrapresults.annotation))}`,
  );
  say("\nAnd back, as whoever pulls that image asks for the layer's key:");
  const unwrap = {
    op: "keyunwrap",
    keywrapparams: { ec: null, optsdata: null },
    keyunwrapparams: { dc: { Parameters: null }, annotation: keywrapresults.annotation },
  };
  writeFileSync(join(dir, "unwrap.json"), `${JSON.stringify(unwrap)}\n`);
  const { keyunwrapresults } = JSON.parse(await type("ocicrypt-keystore < unwrap.json")) as {
    keyunwrapresults: { optsdata: string };
  };
  if (keyunwrapresults.optsdata !== optsdata) throw new Error("the layer's key came back as another");
  say("These are the bytes that were wrapped, to the last one.");

  say("\n== Dropped in: one file under the provider's name, and an ocicrypt.conf that names it\n");
  await type(`cp ${quoted(binary)} bin/simplecrypt`);
  await type("ls bin");
  writeFileSync(
    join(dir, "ocicrypt.conf"),
    `${JSON.stringify({ "key-providers": { simplecrypt: { cmd: { path: join(dir, "bin/simplecrypt"), args: [] } } } }, null, 2)}\n`,
  );
  await type("cat ocicrypt.conf");
  say("\nThe client reads this variable when it starts; a service such as containerd or CRI-O needs it in its unit.");
  set("OCICRYPT_KEYPROVIDER_CONFIG", join(dir, "ocicrypt.conf"));

  say("\n== An image, encrypted and decrypted by skopeo\n");
  const skopeo = findSkopeo({ download: true, say });
  if (skopeo === undefined) {
    say(`What would be run here:\n$ ${ENCRYPT}\n$ ${DECRYPT}`);
    return "It works as far as it was tried: a layer's key was wrapped and unwrapped. The two skopeo lines were not tried: put a skopeo on PATH that has ocicrypt 1.1 or later, as Debian 13's, and run this again.";
  }
  putOnPath(join(dir, "tools"), skopeo);
  say(
    `skopeo is version ${skopeo.version}, ${skopeo.command.at(-2)}, run with --insecure-policy. The folder alpine is an image of ${LAYERS} layers, made for this.`,
  );
  makeImage(join(dir, "alpine"), { layers: LAYERS });
  await type(ENCRYPT);
  say(`\nEach layer of oci:encrypted has the annotation ${ANNOTATION} now. Who has the key opens them:`);
  await type(DECRYPT);
  return compareImages(dir);
}

function compareImages(dir: string): string {
  const [original, encrypted, decrypted] = ["alpine", "encrypted", "decrypted"].map((name) =>
    layerDigests(join(dir, name)),
  );
  say("\nLayers, by their digests:");
  const row = (cells: readonly string[]): void =>
    say(
      cells
        .map((cell) => cell.slice(0, 24).padEnd(26))
        .join("")
        .trimEnd(),
    );
  row(["alpine", "encrypted", "decrypted"]);
  original?.forEach((digest, layer) => row([digest, encrypted?.[layer] ?? "none", decrypted?.[layer] ?? "none"]));
  const sealed = manifestLayers(join(dir, "encrypted")).filter(
    ({ mediaType, digest, annotations }) =>
      mediaType.endsWith("+encrypted") && annotations[ANNOTATION] !== undefined && original?.includes(digest) === false,
  );
  if (sealed.length !== LAYERS) throw new Error(`${sealed.length} of ${LAYERS} layers were encrypted for simplecrypt`);
  if (original?.length !== LAYERS || original.join() !== decrypted?.join())
    throw new Error("the decrypted layers are others than the original ones");
  return `It works: ${LAYERS} of ${LAYERS} layers were encrypted for the key abc, and decrypted to what they were.`;
}

async function main(): Promise<string> {
  const dir = mkdtempSync(join(tmpdir(), "ocicrypt-keystore-demo-"));
  try {
    say(`ocicrypt-keystore at work, in ${dir}, which is removed at the end.`);
    return await demo(dir);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

try {
  say(`\n${await main()}`);
} catch (error) {
  const failure = `It does not work: ${error instanceof Error ? error.message : String(error)}`;
  say(`\n${stoppedBy === undefined ? failure : `Stopped by ${stoppedBy}.`}`);
  process.exitCode = 1;
}
