// reallyExit ends the process at once and runs no exit handlers: exec mode has none. It is public in Node, but its
// types are missing.

declare namespace NodeJS {
  interface Process {
    reallyExit(code: number): never;
  }
}
