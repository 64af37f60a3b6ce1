// The binary's first script: runs the exec bundle, an asset, with the code cache that warm.ts made. Node's own code
// cache holds only what is compiled before the program runs, so each start would compile the rest again.

import { evaluate } from "./cached.ts";
import { clearEnvironment } from "./environment.ts";

clearEnvironment();
evaluate("exec")(require);
