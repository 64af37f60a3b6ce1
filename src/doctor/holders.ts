// The keys that commands hold: each command is there, nobody else's, and opens what is wrapped for its key.

import { listFolder } from "../fs/files.ts";
import { tryHolder } from "../keystore/add-holder.ts";
import { locatePrivate, readHeld } from "../keystore/store.ts";
import { usableCommand } from "../keys/holder.ts";
import { isSymmetric } from "../jwk/jwk.ts";
import { isKid, layout } from "../keystore/paths.ts";
import { attempt, check, type Check } from "./check.ts";

/** Asks every holder of `dir`, one after the other: a token may not stand two at a time. */
export async function holderChecks(dir: string): Promise<Check[]> {
  return await check("store.holders", async (warn, fail) => {
    const kids = heldKids(dir);
    let [tried, untried] = [0, 0];
    for (const kid of kids) {
      const other = locatePrivate(dir, kid);
      if (other !== undefined && other.kind !== "holder") warn(`the holder of key ${kid} is never asked: the key itself is ${other.path}`, "move one of the two files away");
      const held = await attempt(fail, () => readHeld(dir, kid));
      if (held === undefined) continue;
      const { holder, jwk } = held;
      await attempt(fail, async () => {
        for (const op of holder.ops.keys()) await (isSymmetric(jwk) ? usableCommand(holder, op) : tryHolder(holder, op, jwk));
      }); // one that failed is asked for nothing more: it may count wrong PINs
      if (isSymmetric(jwk)) untried += holder.ops.size;
      else tried += holder.ops.size;
    }
    if (kids.length === 0) return "no key is held by a command";
    const message = `${kids.length} keys are held by commands, ${tried} operations of which were tried`;
    return untried === 0 ? message : `${message}, and ${untried} of a256kw not: that takes the key itself`;
  });
}

function heldKids(dir: string): string[] {
  try {
    return listFolder(layout.privateDir(dir)).flatMap((file) => /^(.*)\.holder$/.exec(file)?.[1] ?? []).filter(isKid);
  } catch {
    return []; // another check says it
  }
}
