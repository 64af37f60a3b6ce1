// help: prints a topic. Without one, yargs shows the commands, and this one's line there names the topics.

import { printable, usageError } from "../errors.ts";
import { topics, topicText } from "../help/topics.ts";
import { print, type Cli } from "./shared.ts";

/** Adds the command. */
export function help(cli: Cli): void {
  cli.command(
    "help TOPIC",
    `Explain a topic: ${topics().join(", ")}`,
    (yargs) =>
      yargs
        .positional("TOPIC", { type: "string", demandOption: true, describe: "The topic" })
        .example("$0 help troubleshooting", "The messages of clients, their causes and what to do"),
    ({ TOPIC: topic }) => {
      const names = topics();
      if (!names.includes(topic)) {
        const message = `there is no help topic "${printable(topic, 64)}"`;
        throw usageError(message, `topics: ${names.join(", ")}; for a command, add --help to it`);
      }
      print(topicText(topic).trimEnd());
    },
  );
}
