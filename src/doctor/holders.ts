// Checks of the keys that commands hold.

import { tryHolder } from "../keystore/add-holder.ts";
import { usableCommand } from "../keys/holder.ts";
import { isSymmetric } from "../jwk/jwk.ts";
import { count } from "../errors.ts";
import { attempt, skip, type Outcome, type Report } from "./check.ts";
import type { Context } from "./context.ts";

/**
 * Each command exists, only its owner can change it, and it opens what is wrapped for its key. The commands run one
 * after the other: a token may fail with two requests at a time.
 */
export async function storeHolders({ store }: Context, { warn, fail }: Report): Promise<Outcome> {
  const kids = store.heldKids();
  let [tried, untried] = [0, 0];
  for (const kid of kids) {
    const other = store.locate(kid);
    if (other !== undefined && other.form !== "holder") {
      const message = `the holder of key ${kid} is never asked: the key itself is ${other.path}`;
      warn(message, "move one of the two files away");
    }
    const held = await attempt(fail, () => store.held(kid));
    if (held === undefined) continue;
    const { holder, jwk } = held;
    // An operation that fails ends the attempt: the token may count wrong PINs.
    await attempt(fail, async () => {
      for (const op of holder.ops.keys()) {
        await (isSymmetric(jwk) ? usableCommand(holder, op) : tryHolder(holder, op, jwk));
      }
    });
    if (isSymmetric(jwk)) untried += holder.ops.size;
    else tried += holder.ops.size;
  }
  if (kids.length === 0) return skip("no key is held by a command");
  const keys = count(kids.length, "key is held by a command", "keys are held by commands");
  const message = `${keys}, ${tried} operations of which were tried`;
  return untried === 0 ? message : `${message}; ${untried} of a256kw were not, since that needs the key itself`;
}
