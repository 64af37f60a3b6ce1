// The environment that a service gets from its systemd unit (systemd.exec(5)).

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { quietly } from "./check.ts";

/** Where units are, the more important ones last. */
const FOLDERS = ["/usr/lib", "/lib", "/usr/local/lib", "/run", "/etc"].map((folder) => `${folder}/systemd/system`);
/** Files that packages of a service name in its unit. */
const ENVIRONMENT_FOLDERS = ["/etc/sysconfig", "/etc/default"];

/** The variables of a service, as far as its unit, its drop-ins and its environment files set them. */
export function unitEnvironment(root: string, service: string): ReadonlyMap<string, string> {
  const variables = new Map<string, string>();
  const files: string[] = [];
  const main = FOLDERS.map((folder) => join(root, folder, `${service}.service`)).findLast((path) => existsSync(path));
  // Without a unit that can be seen, its environment files are those of the packages.
  if (main === undefined) files.push(...ENVIRONMENT_FOLDERS.map((folder) => join(folder, service)));
  for (const path of [main, ...dropIns(root, service)]) {
    for (const [name, value] of path === undefined ? [] : settings(read(path))) {
      if (name === "Environment" && value === "") variables.clear();
      if (name === "Environment") for (const word of words(value)) assign(variables, word);
      if (name === "EnvironmentFile" && value === "") files.length = 0;
      else if (name === "EnvironmentFile") files.push(value.replace(/^-/, "").replaceAll("%N", service));
    }
  }
  for (const file of files) {
    for (const line of logicalLines(read(join(root, file)))) assign(variables, unquoted(line));
  }
  return variables;
}

/** The drop-ins of a service in the order of their names; a file of a more important folder replaces its namesake. */
function dropIns(root: string, service: string): string[] {
  const found = new Map<string, string>();
  for (const folder of FOLDERS.map((one) => join(root, one, `${service}.service.d`))) {
    for (const path of list(folder)) found.set(basename(path), path);
  }
  return [...found.keys()].toSorted().flatMap((name) => found.get(name) ?? []);
}

function list(folder: string): string[] {
  const names = quietly(() => readdirSync(folder)) ?? [];
  return names.filter((name) => name.endsWith(".conf")).map((name) => join(folder, name));
}

/** A file's text; none if it is missing, or this user may not read it. */
function read(path: string): string {
  return quietly(() => readFileSync(path, "utf8")) ?? "";
}

/** The settings of the section [Service]. */
function settings(text: string): [name: string, value: string][] {
  let section = "";
  return logicalLines(text).flatMap((line): [string, string][] => {
    const [, header] = /^\[(.*)\]$/.exec(line) ?? [];
    if (header !== undefined) section = header;
    const [, name = "", value = ""] = /^([^=\s]+)\s*=\s*(.*)$/.exec(line) ?? [];
    return header === undefined && section === "Service" && name !== "" ? [[name, value]] : [];
  });
}

/** Lines without comments; a backslash at the end joins the next one. */
function logicalLines(text: string): string[] {
  const lines = text.split(/\r?\n/).filter((line) => !/^\s*[#;]/.test(line));
  return lines
    .join("\n")
    .replace(/\\\n\s*/g, " ")
    .split("\n")
    .map((line) => line.trim());
}

/** Words, which quotes may join. */
function words(text: string): string[] {
  return (text.match(/(?:"(?:[^"\\]|\\.)*"|'[^']*'|[^\s"'])+/g) ?? []).map(unquoted);
}

function unquoted(word: string): string {
  return word.replace(
    /"((?:[^"\\]|\\.)*)"|'([^']*)'/g,
    (_, double?: string, single?: string) => single ?? double ?? "",
  );
}

function assign(variables: Map<string, string>, assignment: string): void {
  const [, name, value = ""] = /^([A-Za-z_][A-Za-z0-9_]*)=(.*)$/s.exec(assignment) ?? [];
  if (name !== undefined) variables.set(name, value);
}
