// Ends the process at once, without the exit handlers that exec mode has none of. Node keeps it public and untyped.

declare namespace NodeJS {
  interface Process {
    reallyExit(code: number): never;
  }
}
