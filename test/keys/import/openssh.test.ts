// OpenSSH's keys as ssh-keygen writes them.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { secretFile, temporaryFolder } from "../../support/folders.ts";
import { MAKE, DAMAGED, CHOOSE, of, outcome, line, ofPem, once, opensslSays } from "../../support/key-imports.ts";
import { testWith, tool, use } from "../../support/parts.ts";

const sshKeygen = tool("ssh-keygen");

/** A file of ssh-keygen's, and the file with its public line. */
function sshKey(...args: readonly string[]): { readonly file: string; readonly line: string } {
  const path = join(temporaryFolder(), "key");
  use(sshKeygen ?? "", ["-q", "-N", "", "-C", "me@example.org", ...args, "-f", path]);
  return { file: readFileSync(path, "utf8"), line: readFileSync(`${path}.pub`, "utf8") };
}

const sshSays = (publicLine: string): string =>
  ofPem(use(sshKeygen ?? "", ["-e", "-m", "PKCS8", "-f", secretFile(publicLine)]));
const sshRsa = once(() => sshKey("-t", "rsa", "-b", "2048"));
const ssh256 = once(() => sshKey("-t", "ecdsa", "-b", "256"));
const ssh384 = once(() => sshKey("-t", "ecdsa", "-b", "384"));
const ssh521 = once(() => sshKey("-t", "ecdsa", "-b", "521"));
const sshEd = once(() => sshKey("-t", "ed25519"));
const isSshRsa = (): string => `public ${sshSays(sshRsa().line)}`;

const OPENSSH: readonly (readonly [name: string, file: () => string, says: () => string])[] = [
  ["id_rsa", () => sshRsa().file, () => `private ${sshSays(sshRsa().line)}`],
  ["id_ecdsa, P-256", () => ssh256().file, () => `private ${sshSays(ssh256().line)}`],
  ["id_ecdsa, P-384", () => ssh384().file, () => `private ${sshSays(ssh384().line)}`],
  ["id_ecdsa, P-521", () => ssh521().file, () => `private ${sshSays(ssh521().line)}`],
  ["id_rsa.pub", () => sshRsa().line, isSshRsa],
  ["id_ecdsa.pub, P-256", () => ssh256().line, () => `public ${sshSays(ssh256().line)}`],
  ["id_ecdsa.pub, P-384", () => ssh384().line, () => `public ${sshSays(ssh384().line)}`],
  ["id_ecdsa.pub, P-521", () => ssh521().line, () => `public ${sshSays(ssh521().line)}`],
  ["a line without a comment", () => sshRsa().line.split(" ").slice(0, 2).join(" "), isSshRsa],
  [
    "a line of authorized_keys with options",
    () => `# me\n\nno-pty,command="echo a b",from="*.example.org" ${sshRsa().line}`,
    isSshRsa,
  ],
  ["a line of known_hosts", () => `example.org,192.0.2.1 ${ssh256().line}`, () => `public ${sshSays(ssh256().line)}`],
  ["lines of which one can be used, as GitHub gives them", () => sshEd().line + sshRsa().line, isSshRsa],
  ["a line that Windows wrote", () => `\ufeff${sshRsa().line.replace("\n", "\r\n")}`, isSshRsa],
  ["an RSA key as PEM", () => sshKey("-t", "rsa", "-b", "2048", "-m", "PEM").file, () => ""],
  ["an ECDSA key as PKCS#8", () => sshKey("-t", "ecdsa", "-m", "PKCS8").file, () => ""],
  [
    "two lines",
    () => ssh256().line + sshRsa().line,
    () =>
      line(
        `has 2 keys that can be used, by kid: ${sshSays(ssh256().line)} (me@example.org), ${sshSays(sshRsa().line)} (me@example.org)`,
        CHOOSE,
      ),
  ],
  ["id_ed25519", () => sshEd().file, () => line("is an Ed25519 key, which signs and cannot encrypt", MAKE)],
  ["id_ed25519.pub", () => sshEd().line, () => line("is an Ed25519 key, which signs and cannot encrypt", MAKE)],
  [
    "an encrypted id_ed25519, whose passphrase is not asked for",
    () => sshKey("-t", "ed25519", "-N", "secret").file,
    () => line("is an Ed25519 key, which signs and cannot encrypt", MAKE),
  ],
  [
    "a line of a DSA key",
    () => sshKey("-t", "dsa").line,
    () => line("is a DSA key, which signs and cannot encrypt", MAKE),
  ],
  [
    "a line of a FIDO token",
    () => skLine(),
    () => line("is a key of a FIDO token, which signs and cannot encrypt", MAKE),
  ],
  [
    "an OpenSSH certificate",
    () => sshCertificate(),
    () => line("is an OpenSSH certificate", "name the public key that it is for: the file without -cert"),
  ],
  [
    "a damaged line",
    () => sshRsa().line.replace("AAAAB3", "AAAAC3"),
    () => line("is an OpenSSH key that is damaged", DAMAGED),
  ],
  ["a line that was cut", () => sshRsa().line.slice(0, 120), () => line("is an OpenSSH key that is damaged", DAMAGED)],
  [
    "an RSA key of 1,024 bits",
    () => sshKey("-t", "rsa", "-b", "1024").line,
    () =>
      line(
        "is an RSA key of 1024 bits, not of 2048 to 8192",
        "ocicrypt-keystore keygen NAME --type rsa makes one that fits",
      ),
  ],
];

function skLine(): string {
  const name = "sk-ecdsa-sha2-nistp256@openssh.com";
  return `${name} ${Buffer.concat([Buffer.of(0, 0, 0, name.length), Buffer.from(name), Buffer.alloc(40)]).toString("base64")} token\n`;
}

function sshCertificate(): string {
  const folder = temporaryFolder();
  const [ca, user] = [join(folder, "ca"), join(folder, "user")];
  for (const path of [ca, user]) use(sshKeygen ?? "", ["-q", "-N", "", "-t", "ecdsa", "-f", path]);
  use(sshKeygen ?? "", ["-q", "-s", ca, "-I", "me", `${user}.pub`]);
  return readFileSync(`${user}-cert.pub`, "utf8");
}

for (const [name, file, says] of OPENSSH) {
  testWith(sshKeygen, "ssh-keygen", `takes or refuses what ssh-keygen writes: ${name}`, async () => {
    const content = file();
    const expected = says();
    assert.is((await outcome(of(content))).is, expected === "" ? `private ${opensslSays(content)}` : expected);
  });
}

const UNUSUAL = line(
  "is an OpenSSH key that is encrypted in an unusual way",
  "run ssh-keygen -p -Z aes256-ctr -a 24 -f COPY on a copy of the file, then import COPY",
);
const WRONG = line(
  "is encrypted, and this passphrase does not open it",
  "give the right one with --pem-passphrase-file FILE",
);

for (const [name, args, passphrase, refusal] of [
  ["RSA", ["-t", "rsa", "-b", "2048"], "secret"],
  ["ECDSA", ["-t", "ecdsa", "-b", "384", "-a", "1"], "secret"],
  ["ECDSA, and a passphrase that Windows wrote", ["-t", "ecdsa", "-a", "1"], "secret\r"],
  ["aes128-cbc", ["-t", "ecdsa", "-a", "1", "-Z", "aes128-cbc"], "secret"],
  ["aes192-ctr", ["-t", "ecdsa", "-a", "1", "-Z", "aes192-ctr"], "secret"],
  ["a wrong passphrase", ["-t", "ecdsa", "-a", "1"], "wrong", WRONG],
  ["aes256-gcm", ["-t", "ecdsa", "-a", "1", "-Z", "aes256-gcm@openssh.com"], "secret", UNUSUAL],
  ["chacha20-poly1305", ["-t", "ecdsa", "-a", "1", "-Z", "chacha20-poly1305@openssh.com"], "secret", UNUSUAL],
] as const) {
  testWith(sshKeygen, "ssh-keygen", `takes or refuses an encrypted key of ssh-keygen's: ${name}`, async () => {
    const key = sshKey(...args, "-N", "secret");
    const { is } = await outcome(of(key.file, { passphrase }));
    assert.is(is, refusal ?? `private ${sshSays(key.line)}`);
  });
}

testWith(sshKeygen, "ssh-keygen", "the command for unusual encryption makes a file that is taken", async () => {
  const path = join(temporaryFolder(), "copy");
  const unusual = ["-q", "-t", "ecdsa", "-Z", "chacha20-poly1305@openssh.com", "-N", "secret", "-f", path];
  use(sshKeygen ?? "", unusual);
  const [, command = ""] = /run (.*) on a copy/.exec(UNUSUAL) ?? [];
  use("/bin/sh", ["-c", `${command.replace("COPY", `'${path}'`)} -P secret -N secret`]);
  const says = `private ${sshSays(readFileSync(`${path}.pub`, "utf8"))}`;
  assert.is((await outcome(of(readFileSync(path), { passphrase: "secret" }))).is, says);
});

test.run();
