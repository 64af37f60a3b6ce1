// The topics of `help TOPIC`: the Markdown files of this folder, which the build puts into the binary.

import { getAsset, getAssetKeys, isSea } from "node:sea";

const FOLDER = "help/";

/** The names of all topics; none in a Node that is not the binary. */
export function topics(): string[] {
  if (!isSea()) return [];
  return getAssetKeys()
    .filter((key) => key.startsWith(FOLDER))
    .map((key) => key.slice(FOLDER.length))
    .toSorted();
}

/** The text of one of the topics. */
export function topicText(topic: string): string {
  return getAsset(FOLDER + topic, "utf8");
}
