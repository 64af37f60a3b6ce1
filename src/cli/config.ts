// config: prints the ocicrypt.conf that names this binary, and how to set up each client.

import { readdirSync } from "node:fs";
import { resolve } from "node:path";
import { errorCode, usageError } from "../errors.ts";
import { configFolder, storeLocation } from "../keystore/location.ts";
import { Paths } from "../keystore/paths.ts";
import { CLIENT_TEXTS } from "./client-texts.ts";
import { print, printJson, tell, type Cli } from "./shared.ts";

/** A client that `--client` knows. */
type Client = keyof typeof CLIENT_TEXTS;

const CLIENTS = Object.keys(CLIENT_TEXTS).filter((name): name is Client => name in CLIENT_TEXTS);

/** Adds the command. Without --client it prints the file that $OCICRYPT_KEYPROVIDER_CONFIG must name. */
export function config(cli: Cli): void {
  cli.command(
    "config",
    "Print an ocicrypt.conf that names this program, and how to set up a client",
    (yargs) =>
      yargs
        .option("provider", {
          type: "string",
          requiresArg: true,
          default: "keystore",
          describe: "The provider's name: clients say provider:NAME",
        })
        .option("grpc", {
          type: "string",
          requiresArg: true,
          describe: "Have clients call the server at this address (see serve) instead of starting this program",
        })
        .option("tls-ca", {
          type: "string",
          requiresArg: true,
          describe: "The CA certificate that signed the server's certificate",
        })
        .option("tls-cert", { type: "string", requiresArg: true, describe: "The client's certificate" })
        .option("tls-key", { type: "string", requiresArg: true, describe: "The private key of that certificate" })
        .option("client", {
          choices: CLIENTS,
          requiresArg: true,
          describe: "Print what to paste where for this client, and what to restart",
        })
        .example("$0 config > ocicrypt.conf", "Then: export OCICRYPT_KEYPROVIDER_CONFIG=$PWD/ocicrypt.conf")
        .example("$0 config --client containerd", "Everything that containerd needs")
        .example("$0 config --grpc unix:/run/ocicrypt-keystore/socket", "For clients of a server"),
    async ({ keystore, provider, client, grpc, tlsCa, tlsCert, tlsKey, ...secrets }) => {
      const tls = [tlsCa, tlsCert, tlsKey];
      if (grpc === undefined && tls.some((file) => file !== undefined))
        throw usageError("the --tls options are only for --grpc", "add --grpc HOST:PORT, or leave them out");
      const invocation =
        grpc === undefined ? startedProgram(provider, storeLocation(keystore), secrets) : await askedServer(grpc, tls);
      const conf = ocicryptConf(provider, invocation);
      if (grpc === undefined) tellOfStore(storeLocation(keystore));
      if (client === undefined) return printJson(conf);
      const { service, text } = CLIENT_TEXTS[client];
      if (service && grpc === undefined && keystore === undefined && process.geteuid?.() !== 0)
        tell(`${client} runs as root: run this as root for root's key store, or name one with --keystore`);
      return print(text({ provider, conf: JSON.stringify(conf, null, 2), folder: service ? "/etc" : configFolder() }));
    },
  );
}

/** Warns if clients of this user could not use the key store. */
function tellOfStore(dir: string): void {
  try {
    readdirSync(dir);
  } catch (error) {
    if (errorCode(error) === "ENOENT") tell(`${dir} does not exist yet: make a key with ocicrypt-keystore keygen NAME`);
    else tell(`${dir} cannot be read by this user (${errorCode(error)}): name another key store with --keystore`);
    return;
  }
  const keys = new Paths(dir).private;
  try {
    readdirSync(keys);
  } catch (error) {
    if (errorCode(error) === "ENOENT") return; // a store of recipients only
    tell(`${keys} cannot be read by this user (${errorCode(error)}): its clients can encrypt, but not decrypt`);
  }
}

interface SecretArgs {
  readonly passphraseFile: string | undefined;
  readonly masterKeyFile: string | undefined;
}

/** The file's content (ocicrypt's docs/keyprovider.md). */
function ocicryptConf(provider: string, invocation: object): object {
  if (/[:,\s]/.test(provider) || provider === "") {
    throw usageError(
      `"${provider}" cannot be a provider's name`,
      "clients split provider:NAME:KEY at colons and flags at commas",
    );
  }
  return { "key-providers": { [provider]: invocation } };
}

/** An entry that starts this program: its `path` is a member of `cmd`. */
function startedProgram(provider: string, keystore: string, { passphraseFile, masterKeyFile }: SecretArgs): object {
  const secrets = [
    ...(passphraseFile === undefined ? [] : ["--passphrase-file", resolve(passphraseFile)]),
    ...(masterKeyFile === undefined ? [] : ["--master-key-file", resolve(masterKeyFile)]),
  ];
  return { cmd: { path: process.execPath, args: ["--keystore", keystore, "--provider", provider, ...secrets] } };
}

/**
 * An entry that calls a server. ocicrypt knows `grpc-tls` since 1.3.0; older versions ignore it and call without TLS.
 */
async function askedServer(grpc: string, tls: readonly (string | undefined)[]): Promise<object> {
  const { parseAddress, shownAddress } = await import("../serve/address.ts");
  const address = parseAddress(grpc, "call");
  if (tls.every((file) => file === undefined)) return { grpc: shownAddress(address) };
  if (address.kind === "unix") throw usageError("TLS is not for a unix socket", "leave the --tls options out");
  const [ca, cert, key] = tls.map((file) => file && resolve(file));
  if (!ca || !cert || !key)
    throw usageError("--tls-ca, --tls-cert and --tls-key must be given together", "give all three");
  tell(
    "clients with ocicrypt before 1.3.0 do not know grpc-tls: they call without TLS, and the server refuses them. " +
      "Give them a server on a unix socket or on localhost",
  );
  return { grpc: shownAddress(address), "grpc-tls": { "root-ca-file": ca, "cert-file": cert, "key-file": key } };
}
