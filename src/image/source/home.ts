// The folder of a user's settings.

import { userInfo } from "node:os";

/** $HOME, or what the system's user database says. */
export function homeFolder(): string {
  const { HOME = "" } = process.env;
  if (HOME !== "") return HOME;
  try {
    return userInfo().homedir;
  } catch {
    return "/"; // this user is not in the database
  }
}
