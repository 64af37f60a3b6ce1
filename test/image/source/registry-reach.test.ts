// How a registry is reached: proxies, certificates, --tls-verify and registries.conf, as skopeo does it.

import { readFileSync } from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { proxyFor } from "../../../src/image/source/registry-proxy.ts";
import { assertAsSkopeo, authority, HOST, NEEDED, skopeoHere, type Row } from "../../support/as-skopeo.ts";
import { testWith } from "../../support/parts.ts";

const CONF = ".config/containers/registries.conf";
const DROP_IN = `${CONF}.d/50-own.conf`;
const CERTS = ".config/containers/certs.d";
const NOBODY = { SSL_CERT_FILE: "/nonexistent" };
const ANONYMOUS = "Basic Og==";
const UNTRUSTED =
  /cannot reach \S+(?: through the proxy \S+)?: \w*(?:CERT|SIGNATURE)\w*; check its certificate: put its authority into \/etc\/containers\/certs\.d\//;
const toml = (...lines: readonly string[]): string => lines.join("\n");
const registry = (prefix: string, location: string, ...more: readonly string[]): string =>
  toml("[[registry]]", `prefix = "${prefix}"`, `location = "${location}"`, ...more);
const mirror = (location: string, ...more: readonly string[]): string =>
  toml("[[registry.mirror]]", `location = "${location}"`, ...more);

function proxies(): Row[] {
  return [
    { name: "HTTPS_PROXY", expect: ANONYMOUS },
    { name: "https_proxy", env: { HTTPS_PROXY: "", https_proxy: "PROXY" }, expect: ANONYMOUS },
    { name: "HTTPS_PROXY before https_proxy", env: { https_proxy: "http://127.0.0.1:1" }, expect: ANONYMOUS },
    {
      name: "a proxy that is down",
      env: { HTTPS_PROXY: "http://127.0.0.1:1" },
      expect: /cannot reach registry\.test through the proxy 127\.0\.0\.1:1: ECONNREFUSED; check the proxy/,
    },
    {
      name: "HTTPS_PROXY is not for HTTP",
      env: { HTTPS_PROXY: "", HTTP_PROXY: "PROXY" },
      tlsVerify: false,
      image: "0.0.0.0:1/app:1",
      expect: ANONYMOUS,
    },
    { name: "localhost is not proxied", image: "TLS/app:1", expect: ANONYMOUS },
    {
      name: "an address that NO_PROXY has",
      image: "0.0.0.0:1/app:1",
      env: { NO_PROXY: "10.0.0.0/8, 0.0.0.0" },
      expect: /cannot reach 0\.0\.0\.0:1: ECONNREFUSED/,
    },
    {
      name: "an address of a network that no_proxy has",
      image: "0.0.0.0:1/app:1",
      env: { no_proxy: "0.0.0.0/8" },
      expect: /cannot reach 0\.0\.0\.0:1: ECONNREFUSED/,
    },
    { name: "NO_PROXY has another port", env: { NO_PROXY: `${HOST}:5000` }, expect: ANONYMOUS },
    {
      name: "a proxy with a password",
      env: { HTTPS_PROXY: "http://us%40er:p%3Aw@PROXY_HOST" },
      expect: ANONYMOUS,
    },
    {
      name: "a proxy without a scheme",
      env: { HTTPS_PROXY: "127.0.0.1:1" },
      expect: /through the proxy 127\.0\.0\.1:1: ECONNREFUSED/,
    },
    {
      name: "a SOCKS proxy",
      env: { HTTPS_PROXY: "socks5://127.0.0.1:1" },
      expect: /HTTPS_PROXY has a proxy of the kind socks5:, which is not supported; give HTTPS_PROXY as http/,
    },
  ];
}

function certificates(): Row[] {
  const ca = readFileSync(authority().ca, "utf8");
  const { cert, key } = authority().issue("client");
  const client = { "client.cert": readFileSync(cert, "utf8"), "client.key": readFileSync(key, "utf8") };
  const below = (folder: string, files: Readonly<Record<string, string>>): Record<string, string> =>
    Object.fromEntries(Object.entries(files).map(([name, text]) => [`${folder}/${name}`, text]));
  return [
    { name: "SSL_CERT_FILE", expect: ANONYMOUS },
    { name: "no authority", env: NOBODY, expect: UNTRUSTED },
    { name: "an empty list of authorities", env: { SSL_CERT_FILE: "/dev/null" }, expect: UNTRUSTED },
    {
      name: "SSL_CERT_DIR",
      env: { ...NOBODY, SSL_CERT_DIR: "/nonexistent:HOME/certs" },
      files: { "certs/x.pem": ca },
      expect: ANONYMOUS,
    },
    {
      name: "an authority after a damaged one",
      env: { ...NOBODY, SSL_CERT_DIR: "HOME/certs" },
      files: { "certs/x.pem": `-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n${ca}` },
      expect: ANONYMOUS,
    },
    {
      name: "Node's variables",
      env: { ...NOBODY, NODE_EXTRA_CA_CERTS: "CA", NODE_TLS_REJECT_UNAUTHORIZED: "0", NODE_USE_SYSTEM_CA: "1" },
      expect: UNTRUSTED,
    },
    { name: "certs.d of the user", env: NOBODY, files: { [`${CERTS}/${HOST}/ca.crt`]: ca }, expect: ANONYMOUS },
    { name: "certs.d of another host", env: NOBODY, files: { [`${CERTS}/other.test/ca.crt`]: ca }, expect: UNTRUSTED },
    {
      name: "certs.d of a port",
      image: "TLS/app:1",
      env: NOBODY,
      files: { [`${CERTS}/TLS/ca.crt`]: ca },
      expect: ANONYMOUS,
    },
    {
      name: "certs.d without the port",
      image: "TLS/app:1",
      env: NOBODY,
      files: { [`${CERTS}/127.0.0.1/ca.crt`]: ca },
      expect: UNTRUSTED,
    },
    {
      name: "certs.d of Docker Hub",
      image: "app:1",
      env: NOBODY,
      files: { [`${CERTS}/docker.io/ca.crt`]: ca },
      expect: ANONYMOUS,
    },
    {
      name: "an authority with another ending",
      env: NOBODY,
      files: { [`${CERTS}/${HOST}/ca.pem`]: ca },
      expect: UNTRUSTED,
    },
    {
      name: "an authority that is a link to nothing",
      files: { [`${CERTS}/${HOST}/other.crt`]: "" },
      links: { [`${CERTS}/${HOST}/redhat-ca.crt`]: "/etc/rhsm/ca/redhat-uep.pem" },
      expect: ANONYMOUS,
    },
    {
      name: "an authority that is a folder",
      files: { [`${CERTS}/${HOST}/ca.crt/x`]: "" },
      expect: /cannot read .*ca\.crt;/,
    },
    { name: "the system's besides those of certs.d", files: { [`${CERTS}/${HOST}/ca.crt`]: "" }, expect: ANONYMOUS },
    { name: "a client's certificate", mutual: true, files: below(`${CERTS}/${HOST}`, client), expect: ANONYMOUS },
    { name: "no client's certificate", mutual: true, expect: /cannot reach registry\.test/ },
    {
      name: "a certificate without its key",
      files: { [`${CERTS}/${HOST}/client.cert`]: client["client.cert"] },
      expect: /client\.cert is there without client\.key; /,
    },
    {
      name: "a key without its certificate",
      files: { [`${CERTS}/${HOST}/client.key`]: client["client.key"] },
      expect: /client\.key is there without client\.cert; /,
    },
    {
      name: "a certificate with another's key",
      files: { [`${CERTS}/${HOST}/client.cert`]: ca, [`${CERTS}/${HOST}/client.key`]: client["client.key"] },
      expect: /client\.cert and client\.key are no certificate and its key/,
    },
    {
      name: "--cert-dir",
      certDir: "mine",
      env: NOBODY,
      mutual: true,
      files: below("certs/../mine", { ...client, "ca.crt": ca }),
      expect: ANONYMOUS,
    },
    {
      name: "--cert-dir instead of certs.d",
      certDir: "mine",
      env: NOBODY,
      files: { "mine/x": "", [`${CERTS}/${HOST}/ca.crt`]: ca },
      expect: UNTRUSTED,
    },
    {
      name: "--cert-dir that is not there",
      certDir: "mine",
      departure: "a mistyped folder is worth a word",
      expect: /there is no folder .*mine; fix --cert-dir/,
    },
    {
      name: "a host that the certificate does not name",
      image: "wrong.test/app:1",
      expect: /cannot reach wrong\.test through the proxy \S+: ERR_TLS_CERT_ALTNAME_INVALID; check its certificate/,
    },
  ];
}

const VERIFY: readonly Row[] = [
  { name: "--tls-verify=false takes any certificate", env: NOBODY, tlsVerify: false, expect: ANONYMOUS },
  { name: "--tls-verify=false takes another host's", image: "wrong.test/app:1", tlsVerify: false, expect: ANONYMOUS },
  { name: "--tls-verify=false takes none", image: "PLAIN/app:1", tlsVerify: false, expect: ANONYMOUS },
  {
    name: "--tls-verify=true takes no registry without TLS",
    image: "PLAIN/app:1",
    tlsVerify: true,
    expect: /cannot reach \S+: EPROTO; it may have no TLS: if so, add --tls-verify=false/,
  },
  {
    name: "insecure takes any certificate",
    env: NOBODY,
    files: { [CONF]: registry(HOST, HOST, "insecure = true") },
    expect: ANONYMOUS,
  },
  {
    name: "insecure takes none",
    image: "PLAIN/app:1",
    files: { [CONF]: registry("PLAIN", "PLAIN", "insecure = true") },
    expect: ANONYMOUS,
  },
  {
    name: "insecure of another registry",
    env: NOBODY,
    files: { [CONF]: registry("other.test", "other.test", "insecure = true") },
    expect: UNTRUSTED,
  },
  {
    name: "insecure of another namespace",
    env: NOBODY,
    files: { [CONF]: registry(`${HOST}/x`, `${HOST}/x`, "insecure = true") },
    expect: UNTRUSTED,
  },
  {
    name: "insecure of the namespace",
    env: NOBODY,
    files: { [CONF]: registry(`${HOST}/ns`, `${HOST}/ns`, "insecure = true") },
    expect: ANONYMOUS,
  },
  {
    name: "--tls-verify=true before insecure",
    env: NOBODY,
    tlsVerify: true,
    files: { [CONF]: registry(HOST, HOST, "insecure = true") },
    expect: UNTRUSTED,
  },
  {
    name: "insecure in the first version",
    env: NOBODY,
    files: { [CONF]: toml("[registries.insecure]", `registries = ["${HOST}"]`) },
    expect: ANONYMOUS,
  },
  {
    name: "credentials without TLS",
    image: "PLAIN/app:1",
    tlsVerify: false,
    files: { ".docker/config.json": { auths: { PLAIN: { auth: "YTpi" } } } },
    expect: "Basic YTpi",
  },
  {
    name: "a ping that is not found",
    challenge: [],
    ping: 404,
    departure: "a server that has only images can be read",
    expect: "-",
  },
  { name: "a ping that fails", challenge: [], ping: 500, expect: /registry\.test answered HTTP 500/ },
];

const MIRRORED = registry(HOST, HOST, mirror("mirror.test/m"));
const BY_DIGEST = `${HOST}/ns/app@sha256:${"a".repeat(64)}`;
const REWRITTEN: readonly Row[] = [
  { name: "another location", files: { [CONF]: registry(HOST, "other.test/deep") }, expect: ANONYMOUS },
  {
    name: "another location of a namespace",
    files: { [CONF]: registry(`${HOST}/ns`, "other.test") },
    expect: ANONYMOUS,
  },
  {
    name: "another location of a namespace alike",
    files: { [CONF]: registry(`${HOST}/n`, "other.test") },
    expect: ANONYMOUS,
  },
  {
    name: "the longest prefix",
    files: { [CONF]: toml(registry(HOST, "mirror.test"), registry(`${HOST}/ns`, "other.test/x")) },
    expect: ANONYMOUS,
  },
  {
    name: "a prefix with a wildcard",
    files: { [CONF]: toml("[[registry]]", 'prefix = "*.test"', "insecure = true") },
    env: NOBODY,
    expect: ANONYMOUS,
  },
  { name: "a wildcard with a location", files: { [CONF]: registry("*.test", "other.test/x") }, expect: ANONYMOUS },
  {
    name: "a location without a prefix",
    files: { [CONF]: toml("[[registry]]", `location = "${HOST}/"`, "insecure = true") },
    env: NOBODY,
    expect: ANONYMOUS,
  },
  {
    name: "a mirror",
    files: {
      [CONF]: MIRRORED,
      ".docker/config.json": { auths: { "mirror.test/m": { auth: "bTpt" }, [HOST]: { auth: "YTpi" } } },
    },
    expect: "Basic bTpt",
  },
  {
    name: "a mirror that does not have it",
    files: { [CONF]: MIRRORED },
    status: { "mirror.test": 404 },
    expect: ANONYMOUS,
  },
  { name: "a mirror that is down", files: { [CONF]: registry(HOST, HOST, mirror("127.0.0.1:1")) }, expect: ANONYMOUS },
  {
    name: "neither a mirror nor the registry",
    files: { [CONF]: MIRRORED },
    status: 404,
    expect:
      /no image 1 at https:\/\/registry\.test\/v2\/ns\/app \(mirrors failed too: no image 1 at https:\/\/mirror\.test\/v2\/m\/ns\/app\)/,
  },
  {
    name: "a mirror for digests only, and a tag",
    files: { [CONF]: registry(HOST, HOST, "mirror-by-digest-only = true", mirror("mirror.test")) },
    expect: ANONYMOUS,
  },
  {
    name: "a mirror for digests only, and a digest",
    image: BY_DIGEST,
    files: { [CONF]: registry(HOST, HOST, "mirror-by-digest-only = true", mirror("mirror.test")) },
    expect: ANONYMOUS,
  },
  {
    name: "pull-from-mirror: digest-only, and a tag",
    files: { [CONF]: registry(HOST, HOST, mirror("mirror.test", 'pull-from-mirror = "digest-only"')) },
    expect: ANONYMOUS,
  },
  {
    name: "pull-from-mirror: tag-only, and a tag",
    files: { [CONF]: registry(HOST, HOST, mirror("mirror.test", 'pull-from-mirror = "tag-only"')) },
    expect: ANONYMOUS,
  },
  {
    name: "pull-from-mirror: tag-only, and a digest",
    image: BY_DIGEST,
    files: { [CONF]: registry(HOST, HOST, mirror("mirror.test", 'pull-from-mirror = "tag-only"')) },
    expect: ANONYMOUS,
  },
  {
    name: "pull-from-mirror: all",
    files: { [CONF]: registry(HOST, HOST, mirror("mirror.test", 'pull-from-mirror = "all"')) },
    expect: ANONYMOUS,
  },
  {
    name: "an insecure mirror",
    env: NOBODY,
    files: { [CONF]: registry(HOST, HOST, mirror("mirror.test", "insecure = true")) },
    expect: ANONYMOUS,
  },
  {
    name: "a mirror of Docker Hub",
    image: "app:1",
    files: { [CONF]: registry("docker.io", "docker.io", mirror("mirror.test/hub")) },
    expect: ANONYMOUS,
  },
  {
    name: "two mirrors",
    files: { [CONF]: registry(HOST, HOST, mirror("other.test/o"), mirror("mirror.test/m")) },
    status: { "other.test": 404 },
    expect: ANONYMOUS,
  },
  {
    name: "blocked",
    files: { [CONF]: registry(HOST, HOST, "blocked = true") },
    expect: /registry\.test is blocked in .*registries\.conf; ask whoever blocked it/,
  },
  {
    name: "a blocked namespace",
    files: { [CONF]: registry(`${HOST}/ns`, `${HOST}/ns`, "blocked = true") },
    expect: /registry\.test\/ns is blocked/,
  },
  {
    name: "another blocked namespace",
    files: { [CONF]: registry(`${HOST}/x`, `${HOST}/x`, "blocked = true") },
    expect: ANONYMOUS,
  },
  {
    name: "blocked in the first version",
    files: { [CONF]: toml("[registries.block]", `registries = ["${HOST}"]`) },
    expect: /registry\.test is blocked/,
  },
  {
    name: "a drop-in",
    files: { [DROP_IN]: registry(HOST, HOST, "blocked = true") },
    expect: /is blocked in .*50-own\.conf/,
  },
  {
    name: "a drop-in replaces the same prefix",
    files: { [CONF]: registry(HOST, HOST, "blocked = true"), [DROP_IN]: registry(HOST, "other.test") },
    expect: ANONYMOUS,
  },
  {
    name: "a drop-in with another ending",
    files: { [`${CONF}.d/own.toml`]: registry(HOST, HOST, "blocked = true") },
    expect: ANONYMOUS,
  },
  {
    name: "a drop-in in the first version",
    files: { [DROP_IN]: toml("[registries.block]", 'registries = ["x.test"]') },
    expect: /50-own\.conf has the first version of registries\.conf/,
  },
  {
    name: "both versions",
    files: { [CONF]: toml(registry(HOST, HOST), "[registries.block]", 'registries = ["x.test"]') },
    expect: /has both versions of registries\.conf/,
  },
  { name: "no TOML", files: { [CONF]: "[[registry" }, expect: /registries\.conf is not TOML: / },
  {
    name: "a location with https://",
    files: { [CONF]: registry(HOST, `https://${HOST}`) },
    expect: /has https:\/\/registry\.test: a registry has no http:\/\/ or https:\/\/ there/,
  },
  {
    name: "a [[registry]] without a location",
    files: { [CONF]: "[[registry]]\ninsecure = true" },
    expect: /has a \[\[registry\]\] without location/,
  },
  {
    name: "a prefix without a location",
    files: { [CONF]: '[[registry]]\nprefix = "a.test"' },
    expect: /has a \[\[registry\]\] without location/,
  },
  {
    name: "a mirror without a location",
    files: { [CONF]: registry(HOST, HOST, "[[registry.mirror]]", "insecure = true") },
    expect: /has a mirror of registry\.test without location/,
  },
  {
    name: "pull-from-mirror: another word",
    files: { [CONF]: registry(HOST, HOST, mirror("m.test", 'pull-from-mirror = "never"')) },
    expect: /pull-from-mirror = never/,
  },
  {
    name: "pull-from-mirror outside of a mirror",
    files: { [CONF]: registry(HOST, HOST, 'pull-from-mirror = "all"') },
    expect: /has pull-from-mirror outside of a mirror/,
  },
  {
    name: "insecure is a text",
    files: { [CONF]: registry(HOST, HOST, 'insecure = "true"') },
    expect: /has insecure, which is not true or false/,
  },
  {
    name: "members in another case",
    files: { [CONF]: toml("[[Registry]]", `Location = "${HOST}"`, "Blocked = true") },
    expect: /registry\.test is blocked/,
  },
  {
    name: "two of one location that contradict each other",
    files: { [CONF]: toml(registry("a.test", "x.test"), registry("b.test", "x.test", "insecure = true")) },
    expect: /contradicts itself: x\.test/,
  },
  {
    name: "a location that makes no name",
    files: { [CONF]: registry(HOST, "other.test/UPPER") },
    expect: /has other\.test\/UPPER for registry\.test: other\.test\/UPPER\/ns\/app:1 is no image reference/,
  },
  {
    name: "unqualified names are Docker Hub's",
    image: "ns/app",
    files: { [CONF]: 'unqualified-search-registries = ["other.test"]' },
    expect: ANONYMOUS,
  },
  {
    name: "a search registry that is none",
    files: { [CONF]: 'unqualified-search-registries = ["a b"]' },
    expect: /has a b in unqualified-search-registries/,
  },
];

const HEX = "0123456789abcdef".repeat(4);
const REFERENCES: readonly Row[] = [
  ...[
    "app",
    "ns/app",
    "docker.io/app",
    "index.docker.io/app:2",
    "index.docker.io/ns/app",
    `${HOST}/a`,
    `${HOST}:443/a/b/c:t`,
  ].map((image) => ({ image, expect: ANONYMOUS })),
  ...[
    `${HOST}/a@sha256:${HEX}`,
    `${HOST}/a@sha512:${HEX}${HEX}`,
    `${HOST}/a__b-c.d---e:T_1.x-`,
    `${HOST}/a:${"t".repeat(128)}`,
    "REGISTRY.test/a",
  ].map((image) => ({ image, expect: ANONYMOUS })),
  ...["App", `${HOST}/App`, `${HOST}/a/B:1`].map((image) => ({
    image,
    expect: /a repository has lower case letters only/,
  })),
  ...[HEX].map((image) => ({ image, expect: /it is an image's ID/ })),
  ...[`${HOST}/a:t@sha256:${HEX}`].map((image) => ({ image, expect: /it has both a tag and a digest/ })),
  ...[
    `${HOST}/a@sha256:abc`,
    `${HOST}/a@sha256:${HEX.toUpperCase()}`,
    `${HOST}/a@md5:${HEX}`,
    `${HOST}/a@${HEX}`,
    `${HOST}/a@`,
  ].map((image) => ({ image, expect: /its digest is not valid/ })),
  ...[`${HOST}/a:`, `${HOST}/a:-t`, `${HOST}/a:a:b`, `${HOST}/a:${"t".repeat(129)}`, `${HOST}/a:t t`].map((image) => ({
    image,
    expect: /its tag is not valid/,
  })),
  ...[
    `${HOST}/`,
    `${HOST}/a..b`,
    `${HOST}/a//b`,
    `${HOST}/-a`,
    `${HOST}/a_`,
    `${HOST}/a___b`,
    `${HOST}/a/../b`,
    "_a",
    `${HOST}/a b`,
    `${HOST}/é`,
  ].map((image) => ({ image, expect: /its repository is not valid/ })),
  ...["-a.test/b", "a_b.test/c", "u:p@a.test/b", "a.test:x/b", ".a/b", "a..b/c"].map((image) => ({
    image,
    expect: /its host is not valid/,
  })),
  ...[`${HOST}/${"a".repeat(241)}`].map((image) => ({ image, expect: ANONYMOUS })),
  ...[`${HOST}/${"a".repeat(242)}`].map((image) => ({ image, expect: /it is longer than 255 characters/ })),
].map((row) => ({ name: row.image.slice(0, 64), ...row }));

for (const [what, table] of Object.entries({
  proxies,
  certificates,
  "--tls-verify and insecure": () => VERIFY,
  "registries.conf": () => REWRITTEN,
  references: () => REFERENCES,
})) {
  testWith(skopeoHere, NEEDED, `reaches what skopeo reaches: ${what}`, async (skopeo) => {
    await assertAsSkopeo(skopeo, table());
  });
}

test("reads NO_PROXY as Go does", () => {
  const former = process.env;
  const failures = (
    [
      ["a.test", "a.test", true],
      ["a.test", "b.a.test", true],
      ["a.test", "ba.test", false],
      [".a.test", "a.test", false],
      [".a.test", "b.a.test", true],
      ["*.a.test", "a.test", false],
      ["*.a.test", "b.a.test", true],
      ["*", "a.test", true],
      ["x,*", "a.test", true],
      ["*.test", "a.test", true],
      [" A.Test , x", "a.test", true],
      ["a.test:443", "a.test", true],
      ["a.test:80", "a.test", false],
      ["a.test:5000", "a.test:5000", true],
      ["a.test", "a.test:5000", true],
      ["10.0.0.0/8", "10.1.2.3", true],
      ["10.0.0.0/8", "11.1.2.3", false],
      ["10.1.2.3", "10.1.2.3", true],
      ["10.1.2.3:443", "10.1.2.3:443", true],
      ["10.1.2.3:80", "10.1.2.3", false],
      ["10.1.2.3", "10.1.2.30", false],
      ["fd00::/8", "[fd00::1]", true],
      ["fd00::1", "[fd00::1]", true],
      ["[fd00::1]:443", "[fd00::1]", true],
      ["[fd00::1]:80", "[fd00::1]", false],
      ["[fd00::1]", "[fd00::2]", false],
      ["10.0.0.0/99", "10.1.2.3", false],
      [":443", "a.test", false],
      ["", "a.test", false],
      ["", "localhost", true],
      ["", "127.9.9.9", true],
      ["", "[::1]:5000", true],
      ["", "localhost.test", false],
      ["", "a.localhost", false],
      ["bücher.test", "xn--bcher-kva.test", true],
    ] as const
  ).flatMap(([list, host, direct]) => {
    process.env = { HTTPS_PROXY: "proxy.test:3128", NO_PROXY: list };
    const found = proxyFor(new URL(`https://${host}/v2/`))?.host;
    return found === (direct ? undefined : "proxy.test:3128") ? [] : [`${list} for ${host}: ${found ?? "none"}`];
  });
  process.env = former;
  assert.equal(failures, []);
});

test.run();
