// The binary's first script: runs the exec bundle from its asset with the code cache that warm.ts made.
// Node's own code cache holds only what is compiled before anything runs, so each start would compile the rest again.

import { getRawAsset } from "node:sea";
import { Script } from "node:vm";

const script = new Script(Buffer.from(getRawAsset("exec")).toString("latin1"), {
  cachedData: Buffer.from(getRawAsset("exec.cache")),
  filename: "ocicrypt-keystore",
});
if (script.cachedDataRejected === true) process.emitWarning("code cache rejected: this start is slow"); // a test watches for it
(script.runInThisContext() as (load: NodeJS.Require) => void)(require);
