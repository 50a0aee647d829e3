// A server of hangout that says what a browser, a terminal and a log should take no notice of.
// node hostile.mjs PORT
import { WebSocketServer } from "ws";

const markup = '"><script>window.owned=1</script><img src=x onerror="window.owned=1"></script><svg onload=window.owned=1>';
const huge = "A<b>".repeat(1 << 18);
const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.argv[2]) });
server.on("connection", (socket) => {
  const say = (value) => socket.send(typeof value === "string" ? value : JSON.stringify(value));
  say({ from: "server", type: "metadata", metadata: { index: markup, indexes: [markup, 7], properties: { [markup]: { x: markup } }, version: markup } });
  say({ from: "server", type: "changes", changes: { opened: markup, closed: huge, properties: ["\u202e\u0000\u001b[31m"] } });
  say(markup);
  say(huge);
  say({ [markup]: huge });
  socket.on("message", (text) => say({ from: markup, type: "</script><script>window.owned=1</script>", echo: text.toString() }));
  socket.on("error", () => {});
});
