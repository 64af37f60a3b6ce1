// npm run bench: measures what the program costs, as ratios to other commands in the same run. It prints one table
// and writes it into README.md. The commands of a group take turns, after a warm-up round; a ratio is the median of
// the ratios of all rounds.

import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { copyFileSync, cpSync, existsSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { baseNode, binary } from "./build.ts";
import { heldElsewhere } from "./holder-bench.ts";
import { at, compare, dir, median, rows, run, type Command } from "./measure.ts";
import { load } from "./serve-bench.ts";
import { makeImage } from "../test/support/images.ts";
import { startServer } from "../test/support/server.ts";
import { findSkopeo } from "../test/support/skopeo.ts";

const ROUNDS = 40;
const IMAGE_ROUNDS = 20;
const MANY_KEYS = 10_000;
const README = join(import.meta.dirname, "../README.md");
const [BEGIN, END] = ["<!-- figures -->", "<!-- /figures -->"];

const base64 = (text: string): string => Buffer.from(text).toString("base64");

/** Writes a wrap and an unwrap request for a recipient, and names their files. */
function requests(store: string, recipient: string): { wrap: string; unwrap: string } {
  const files = { wrap: at(`wrap-${recipient}.json`), unwrap: at(`unwrap-${recipient}.json`) };
  const optsdata = base64(
    JSON.stringify({
      symkey: "A".repeat(44),
      digest: `sha256:${"0".repeat(64)}`,
      cipheroptions: { nonce: "A".repeat(24) },
    }),
  );
  writeFileSync(
    files.wrap,
    JSON.stringify({
      op: "keywrap",
      keywrapparams: { ec: { Parameters: { keystore: [base64(recipient)] } }, optsdata },
    }),
  );
  const { keywrapresults } = JSON.parse(
    run([binary, "--keystore", store], { input: readFileSync(files.wrap, "utf8") }),
  ) as {
    keywrapresults: { annotation: string };
  };
  writeFileSync(
    files.unwrap,
    JSON.stringify({
      op: "keyunwrap",
      keyunwrapparams: { dc: { Parameters: null }, annotation: keywrapresults.annotation },
    }),
  );
  return files;
}

/** The request whose epk has coordinates of 66 bytes for P-256: node-jose alone computes on it for hours. */
function attack(unwrap: string): string {
  const request = JSON.parse(readFileSync(unwrap, "utf8")) as { keyunwrapparams: { annotation: string } };
  const jwe = JSON.parse(Buffer.from(request.keyunwrapparams.annotation, "base64").toString()) as {
    recipients: { header: { epk: { x: string } } }[];
  };
  for (const { header } of jwe.recipients) header.epk.x = Buffer.alloc(66, 0xff).toString("base64url");
  request.keyunwrapparams.annotation = base64(JSON.stringify(jwe));
  writeFileSync(at("attack.json"), JSON.stringify(request));
  return at("attack.json");
}

function startUp(): void {
  // Copy both in the same way: the place of a file in the page cache changes a start by several per cent.
  const [node, provider, empty] = [at("node"), at("provider"), at("empty.js")];
  copyFileSync(baseNode, node);
  copyFileSync(binary, provider);
  writeFileSync(empty, "");
  const store = at("store");
  for (const [name, type] of [
    ["p256", "ec"],
    ["rsa", "rsa"],
    ["oct", "oct"],
  ] as const)
    run([binary, "keygen", name, "--type", type, "--keystore", store]);
  const exec = (stdin: string, keys = store): Command => ({ argv: [provider, "--keystore", keys], stdin });
  const [ec, rsa, oct] = [requests(store, "p256"), requests(store, "rsa"), requests(store, "oct")];

  compare(
    ROUNDS,
    "bare start of Node",
    { argv: [node, empty] },
    {
      "unwrap, P-256": [exec(ec.unwrap), "1.15"],
      "wrap, P-256": [exec(ec.wrap), "1.15"],
      "unwrap, RSA-3072": [exec(rsa.unwrap), ""],
      "wrap, RSA-3072": [exec(rsa.wrap), ""],
      "unwrap, symmetric": [exec(oct.unwrap), ""],
      "wrap, symmetric": [exec(oct.wrap), ""],
    },
  );

  const many = at("many");
  cpSync(store, many, { recursive: true });
  const kid = readFileSync(join(store, "names/p256"), "utf8").trim();
  for (let index = 0; index < MANY_KEYS; index++) {
    const name = `key${index}`;
    const copy = `${String(index).padStart(6, "0")}${kid.slice(6)}`; // no request reads it: only their number counts
    for (const [folder, file] of [
      ["private", `${kid}.jwk`],
      ["public", `${kid}.jwk`],
    ] as const) {
      copyFileSync(join(store, folder, file), join(many, folder, `${copy}.jwk`));
    }
    writeFileSync(join(many, "names", name), `${copy}\n`);
  }
  compare(ROUNDS, "the same with 3 keys", exec(ec.unwrap), {
    [`unwrap with ${MANY_KEYS} keys`]: [exec(ec.unwrap, many), "1.05"],
  });
  compare(ROUNDS, "the same with 3 keys", exec(ec.wrap), {
    [`wrap with ${MANY_KEYS} keys`]: [exec(ec.wrap, many), "1.05"],
  });
  compare(ROUNDS, "unwrap, P-256", exec(ec.unwrap), {
    "refusal of the epk that hangs node-jose": [{ ...exec(attack(ec.unwrap)), exitCode: 3 }, ""],
  });

  const [locked, slow, masterKey, passphrase] = [at("locked"), at("slow"), at("master.key"), at("passphrase")];
  for (const copy of [locked, slow]) cpSync(store, copy, { recursive: true });
  writeFileSync(masterKey, randomBytes(32), { mode: 0o600 });
  writeFileSync(passphrase, "correct horse battery staple\n", { mode: 0o600 });
  run([binary, "lock", "--keystore", locked, "--master-key-file", masterKey]);
  run([binary, "lock", "--keystore", slow, "--passphrase-file", passphrase]);
  compare(ROUNDS, "unwrap, P-256", exec(ec.unwrap), {
    "unwrap, locked with a master key": [
      { ...exec(ec.unwrap, locked), env: { OCICRYPT_KEYSTORE_MASTER_KEY_FILE: masterKey } },
      "1.10",
    ],
    "unwrap, locked with a passphrase": [
      { ...exec(ec.unwrap, slow), env: { OCICRYPT_KEYSTORE_PASSPHRASE_FILE: passphrase } },
      "",
    ],
  });

  rows.push(["size of the binary", "base Node", (statSync(binary).size / statSync(baseNode).size).toFixed(3), "1.02"]);
  const peak = (argv: readonly string[], stdin: string): number => {
    const measured = spawnSync("/usr/bin/time", ["-f", "%M", ...argv], {
      input: readFileSync(stdin),
      encoding: "utf8",
      env: {},
    });
    return Number(measured.stderr);
  };
  if (existsSync("/usr/bin/time")) {
    const [ours, bare] = [() => peak(exec(ec.unwrap).argv, ec.unwrap), () => peak([node, empty], "/dev/null")].map(
      (measure) => median(Array.from({ length: 20 }, measure)),
    );
    rows.push([
      "peak memory, unwrap",
      `bare start of Node (${Math.round((bare ?? NaN) / 1024)} MiB)`,
      ((ours ?? NaN) / (bare ?? NaN)).toFixed(2),
      "",
    ]);
  }
}

async function images(): Promise<void> {
  const skopeo = findSkopeo({ download: true, say: (line) => process.stderr.write(`${line}\n`) });
  if (skopeo === undefined) return;
  const store = at("store");
  const conf = at("ocicrypt.conf");
  writeFileSync(conf, run([binary, "config", "--keystore", store]));
  const env = { OCICRYPT_KEYPROVIDER_CONFIG: conf, PATH: process.env["PATH"] };
  run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", at("key.pem")], {
    env,
  });
  run(["openssl", "pkey", "-in", at("key.pem"), "-pubout", "-out", at("pub.pem")], { env });
  const copy = (...args: readonly string[]): readonly string[] => [...skopeo.command, "copy", ...args];
  const server = await startServer(store);
  const grpcConf = at("grpc.conf");
  writeFileSync(grpcConf, run([binary, "config", "--grpc", server.address]));
  // What a key costs shows most where the layers are small; those of real images are larger.
  for (const [size, layerBytes] of [
    ["64 KiB", 64 * 1024],
    ["4 MiB", 4 * 1024 * 1024],
  ] as const) {
    const [plain, byProvider, byJwe] = [
      at(`image-${layerBytes}`),
      at(`by-provider-${layerBytes}`),
      at(`by-jwe-${layerBytes}`),
    ];
    makeImage(plain, { layers: 8, layerBytes });
    run(copy("--encryption-key", "provider:keystore:p256", `oci:${plain}`, `oci:${byProvider}`), { env });
    run(copy("--encryption-key", `jwe:${at("pub.pem")}`, `oci:${plain}`, `oci:${byJwe}`), { env });
    const decrypt = (key: string, from: string, settings: NodeJS.ProcessEnv = env): Command => ({
      argv: copy("--decryption-key", key, `oci:${from}`, `oci:${at("plain")}`),
      env: settings,
      prepare: () => rmSync(at("plain"), { recursive: true, force: true }),
    });
    compare(IMAGE_ROUNDS, "ocicrypt's built-in jwe", decrypt(at("key.pem"), byJwe), {
      [`skopeo decrypts 8 layers of ${size} through exec mode`]: [decrypt("provider:keystore", byProvider), ""],
      [`skopeo decrypts 8 layers of ${size} through \`serve\``]: [
        decrypt("provider:keystore", byProvider, { ...env, OCICRYPT_KEYPROVIDER_CONFIG: grpcConf }),
        "1.10",
      ],
    });
  }
  await server.stop();

  // A gigabyte of layers for another key: by skopeo, which takes two copies, and by rewrap, which reads the manifests.
  makeImage(at("large"), { layers: 4, layerBytes: 256 * 1024 * 1024 });
  run(copy("--encryption-key", "provider:keystore:p256", `oci:${at("large")}`, `oci:${at("large-encrypted")}`), {
    env,
  });
  rmSync(at("large"), { recursive: true });
  const [first, second] = [
    copy("--decryption-key", "provider:keystore", `oci:${at("large-encrypted")}`, `oci:${at("large-plain")}`),
    copy("--encryption-key", "provider:keystore:rsa", `oci:${at("large-plain")}`, `oci:${at("large-again")}`),
  ];
  const again: Command = {
    argv: ["/bin/sh", "-c", `${first.map(quoted).join(" ")} && ${second.map(quoted).join(" ")}`],
    env,
    prepare: () => ["large-plain", "large-again"].forEach((name) => rmSync(at(name), { recursive: true, force: true })),
  };
  const rewrap: Command = {
    argv: [binary, "rewrap", `oci:${at("large-encrypted")}`, "--to", "p256", "--prune", "--keystore", store],
  };
  compare(IMAGE_ROUNDS, "skopeo decrypts and encrypts it again", again, { "rewrap of 1 GiB of layers": [rewrap, ""] });
  // The kernel adds what a child read to its parent when it ends (proc_pid_io(5)).
  const read = (argv: readonly string[]): number =>
    Number(
      /rchar: (\d+)/.exec(run(["/bin/bash", "-c", '"$0" "$@" > /dev/null 2>&1; cat "/proc/$$/io"', ...argv]))?.[1],
    );
  rows.push([
    "bytes that this rewrap reads",
    "all of the image",
    `${read(rewrap.argv) - read([binary, "--version"])} of 1 GiB`,
    "",
  ]);
}

function quoted(word: string): string {
  return `'${word}'`;
}

try {
  startUp();
  await load(at("store"), at("unwrap-p256.json"));
  await heldElsewhere(at("store"), requests);
  await images();
} finally {
  rmSync(dir, { recursive: true, force: true });
}
const table = [["what", "compared with", "ratio", "goal"], ["---", "---", "---", "---"], ...rows]
  .map((row) => `| ${row.join(" | ")} |`)
  .join("\n");
const machine = `Node ${process.version}, ${cpus().length} × ${cpus()[0]?.model.trim() ?? "?"}; medians of ${ROUNDS} rounds (images: ${IMAGE_ROUNDS}), taken in turns.`;
process.stdout.write(`${table}\n\n${machine}\n`);
const readme = readFileSync(README, "utf8");
const [before, after] = [readme.indexOf(BEGIN), readme.indexOf(END)];
if (before === -1 || after < before) throw new Error(`README.md has no ${BEGIN} … ${END}`);
writeFileSync(README, `${readme.slice(0, before)}${BEGIN}\n${table}\n\n${machine}\n${readme.slice(after)}`);
