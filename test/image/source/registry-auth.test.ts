// Auth files, credential helpers and challenges: this program sends a registry and its token server what skopeo sends,
// request by request, and refuses what skopeo refuses.

import { test } from "uvu";
import { assertAsSkopeo, HOST, NEEDED, skopeoHere, type Row } from "../../support/as-skopeo.ts";
import { testWith } from "../../support/parts.ts";

const basic = (text: string): string => `Basic ${Buffer.from(text).toString("base64")}`;
const auth = (text: string): { auth: string } => ({ auth: Buffer.from(text).toString("base64") });
const config = (auths: object, more: object = {}): object => ({ auths, ...more });
const AUTH = ".config/containers/auth.json";
const DOCKER = ".docker/config.json";
const HELPER = (text: string): string => `#!/bin/sh\n${text}\n`;
const ANSWERS = (username: string, secret: string): string =>
  HELPER(`read -r host\necho '{"ServerURL":"'$host'","Username":"${username}","Secret":"${secret}"}'`);
const BASIC = 'Basic realm="r"';
const BEARER = 'Bearer realm="https://auth.test/token",service="s e",scope="repository:other:pull"';

/** Rows about keys of auth files; all with the challenge Basic. */
const KEYS: readonly Row[] = [
  { name: "no file", expect: basic(":") },
  { name: "the host", files: { [AUTH]: config({ [HOST]: auth("u:p") }) }, expect: basic("u:p") },
  { name: "https://HOST", files: { [DOCKER]: config({ [`https://${HOST}`]: auth("u:p") }) }, expect: basic("u:p") },
  {
    name: "https://HOST/v1/",
    files: { [DOCKER]: config({ [`https://${HOST}/v1/`]: auth("u:p") }) },
    expect: basic("u:p"),
  },
  {
    name: "http://HOST/v2/",
    files: { [DOCKER]: config({ [`http://${HOST}/v2/`]: auth("u:p") }) },
    expect: basic("u:p"),
  },
  {
    name: "HOST/v1/ is a namespace",
    files: { [DOCKER]: config({ [`${HOST}/v1/`]: auth("u:p") }) },
    expect: basic(":"),
  },
  { name: "HOST/ is none", files: { [DOCKER]: config({ [`${HOST}/`]: auth("u:p") }) }, expect: basic(":") },
  { name: "HTTPS:// is none", files: { [DOCKER]: config({ [`HTTPS://${HOST}`]: auth("u:p") }) }, expect: basic(":") },
  { name: "another case of the host", files: { [AUTH]: config({ "Registry.Test": auth("u:p") }) }, expect: basic(":") },
  {
    name: "the host's case in the image",
    image: "Registry.test/ns/app:1",
    files: { [AUTH]: config({ "Registry.test": auth("u:p") }) },
    expect: basic("u:p"),
  },
  { name: "a port that is another", files: { [AUTH]: config({ [`${HOST}:443`]: auth("u:p") }) }, expect: basic(":") },
  {
    name: "a port",
    image: `${HOST}:5000/app:1`,
    files: { [AUTH]: config({ [`${HOST}:5000`]: auth("u:p"), [HOST]: auth("x:y") }) },
    expect: basic("u:p"),
  },
  {
    name: "a host for its port",
    image: `${HOST}:5000/app:1`,
    files: { [AUTH]: config({ [HOST]: auth("x:y") }) },
    expect: basic(":"),
  },
  {
    name: "the repository before the namespace before the host",
    files: { [AUTH]: config({ [HOST]: auth("a:a"), [`${HOST}/ns`]: auth("b:b"), [`${HOST}/ns/app`]: auth("c:c") }) },
    expect: basic("c:c"),
  },
  {
    name: "the namespace before the host",
    files: { [AUTH]: config({ [HOST]: auth("a:a"), [`${HOST}/ns`]: auth("b:b"), [`${HOST}/n`]: auth("c:c") }) },
    expect: basic("b:b"),
  },
  {
    name: "the host before its URL",
    files: { [AUTH]: config({ [`https://${HOST}`]: auth("a:a"), [HOST]: auth("b:b") }) },
    expect: basic("b:b"),
  },
  {
    name: "an empty entry hides the less specific",
    files: { [AUTH]: config({ [HOST]: auth("a:a"), [`${HOST}/ns`]: {} }) },
    expect: basic(":"),
  },
  {
    name: "an empty entry leads to the next file",
    files: { [AUTH]: config({ [HOST]: {} }), [DOCKER]: config({ [HOST]: auth("d:d") }) },
    expect: basic("d:d"),
  },
  {
    name: "null for an entry",
    files: { [AUTH]: config({ [HOST]: null }), [DOCKER]: config({ [HOST]: auth("d:d") }) },
    expect: basic("d:d"),
  },
  {
    name: "docker.io",
    image: "docker.io/ns/app:1",
    files: { [AUTH]: config({ "docker.io": auth("u:p") }) },
    expect: basic("u:p"),
  },
  {
    name: "Docker Hub's v1 address",
    image: "ns/app:1",
    files: { [DOCKER]: config({ "https://index.docker.io/v1/": auth("u:p") }) },
    expect: basic("u:p"),
  },
  {
    name: "Docker Hub's v1 address without https",
    image: "ns/app:1",
    files: { [DOCKER]: config({ "index.docker.io/v1/": auth("u:p") }) },
    expect: basic(":"),
  },
  {
    name: "index.docker.io",
    image: "app:1",
    files: { [DOCKER]: config({ "index.docker.io": auth("u:p") }) },
    expect: basic("u:p"),
  },
  {
    name: "registry-1.docker.io",
    image: "app:1",
    files: { [DOCKER]: config({ "https://registry-1.docker.io/v2/": auth("u:p") }) },
    expect: basic("u:p"),
  },
  {
    name: "docker.io/library",
    image: "app:1",
    files: { [AUTH]: config({ "docker.io": auth("a:a"), "docker.io/library": auth("b:b") }) },
    expect: basic("b:b"),
  },
  { name: "no colon", files: { [AUTH]: config({ [HOST]: auth("userpassword") }) }, expect: basic(":") },
  { name: "a password with colons", files: { [AUTH]: config({ [HOST]: auth("u:p:q:") }) }, expect: basic("u:p:q:") },
  {
    name: "a password with NULs around it",
    files: { [AUTH]: config({ [HOST]: auth("u:\0p\0\0") }) },
    expect: basic("u:p"),
  },
  { name: "an empty user", files: { [AUTH]: config({ [HOST]: auth(":p") }) }, expect: basic(":p") },
  {
    name: "an empty user and password",
    files: { [AUTH]: config({ [HOST]: auth(":") }), [DOCKER]: config({ [HOST]: auth("d:d") }) },
    expect: basic("d:d"),
  },
  { name: "umlauts", files: { [AUTH]: config({ [HOST]: auth("jürg:pä") }) }, expect: basic("jürg:pä") },
  {
    name: "bytes that are no UTF-8",
    files: { [AUTH]: config({ [HOST]: { auth: "dTpw5A==" } }) },
    expect: "Basic dTpw5A==",
  },
  {
    name: "base64 over two lines",
    files: { [AUTH]: config({ [HOST]: { auth: "dTpw\r\ncHA=" } }) },
    expect: basic("u:ppp"),
  },
  {
    name: "base64 without padding",
    files: { [AUTH]: config({ [HOST]: { auth: "dTpwcA" } }) },
    expect: /the auth of registry\.test in .*auth\.json is not base64/,
  },
  { name: "base64url", files: { [AUTH]: config({ [HOST]: { auth: "dTpw-_8=" } }) }, expect: /is not base64/ },
  {
    name: "bad base64 of another host",
    files: { [AUTH]: config({ other: { auth: "?" }, [HOST]: auth("u:p") }) },
    expect: basic("u:p"),
  },
  {
    name: "members in another case",
    files: { [AUTH]: { AUTHS: { [HOST]: { Auth: auth("u:p").auth } } } },
    expect: basic("u:p"),
  },
  {
    name: "two auths",
    files: { [AUTH]: `{"auths":{"${HOST}":{"auth":"YTph"}},"auths":{"other":{}}}` },
    expect: basic("a:a"),
  },
  {
    name: "a key twice",
    files: { [AUTH]: `{"auths":{"${HOST}":{"auth":"YTph"},"${HOST}":{"auth":"Yjpi"}}}` },
    expect: basic("b:b"),
  },
  {
    name: "an escaped key",
    files: { [AUTH]: String.raw`{"auths":{"registry\u002etest":{"auth":"YTph"}}}` },
    expect: basic("a:a"),
  },
  {
    name: "members that nobody knows",
    files: { [AUTH]: config({ [HOST]: { ...auth("u:p"), email: "a@b" } }, { HttpHeaders: { a: "b" } }) },
    expect: basic("u:p"),
  },
  {
    name: "null after an auth",
    files: { [AUTH]: `{"auths":{"${HOST}":{"auth":"${auth("u:p").auth}","auth":null}}}` },
    expect: basic("u:p"),
  },
  {
    name: "null after auths",
    files: { [AUTH]: `{"auths":{"${HOST}":{"auth":"${auth("u:p").auth}"}},"auths":null}` },
    expect: basic(":"),
  },
  {
    name: "auths is null",
    files: { [AUTH]: { auths: null }, [DOCKER]: config({ [HOST]: auth("d:d") }) },
    expect: basic("d:d"),
  },
  {
    name: "auths is a list",
    files: { [AUTH]: { auths: [] } },
    expect: /auth\.json has a member auths that is not an object/,
  },
  {
    name: "an entry is a text",
    files: { [AUTH]: config({ other: "x" }) },
    expect: /auth\.json has an entry that is not an object/,
  },
  {
    name: "auth is a number",
    files: { [AUTH]: config({ other: { auth: 5 } }) },
    expect: /auth\.json has an auth that is not a string/,
  },
  { name: "an empty file", files: { [AUTH]: "" }, expect: /auth\.json is empty/ },
  { name: "half a file", files: { [AUTH]: '{"auths":' }, expect: /auth\.json is not JSON/ },
  { name: "a comment", files: { [AUTH]: "{} // none" }, expect: /is not JSON/ },
  { name: "a BOM", files: { [AUTH]: "\ufeff{}" }, expect: /is not JSON/ },
  {
    name: "a bad file behind a good one",
    files: { [AUTH]: config({ [HOST]: auth("u:p") }), [DOCKER]: "x" },
    expect: basic("u:p"),
  },
];

/** Where the files are. */
const FILES: readonly Row[] = [
  {
    name: "$REGISTRY_AUTH_FILE alone",
    env: { REGISTRY_AUTH_FILE: "HOME/own.json" },
    files: { "own.json": config({}), [AUTH]: config({ [HOST]: auth("u:p") }) },
    expect: basic(":"),
  },
  {
    name: "$REGISTRY_AUTH_FILE is not there",
    env: { REGISTRY_AUTH_FILE: "HOME/own.json" },
    expect: basic(":"),
  },
  {
    name: "$XDG_RUNTIME_DIR first",
    env: { XDG_RUNTIME_DIR: "HOME/run" },
    files: { "run/containers/auth.json": config({ [HOST]: auth("r:r") }), [AUTH]: config({ [HOST]: auth("u:p") }) },
    expect: basic("r:r"),
  },
  {
    name: "$XDG_RUNTIME_DIR is not there",
    env: { XDG_RUNTIME_DIR: "HOME/run" },
    files: { [AUTH]: config({ [HOST]: auth("u:p") }) },
    expect: basic("u:p"),
  },
  {
    name: "$XDG_CONFIG_HOME",
    env: { XDG_CONFIG_HOME: "HOME/x" },
    files: { "x/containers/auth.json": config({ [HOST]: auth("x:x") }), [AUTH]: config({ [HOST]: auth("u:p") }) },
    expect: basic("x:x"),
  },
  {
    name: "$DOCKER_CONFIG",
    env: { DOCKER_CONFIG: "HOME/d" },
    files: { "d/config.json": config({ [HOST]: auth("x:x") }), [DOCKER]: config({ [HOST]: auth("u:p") }) },
    expect: basic("x:x"),
  },
  {
    name: "auth.json before $DOCKER_CONFIG",
    env: { DOCKER_CONFIG: "HOME/d" },
    files: { "d/config.json": config({ [HOST]: auth("x:x") }), [AUTH]: config({ [HOST]: auth("u:p") }) },
    expect: basic("u:p"),
  },
  { name: ".dockercfg", files: { ".dockercfg": { [HOST]: auth("o:o") } }, expect: basic("o:o") },
  {
    name: ".dockercfg with a URL without https",
    files: { ".dockercfg": { [`${HOST}/v1/`]: auth("o:o") } },
    expect: basic("o:o"),
  },
  {
    name: ".dockercfg knows no namespaces",
    files: { ".dockercfg": { [`${HOST}/ns/app`]: auth("o:o"), [HOST]: auth("h:h") } },
    expect: basic("h:h"),
  },
  {
    name: "config.json before .dockercfg",
    files: { ".dockercfg": { [HOST]: auth("o:o") }, [DOCKER]: config({ [HOST]: auth("u:p") }) },
    expect: basic("u:p"),
  },
  { name: "a folder in a file's place", files: { [`${AUTH}/x`]: "" }, expect: /auth\.json is not a regular file/ },
];

/** Credential helpers. */
const HELPERS: readonly Row[] = [
  {
    name: "a helper",
    files: { [DOCKER]: { credHelpers: { [HOST]: "ok" } }, "bin/docker-credential-ok": ANSWERS("h", "s") },
    expect: basic("h:s"),
  },
  {
    name: "a helper before an entry",
    files: {
      [DOCKER]: config({ [HOST]: auth("u:p") }, { credHelpers: { [HOST]: "ok" } }),
      "bin/docker-credential-ok": ANSWERS("h", "s"),
    },
    expect: basic("h:s"),
  },
  {
    name: "a helper of a namespace is none",
    files: { [DOCKER]: { credHelpers: { [`${HOST}/ns`]: "ok" } }, "bin/docker-credential-ok": ANSWERS("h", "s") },
    expect: basic(":"),
  },
  {
    name: "a helper that has none",
    files: {
      [AUTH]: { credHelpers: { [HOST]: "no" } },
      [DOCKER]: config({ [HOST]: auth("d:d") }),
      "bin/docker-credential-no": HELPER("echo credentials not found in native keychain; exit 1"),
    },
    expect: basic("d:d"),
  },
  {
    name: "a helper that fails",
    files: {
      [DOCKER]: { credHelpers: { [HOST]: "bad" } },
      "bin/docker-credential-bad": HELPER("echo the vault is sealed; exit 1"),
    },
    expect: /docker-credential-bad, which .*config\.json names, failed: the vault is sealed;/,
  },
  {
    name: "a helper that fails without a word",
    files: { [DOCKER]: { credHelpers: { [HOST]: "bad" } }, "bin/docker-credential-bad": HELPER("exit 3") },
    expect: /failed: exit status 3;/,
  },
  {
    name: "a helper that is not there",
    files: { [DOCKER]: { credHelpers: { [HOST]: "none" } } },
    expect: /docker-credential-none, which .* names, is not on PATH/,
  },
  {
    name: "a helper without a name",
    files: { [DOCKER]: { credHelpers: { [HOST]: "" } } },
    expect: /is no name of a program/,
  },
  {
    name: "a helper that answers no JSON",
    files: { [DOCKER]: { credHelpers: { [HOST]: "bad" } }, "bin/docker-credential-bad": HELPER("echo hello") },
    expect: /gave an answer that is not JSON/,
  },
  ...[
    ["members in another case", String.raw`{"username":"h","SECRET":"s"}`],
    ["a member twice", String.raw`{"Username":"x","Username":"h","Secret":"s"}`],
    ["null for a member that it has already", String.raw`{"Username":"h","Secret":"s","Username":null,"Secret":null}`],
    ["a long s in a name", String.raw`{"u\u017fername":"h","\u017fecret":"s"}`],
    ["an escaped name", String.raw`{"User\u006eame":"h","Secret":"s"}`],
    ["members that nobody knows", String.raw`{"Username":"h","Secret":"s","more":[[[[[1]]]]]}`],
  ].map(([what, answer]) => ({
    name: `a helper whose answer has ${what}`,
    files: {
      [DOCKER]: { credHelpers: { [HOST]: "a+b" } },
      "bin/docker-credential-a+b": HELPER(`cat <<'E'\n${answer}\nE`),
    },
    expect: basic("h:s"),
  })),
  {
    name: "a helper that answers null",
    files: { [DOCKER]: { credHelpers: { [HOST]: "ok" } }, "bin/docker-credential-ok": HELPER("echo null") },
    expect: basic(":"),
  },
  {
    name: "a helper with a token",
    files: { [DOCKER]: { credHelpers: { [HOST]: "ok" } }, "bin/docker-credential-ok": ANSWERS("<token>", "refresh") },
    challenge: BEARER,
    expect: "Bearer T",
  },
  {
    name: "helpers of registries.conf",
    files: {
      ".config/containers/registries.conf": 'credential-helpers = ["no", "ok", "containers-auth.json"]',
      [AUTH]: config({ [HOST]: auth("u:p") }),
      "bin/docker-credential-ok": ANSWERS("h", "s"),
      "bin/docker-credential-no": HELPER("echo no; exit 1"),
    },
    expect: basic("h:s"),
  },
  {
    name: "helpers of registries.conf that fail",
    files: {
      ".config/containers/registries.conf": 'credential-helpers = ["no"]',
      [AUTH]: config({ [HOST]: auth("u:p") }),
      "bin/docker-credential-no": HELPER("echo no; exit 1"),
    },
    expect: /docker-credential-no, which registries\.conf names, failed: no/,
  },
];

const KNOWN = { [AUTH]: config({ [HOST]: auth("u:p") }) };
/** Challenges. */
const CHALLENGES: readonly Row[] = [
  { name: "none", files: KNOWN, challenge: [], expect: "-" },
  { name: "Bearer", files: KNOWN, challenge: BEARER, expect: "Bearer T" },
  { name: "Bearer without credentials", challenge: BEARER, expect: "Bearer T" },
  {
    name: "Bearer without a password",
    files: { [AUTH]: config({ [HOST]: auth("u:") }) },
    challenge: BEARER,
    expect: "Bearer T",
  },
  {
    name: "Bearer without a service",
    files: KNOWN,
    challenge: 'Bearer realm="https://auth.test/token"',
    expect: "Bearer T",
  },
  {
    name: "Bearer with a query in its realm",
    files: KNOWN,
    challenge: 'Bearer realm="https://auth.test/token?a=b c&service=x",service="s"',
    expect: "Bearer T",
  },
  {
    name: "Bearer without a realm",
    files: KNOWN,
    challenge: 'Bearer service="s"',
    expect: /names no address to get a token at/,
  },
  {
    name: "Bearer with a realm that is a path",
    files: KNOWN,
    challenge: 'Bearer realm="/token"',
    expect: /names no address to get a token at/,
  },
  { name: "an access_token", files: KNOWN, challenge: BEARER, token: '{"access_token":"A"}', expect: "Bearer A" },
  {
    name: "both names of a token",
    files: KNOWN,
    challenge: BEARER,
    token: '{"access_token":"A","token":"T"}',
    expect: "Bearer T",
  },
  ...[
    '{"Token":"T"}',
    '{"token":"A","token":"T"}',
    String.raw`{"t\u006fken":"T"}`,
    '{"token":null,"access_token":"T"}',
    '{"token":"T","token":null,"access_token":"A"}',
    '{"to\u212aen":"T"}',
  ].map((token) => ({
    name: `a token as Go reads it: ${token}`,
    files: KNOWN,
    challenge: BEARER,
    token,
    expect: "Bearer T",
  })),
  {
    name: "a token server that answers no JSON",
    files: KNOWN,
    challenge: BEARER,
    token: "<html>",
    expect: /the token of registry\.test is not JSON; see the token server's log/,
  },
  {
    name: "a token server that refuses",
    files: KNOWN,
    challenge: BEARER,
    tokenStatus: 401,
    expect: /registry\.test refused the credentials of .*auth\.json \(HTTP 401\); log in/,
  },
  {
    name: "a token server that refuses nobody's credentials",
    challenge: BEARER,
    tokenStatus: 401,
    expect: /no credentials for registry\.test in .*auth\.json, .*config\.json, .*\.dockercfg \(HTTP 401\); log in/,
  },
  {
    name: "a token server that fails",
    files: KNOWN,
    challenge: BEARER,
    tokenStatus: 500,
    expect: /the token server of registry\.test, auth\.test, answered HTTP 500/,
  },
  {
    name: "an identity token",
    files: {
      [AUTH]: config({ [HOST]: { ...auth("00000000-0000-0000-0000-000000000000:"), identitytoken: "refresh" } }),
    },
    challenge: BEARER,
    expect: "Bearer T",
  },
  {
    name: "an identity token and Basic",
    files: { [AUTH]: config({ [HOST]: { ...auth("z:"), identitytoken: "refresh" } }) },
    expect: basic("z:"),
  },
  {
    name: "an identity token without a user",
    files: { [AUTH]: config({ [HOST]: { identitytoken: "refresh" } }) },
    challenge: BEARER,
    expect: "Bearer T",
  },
  {
    name: "an identity token that is refused",
    files: { [AUTH]: config({ [HOST]: { ...auth("z:"), identitytoken: "refresh" } }) },
    challenge: BEARER,
    tokenStatus: 401,
    expect: /refused the credentials of .*auth\.json/,
  },
  { name: "Negotiate before Basic", files: KNOWN, challenge: ["Negotiate", BASIC], expect: basic("u:p") },
  { name: "Negotiate before Basic in one header", files: KNOWN, challenge: `Negotiate, ${BASIC}`, expect: "-" },
  {
    name: "Negotiate alone",
    files: KNOWN,
    challenge: "Negotiate",
    status: 401,
    expect: /asks for negotiate, which is not supported/,
  },
  { name: "Digest alone", files: KNOWN, challenge: 'Digest realm="r", nonce="n"', expect: "-" },
  { name: "Bearer before Basic", files: KNOWN, challenge: [BEARER, BASIC], expect: "Bearer T" },
  { name: "Basic before Bearer", files: KNOWN, challenge: [BASIC, BEARER], expect: basic("u:p") },
  { name: "Basic before Bearer in one header", files: KNOWN, challenge: `${BASIC}, ${BEARER}`, expect: basic("u:p") },
  { name: "Bearer before Basic in one header", files: KNOWN, challenge: `${BEARER}, ${BASIC}`, expect: "Bearer T" },
  { name: "a scheme in capitals", files: KNOWN, challenge: 'BASIC REALM="r"', expect: basic("u:p") },
  { name: "Basic without a realm", files: KNOWN, challenge: "Basic", expect: basic("u:p") },
  {
    name: "spaces around commas",
    files: KNOWN,
    challenge: 'Bearer   realm="https://auth.test/token" ,  service="s"',
    expect: "Bearer T",
  },
  {
    name: "spaces around =",
    files: KNOWN,
    challenge: 'Bearer realm = "https://auth.test/token"',
    expect: /names no address/,
  },
  {
    name: "no quotes",
    files: KNOWN,
    challenge: 'Bearer service=s,realm="https://auth.test/token"',
    expect: "Bearer T",
  },
  {
    name: "escapes in quotes",
    files: KNOWN,
    challenge: String.raw`Bearer service="a\"b\\c",realm="https://auth.test/to\ken"`,
    expect: "Bearer T",
  },
  {
    name: "an open quote",
    files: KNOWN,
    challenge: 'Bearer service="s,realm="https://auth.test/token"',
    expect: /names no address/,
  },
  {
    name: "an empty value ends it",
    files: KNOWN,
    challenge: 'Bearer service="",realm="https://auth.test/token"',
    expect: /names no address/,
  },
  {
    name: "credentials that are refused",
    files: KNOWN,
    status: 401,
    expect:
      /registry\.test refused the credentials of .*auth\.json \(HTTP 401\); log in with skopeo login registry\.test/,
  },
  { name: "no credentials, and refused", status: 401, expect: /no credentials for registry\.test in .*\(HTTP 401\)/ },
  {
    name: "credentials that do not suffice",
    files: KNOWN,
    status: 403,
    expect: /registry\.test does not allow this with the credentials of .*auth\.json \(HTTP 403\)/,
  },
];

for (const [what, table] of Object.entries({ KEYS, FILES, HELPERS, CHALLENGES })) {
  const name = `sends what skopeo sends: ${what.toLowerCase()} (${table.length} rows)`;
  testWith(skopeoHere, NEEDED, name, async (skopeo) => {
    await assertAsSkopeo(skopeo, table);
  });
}

test.run();
