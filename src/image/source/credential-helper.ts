// docker-credential-NAME: the programs that keep credentials for docker, podman and skopeo.

import { spawnSync } from "node:child_process";
import { callersEnvironment } from "../../environment.ts";
import { errorCode, imageError, printable, type KeystoreError } from "../../errors.ts";
import { orFail, parseGoJson, readStruct, stringOr } from "../../go-json.ts";

/** What a registry is shown: the texts have one character a byte. */
export interface Credentials {
  readonly username: string;
  readonly password: string;
  /** docker's OAuth2 logins; empty if there is none. */
  readonly identityToken: string;
}

const TIMEOUT = 30_000; // ms
const NOT_FOUND = "credentials not found in native keychain";
const MAX_WORDS = 256; // characters of its own words in a message

/** The program of a helper. */
export function helperProgram(helper: string): string {
  return `docker-credential-${helper}`;
}

/**
 * Asks a helper: the registry on its standard input, JSON on its standard output.
 *
 * @param namedIn the file that names the helper
 * @returns undefined if it has none for the registry
 * @throws KeystoreError `image` with the helper's own words
 */
export function askHelper(helper: string, registry: string, namedIn: string): Credentials | undefined {
  const program = helperProgram(helper);
  const failed = (why: string): KeystoreError => {
    const hint = `run echo ${registry} | ${printable(program, 64)} get by hand, or change ${namedIn}`;
    return imageError(`${printable(program, 64)}, which ${namedIn} names, ${why}`, hint);
  };
  if (!/^[A-Za-z0-9._+-]+$/.test(helper)) throw failed("is no name of a program");
  const { error, status, signal, stdout, stderr } = spawnSync(program, ["get"], {
    env: callersEnvironment(),
    input: registry,
    timeout: TIMEOUT,
    killSignal: "SIGKILL",
  });
  const code = errorCode(error);
  if (code === "ENOENT") throw failed("is not on PATH");
  if (code === "EACCES") throw failed("is not on PATH, or this user may not run it");
  if (code === "ETIMEDOUT") throw failed(`did not answer within ${TIMEOUT / 1000} s`);
  if (code !== undefined && code !== "EPIPE") throw failed(`cannot be started: ${code}`);
  if (status !== 0) {
    const words = stdout.toString().trim();
    if (words === NOT_FOUND) return undefined;
    // A helper says what is wrong on standard output. Half an answer would hold a secret.
    const said = words === "" || words.includes("{") ? lastLine(stderr.toString()) : words;
    throw failed(`failed: ${printable(said === "" ? `exit status ${status ?? signal}` : said, MAX_WORDS)}`);
  }
  let [username, password] = ["", ""];
  orFail(
    (reason) => failed(`gave an answer that ${reason}`),
    () =>
      readStruct(parseGoJson(stdout), "is JSON", {
        username: (value) => (username = stringOr(username, value, "has a Username")),
        secret: (value) => (password = stringOr(password, value, "has a Secret")),
      }),
  );
  return username === "<token>"
    ? { username: "", password: "", identityToken: password }
    : { username: bytes(username), password: bytes(password), identityToken: "" };
}

/** The UTF-8 bytes of a text, one a character. */
function bytes(text: string): string {
  return Buffer.from(text).toString("latin1");
}

function lastLine(text: string): string {
  return text.trimEnd().split("\n").at(-1)?.trim() ?? "";
}
