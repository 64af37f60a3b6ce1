// Symmetric keys: their size, and how k is written.

import { test } from "uvu";
import { keys } from "../support/attacks.ts";
import { refuses } from "../support/key-files.ts";
import { b64u } from "../support/second-jwe.ts";

const { a128, a256 } = keys;

refuses([
  ["no bytes", a256, { k: "" }, /other than 128, 192 or 256 bits/],
  ["15 bytes", a128, { k: b64u(Buffer.alloc(15)) }, /other than 128, 192 or 256 bits/],
  ["64 bytes", a256, { k: b64u(Buffer.alloc(64)) }, /other than 128, 192 or 256 bits/],
  ["no k", a256, { k: undefined }, /no private part/],
  ["padding", a256, { k: `${a256["k"]}=` }, /no k in canonical base64url/],
  ["standard base64", a256, { k: `+/${a256["k"]?.slice(2)}` }, /no k in canonical base64url/],
  [
    "another spelling of its last bits",
    a256,
    { k: `${b64u(Buffer.alloc(32)).slice(0, -1)}B` },
    /no k in canonical base64url/,
  ],
  ["a list for k", a256, { k: [a256["k"]] }, /no k in canonical base64url/],
]);

test.run();
