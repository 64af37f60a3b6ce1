// A crash after each file operation of each writing command, rebuilt from a trace: as the process left the files, and as the disk has them after power loss.

import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { entries, entriesOf } from "../../src/keystore/listing.ts";
import { setDefault } from "../../src/keystore/rotate.ts";
import { openStore } from "../../src/keystore/store.ts";
import { temporaryFolder } from "../support/folders.ts";
import { endurance, testWith } from "../support/parts.ts";
import { noSecrets } from "../support/stores.ts";
import {
  assertNothingLost,
  assertTidy,
  copyOf,
  record,
  runWriter,
  STRACE,
  strace,
  WRITERS,
} from "../support/writers.ts";

/** A file or folder, as processes see it and as the disk has it: a file's content after its fsync, a folder's names after its own. */
interface Node {
  mode: number;
  content: string;
  durableContent: string;
  names: Map<string, Node> | undefined;
  durableNames: Map<string, Node>;
}

const newNode = (mode: number, folder: boolean): Node => ({
  mode,
  content: "",
  durableContent: "",
  names: folder ? new Map() : undefined,
  durableNames: new Map(),
});

function load(path: string): Node {
  const stat = statSync(path);
  const node = newNode(stat.mode & 0o7777, stat.isDirectory());
  if (stat.isDirectory()) for (const name of readdirSync(path)) node.names?.set(name, load(join(path, name)));
  else node.content = node.durableContent = readFileSync(path, "latin1");
  node.durableNames = new Map(node.names);
  return node;
}

function build(node: Node, path: string, durable: boolean): void {
  if (node.names === undefined) {
    writeFileSync(path, durable ? node.durableContent : node.content, "latin1");
  } else {
    mkdirSync(path);
    for (const [name, child] of durable ? node.durableNames : node.names) build(child, join(path, name), durable);
  }
  chmodSync(path, node.mode);
}

/** A disk on which the calls of a trace are done again. */
class Disk {
  readonly #top: Node;
  readonly #dir: string;

  constructor(dir: string, base: string) {
    this.#dir = dir;
    this.#top = load(base);
  }

  /** @returns whether it changed something */
  redo(line: string): boolean {
    const result = Number(/= (-?\d+)/.exec(line.slice(line.lastIndexOf(")")))?.[1]);
    if (result < 0) return false;
    const [call = ""] = /^\w+/.exec(line) ?? [];
    const quoted = [...line.matchAll(/"((?:[^"\\]|\\.)*)"/g)].map(([, text = ""]) => text);
    const described = /^\w+\(\d+<([^>]*)>/.exec(line)?.[1] ?? "";
    const [first = "", second = ""] = quoted;
    if (call === "openat")
      return (
        line.includes("O_CREAT") &&
        this.#add(first, newNode(Number.parseInt(/, (0\d+)\)/.exec(line)?.[1] ?? "0", 8), false))
      );
    if (call === "mkdir")
      return this.#add(first, newNode(Number.parseInt(/, (0\d+)\)/.exec(line)?.[1] ?? "0", 8), true));
    if (call === "link") return this.#add(second, this.#at(first));
    if (call === "unlink") return this.#folder(first).delete(basename(first));
    if (call === "rename") return this.#add(second, this.#at(first)) && this.#folder(first).delete(basename(first));
    const node = this.#at(described);
    if (call === "write") node.content += JSON.parse(`"${first}"`) as string;
    if (call === "fchmod") node.mode = Number.parseInt(/, (0\d+)\)/.exec(line)?.[1] ?? "0", 8);
    if (call === "fsync") [node.durableContent, node.durableNames] = [node.content, new Map(node.names)];
    return true;
  }

  /** The store as a reader finds it after the crash. */
  store(durable: boolean): string {
    const dir = join(temporaryFolder(), "store");
    build(this.#top, dir, durable);
    return dir;
  }

  #at(path: string): Node {
    let node: Node | undefined = this.#top;
    for (const name of path
      .slice(this.#dir.length)
      .split("/")
      .filter((part) => part !== ""))
      node = node?.names?.get(name);
    if (node === undefined) throw new Error(`${path} is not on this disk`);
    return node;
  }

  #folder(path: string): Map<string, Node> {
    return this.#at(dirname(path)).names ?? new Map<string, Node>();
  }

  #add(path: string, node: Node): boolean {
    this.#folder(path).set(basename(path), node);
    return true;
  }
}

const every = Math.floor(40 / endurance(40)); // of how many states one is looked at
const step = Math.max(3, Math.floor(300 / endurance(300))); // of how many of those one is tried with the command itself
let [instants, states] = [Math.floor(Math.random() * every), Math.floor(Math.random() * step)];

for (const [number, writer] of WRITERS.entries()) {
  testWith(
    strace,
    STRACE,
    `${writer.name}: a crash at any instant loses nothing, and the next command works (${number})`,
    async (program) => {
      const dir = copyOf(writer.base());
      const disk = new Disk(dir, writer.base());
      let changes = 0;
      for (const { line } of record(program, writer, dir)) {
        if (!disk.redo(line)) continue;
        changes++;
        for (const durable of [false, true]) {
          if (instants++ % every !== 0) continue;
          const crashed = disk.store(durable);
          try {
            entries(openStore(crashed, noSecrets));
            await assertNothingLost(crashed, writer);
            states++;
            if (states % step !== 0) {
              await setDefault(openStore(crashed, noSecrets), "alice").catch((error: unknown) =>
                assert.not.ok(hasName(crashed, "alice"), String(error)),
              );
            } else if (!isDone(crashed, writer.args)) {
              const { code, stderr } = runWriter(writer, crashed);
              assert.is(code, 0, stderr);
            }
            await assertNothingLost(crashed, writer);
          } catch (error) {
            throw new Error(
              `${writer.name}, ${durable ? "power loss" : "crash"} after ${line.slice(0, 200)}: ${String(error)}`,
              { cause: error },
            );
          }
        }
      }
      assert.ok(changes > 10, `${changes} changes were redone`);
      const last = disk.store(true);
      assertTidy(last);
    },
  );
}

function hasName(dir: string, name: string): boolean {
  return entries(openStore(dir, noSecrets)).some((entry) => entry.name === name);
}

/** Whether the crash came after the command's work: a name is there, or gone, and it would refuse to do that twice. */
function isDone(dir: string, [command, name = ""]: readonly string[]): boolean {
  if (command === "remove") return !hasName(dir, name);
  return (
    (command === "keygen" || command === "import") &&
    hasName(dir, name) &&
    entriesOf(openStore(dir, noSecrets), name).length > 0
  );
}

test.run();
