// Builds dist/ocicrypt-keystore: bundles src/, makes the code caches of its two bundles, and puts them into the base
// Node with pkg, as a single executable application.

import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, renameSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { build, type BuildOptions, type Plugin } from "esbuild";
import { assertTrimmed, trim } from "./trim.ts";

const ROOT = join(import.meta.dirname, "..");
const DIST = join(ROOT, "dist");
const WORK = join(DIST, "bundles");
const NODE_TARGET = "node24";

// A request allocates a little more than the 1 MiB that V8 starts with: in 2 MiB it does not wait for a collection.
// V8 takes a code cache only with the flags that it was made with.
const FLAGS = ["--v8-pool-size=1", "--min-semi-space-size=2"];

/** The base Node that the binary is made of: the registry's package for this machine's architecture. */
export const baseNode = createRequire(import.meta.url).resolve(`node-linux-${process.arch}/bin/node`);

/** The binary that `npm run build` makes. */
export const binary = join(DIST, "ocicrypt-keystore");

// Options that Node prefers to variables of the environment, which it reads before the program's first line.
const NO_VARIABLES = [
  "--openssl-config=/dev/null", // OPENSSL_CONF: an error in that file ends Node, and the file can load libraries
  "--icu-data-dir=/dev/null", // NODE_ICU_DATA: nothing can be below that path, so the data in the binary is used
  "--no-use-system-ca", // NODE_USE_SYSTEM_CA
  "--no-use-env-proxy", // NODE_USE_ENV_PROXY
  "--no-pending-deprecation", // NODE_PENDING_DEPRECATION
];

// Parts of the bundle that become separate assets: the commands, and packages that few commands need. They are
// evaluated only when they are imported, so that other starts do not pay for them. instanceof does not work for a
// class that exists in two of these parts.
const COMMANDS = "./cli/main.ts";
const PACKAGES: ReadonlyMap<string, { readonly asset: string; readonly entry: string }> = new Map([
  ["@grpc/grpc-js", { asset: "grpc", entry: 'export * from "@grpc/grpc-js";' }],
  ["@noble/curves/nist.js", { asset: "curves", entry: 'export { p256, p384, p521 } from "@noble/curves/nist.js";' }],
]);

const assets: Plugin = {
  name: "assets",
  setup(plugin) {
    plugin.onResolve({ filter: /^(\.\/cli\/|@)/ }, ({ path }) =>
      path === COMMANDS || PACKAGES.has(path) ? { path, namespace: "asset" } : undefined,
    );
    plugin.onLoad({ filter: /.*/, namespace: "asset" }, ({ path }) => ({
      contents:
        path === COMMANDS
          ? 'require("./src/binary/cached.ts").evaluate("cli")(module, module.exports, require);'
          : `
        const source = require("node:sea").getAsset("${PACKAGES.get(path)?.asset ?? ""}", "utf8");
        require("node:vm").compileFunction(source, ["module", "exports", "require"])(module, module.exports, require);`,
      loader: "js",
      resolveDir: ROOT,
    }));
  },
};

// yargs looks for files from this URL; without it, from the working directory, which may be gone.
const BANNER = 'const __bundle_url = "file:///ocicrypt-keystore/node_modules/yargs";';

const common: BuildOptions = {
  bundle: true,
  platform: "node",
  format: "cjs",
  target: NODE_TARGET,
  minify: true,
  legalComments: "external",
  define: { "import.meta.url": "__bundle_url" },
  banner: { js: BANNER },
  logLevel: "warning",
};

async function main(): Promise<void> {
  mkdirSync(WORK, { recursive: true });
  const [loader, exec, cli] = [join(WORK, "loader.js"), join(WORK, "exec.js"), join(WORK, "cli.js")];
  await build({ ...common, entryPoints: [join(ROOT, "src/binary/loader.ts")], outfile: loader });
  await build({
    ...common,
    entryPoints: [join(ROOT, "src/main.ts")],
    outfile: exec,
    plugins: [assets, trim],
    banner: { js: `(function (require) {${BANNER}` },
    footer: { js: "})" },
  });
  await build({
    ...common,
    entryPoints: [join(ROOT, "src/cli/main.ts")],
    outfile: cli,
    plugins: [assets, trim],
    mainFields: ["module", "main"], // jsonc-parser's main cannot be bundled
    banner: { js: `(function (module, exports, require) {${BANNER}` },
    footer: { js: "})" },
  });
  assertTrimmed();
  const packages = new Map<string, string>();
  for (const { asset, entry } of PACKAGES.values()) {
    packages.set(asset, join(WORK, `${asset}.js`));
    await build({ ...common, stdin: { contents: entry, resolveDir: ROOT }, outfile: join(WORK, `${asset}.js`) });
  }
  execFileSync(baseNode, [...FLAGS, join(ROOT, "scripts/warm.ts"), exec, cli], {
    stdio: ["ignore", "ignore", "inherit"],
  });

  // pkg's own command line has no option for a local base Node in SEA mode; its module has.
  const { default: sea } = createRequire(import.meta.url)("pkg/lib-es5/sea") as {
    default: (entry: string, options: object) => Promise<void>;
  };
  const fresh = `${binary}.new`; // a running binary cannot be overwritten, but its file can be replaced
  await sea(loader, {
    nodePath: baseNode,
    targets: [{ nodeRange: NODE_TARGET, platform: "linux", arch: process.arch, output: fresh }],
    seaConfig: {
      useCodeCache: true,
      disableExperimentalSEAWarning: true,
      execArgv: [...FLAGS, "--disable-sigusr1", ...NO_VARIABLES],
      execArgvExtension: "none", // a user's NODE_OPTIONS must not reach a program that holds keys
      assets: {
        exec,
        "exec.cache": `${exec}.cache`,
        cli,
        "cli.cache": `${cli}.cache`,
        ...Object.fromEntries(packages),
        ...Object.fromEntries(helpTopics()),
      },
    },
  });
  renameSync(fresh, binary);
}

/** The topics of `help`, by the names of their assets. */
function helpTopics(): [asset: string, path: string][] {
  const folder = join(ROOT, "src/help");
  const files = readdirSync(folder).filter((name) => name.endsWith(".md"));
  return files.map((name) => [`help/${name.replace(/\.md$/, "")}`, join(folder, name)]);
}

if (import.meta.main) await main();
