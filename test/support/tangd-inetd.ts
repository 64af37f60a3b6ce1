// tangd speaks HTTP on standard input and output: this starts it for each connection to 127.0.0.1, as inetd does, until standard
// input is closed. TANGD DATABASE PORT; port 0 is any. It prints the port.

import { spawn } from "node:child_process";
import { createServer, type AddressInfo } from "node:net";

const [, , tangd = "", db = "", port = ""] = process.argv;

const server = createServer((socket) => {
  const child = spawn(tangd, [db], { stdio: ["pipe", "pipe", "ignore"] });
  socket.pipe(child.stdin);
  child.stdout.pipe(socket);
  for (const stream of [socket, child.stdin]) stream.on("error", () => child.kill());
});
server.listen(Number(port), "127.0.0.1", () => process.stdout.write(`${(server.address() as AddressInfo).port}\n`));
process.stdin.resume().on("close", () => process.exit()); // the test is gone, however it ended
