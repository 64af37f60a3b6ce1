// The environment of whoever started this program. Variables that steer Node, or a library in the binary, are taken out
// of process.env before main.ts runs: those who set them meant another program. A holder's command still gets them.

const STEERING = /^(?:NODE_|OPENSSL_|UV_|PKG_|GRPC_|YARGS_|SSLKEYLOGFILE$|WATCH_REPORT_DEPENDENCIES$)/;

declare global {
  /** What {@link setAside} took out. The binary's bundles share it. */
  var variablesSetAside: NodeJS.ProcessEnv | undefined;
}

/** Takes the variables that steer Node or a library out of process.env, and gives them. */
export function setAside(): NodeJS.ProcessEnv {
  const aside: NodeJS.ProcessEnv = {};
  for (const name of Object.keys(process.env)) {
    if (!STEERING.test(name)) continue;
    aside[name] = process.env[name];
    delete process.env[name];
  }
  return (globalThis.variablesSetAside = aside);
}

/** The whole environment that this program was started with, for a program that it starts. */
export function callersEnvironment(): NodeJS.ProcessEnv {
  return { ...process.env, ...globalThis.variablesSetAside };
}
