// Command lines that are wrong: exit code 2 and one clear line each, whatever the parser makes of them.

import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { tree, temporaryFolder } from "../support/folders.ts";
import { assertFailure, run, runHere, throughBinary } from "../support/program.ts";
import { commands, makeStore } from "../support/stores.ts";

runHere();

const store = makeStore("alice");
const before = tree(store);

/** Each a way to spell what no option is. */
const WRONG: readonly (readonly [line: string, said: RegExp])[] = [
  ["--keystore.a b", /no command given/],
  ["list --keystore.a b", /unknown argument: keystore\.a/],
  ["list --json.x", /unknown argument: json\.x/],
  ["list --json.toString", /unknown argument: json\.toString/],
  ["list --json.__proto__.x 1", /unknown argument: json\.__proto__\.x/],
  ["keygen bob --type.x ec", /unknown argument: type\.x/],
  ["rewrap oci:x --to.x y", /unknown argument: to\.x/],
  ["rewrap oci:x --to a --to.c d", /unknown argument: to\.c/],
  ["remove alice --purge.x --force", /unknown argument: purge\.x/],
  ["list --no-keystore", /unknown arguments: no-keystore/],
  ["list --no-json", /unknown arguments: no-json/],
  ["inspect oci:x --no-verify", /unknown arguments: no-verify/],
  ["rewrap oci:x --no-to", /unknown arguments: no-to/],
  ["lock --no-tang", /unknown arguments: no-tang/],
  ["list --no-version", /unknown arguments: no-version/],
  ["show alice --keystore=", /--keystore has an empty value; /],
  ["keygen bob --passphrase-file ''", /--passphrase-file has an empty value; /],
  ["export alice -o ''", /-o has an empty value; /],
  ["rewrap oci:x --to ''", /--to has an empty value; /],
  ["keygen bob --type rsa --bits=", /--bits has an empty value; /],
  ["list --keystore -- x", /--keystore has no value; /],
  ["export alice --output -- x", /--output has no value; /],
  ["keygen bob --type", /not enough arguments following: type/],
  ["export alice --format", /not enough arguments following: format/],
  ["rewrap oci:x --to --add b", /not enough arguments following: to/],
  ["list --json=maybe", /--json is neither true nor false; /],
  ["inspect oci:x --require-encrypted=yes", /--require-encrypted is neither true nor false; /],
  ["inspect oci:x --tls-verify=no", /--tls-verify is neither true nor false; /],
  ["remove alice --force=1", /--force is neither true nor false; /],
  ["list --__proto__ x", /unknown argument: /],
  ["list --__proto__.a x", /unknown argument: /],
  ["list --constructor x", /unknown argument: constructor/],
  ["list --hasOwnProperty x", /unknown argument: hasOwnProperty/],
  ["list --toString", /unknown argument: toString/],
  ["list -k", /unknown argument: k/],
  ["list -abc", /unknown arguments: a, b, c/],
  ["list --keyStore x", /unknown argument: keyStore/],
  ["list --keystore[0] x", /unknown argument: keystore\[0\]/],
  ["list --js", /unknown argument: js/],
  ["list --_ x", /unknown argument: x/],
  ["list -- --json", /unknown argument: --json/],
  ["list --=x", /unknown argument: =x/],
  ["list ---x", /unknown arguments: /],
  ["list ''", /unknown argument: ""/],
  ["'' list", /too many non-option arguments/],
  ["-", /unknown argument: -/],
  ["---", /unknown argument: ---/],
  ["show alice --passphraseFile x --passphrase-file y", /--passphraseFile is given twice/],
  ["show alice --master-key-file x --master-key-file y", /--master-key-file is given twice/],
  ["keygen bob --type ec --type rsa", /--type is given twice/],
  ["serve --listen unix:/x --allow wrap --allow unwrap", /--allow is given twice/],
  ["--keystore a --keystore b", /no command given/],
  ["--keystore= --provider x", /no command given/],
];

for (const [line, said] of WRONG) {
  test(`is wrong usage: ${line}`, () => {
    const args = line.split(" ").map((word) => (word === "''" ? "" : word));
    const env = { OCICRYPT_KEYSTORE: store };
    const result = line === "list -k" ? throughBinary(() => run(args, { env })) : run(args, { env });
    assert.match(assertFailure(result, 2), said);
    assert.equal(tree(store), before, "nothing was made or removed");
  });
}

test("a shell that asks for completions is never answered with an error", () => {
  for (const words of [["--constructor"], ["keygen", "--toString"], ["--__proto__"], ["show", "--hasOwnProperty"]]) {
    assert.equal(run(["--get-yargs-completions", ...words]), { code: 0, stdout: "", stderr: "" });
  }
});

test("takes what is right: true and false, and after -- whatever starts with a dash", () => {
  const cli = commands(store);
  for (const args of [
    ["list", "--json=true"],
    ["list", "--json", "true"],
    ["list", "--json", "--json"],
  ])
    assert.match(cli(...args), /^\[/);
  assert.match(cli("list", "--json=false"), /^NAME/);
  assert.match(run(["show", "--json", "--keystore", store, "--", "alice"]).stdout, '"name": "alice"');
  assert.match(cli("export", "alice", "-o", "-"), '"kty":"EC"');
});

test("refuses an address with characters that would break its line, and prints them safely", () => {
  const path = join(temporaryFolder(), "a\nb");
  for (const address of [`unix:${path}`, "a\nb:50051", "unix:/tmp/\u202ecba", "local\u0007host:50051"]) {
    for (const args of [
      ["serve", "--keystore", store, "--listen", address],
      ["config", "--grpc", address],
    ]) {
      assert.match(assertFailure(run(args), 2), /cannot (listen on|call) \S*\\u[0-9a-f]{4}/);
    }
  }
});

test.run();
