// A page in Chromium talks WebSocket through `flowproof proxy`; its HAR, as the browser's tools export it, is judged: the
// same is said of the same ends as by the proxy.
// node har.mjs PATH-OF-FLOWPROOF
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const flowproof = process.argv[2];
const scratch = mkdtempSync(join(tmpdir(), "flowproof-har-"));
const executablePath = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync);
assert.ok(executablePath, "no chromium is installed");
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });

// A command that goes on until it is stopped, line by line.
function running(...words) {
  const child = spawn(flowproof, words, { stdio: ["ignore", "pipe", "inherit"] });
  const closed = once(child, "close");
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    line: async () => (await lines.next()).value,
    async stop() {
      child.kill("SIGINT");
      const said = [];
      for (let next = await lines.next(); !next.done; next = await lines.next()) said.push(next.value);
      await closed;
      return said;
    },
  };
}

// Who is accused of what, by the lines of a report in JSON.
function accused(lines) {
  const findings = lines.map((line) => JSON.parse(line)).filter((line) => line.verdict === "broken");
  return [...new Set(findings.map((finding) => `${finding.requirement} ${finding.by.split(".")[0]}`))].sort();
}

// Runs in the page: two sockets, one says something to the other, which waits until the last word has come.
async function talk({ url, packets }) {
  const open = () =>
    new Promise((resolve, reject) => {
      const socket = new WebSocket(url);
      const heard = [];
      const waiting = [];
      socket.onmessage = ({ data }) => {
        heard.push(JSON.parse(data));
        for (const look of waiting) look();
      };
      socket.onerror = reject;
      const until = (fits) =>
        new Promise((found) => {
          const look = () => heard.some(fits) && found(heard.find(fits));
          waiting.push(look);
          look();
        });
      socket.onopen = () => resolve({ socket, until });
    });
  const metadata = (message) => message.type === "metadata";
  const alice = await open();
  await alice.until(metadata);
  const bob = await open();
  const { index } = (await bob.until(metadata)).metadata;
  await alice.until((message) => metadata(message) && message.metadata.indexes.includes(index));
  for (const packet of packets) alice.socket.send(JSON.stringify({ to: index, packet }));
  await bob.until((message) => JSON.stringify(message).includes("the last word"));
  for (const { socket } of [alice, bob]) {
    const closed = new Promise((resolve) => (socket.onclose = resolve));
    socket.close(1000);
    await closed;
  }
}

async function compare(name, sinner, packets, wanted) {
  const server = running("serve", "hangout", "--listen", "127.0.0.1:0", ...(sinner ? ["--sinner", sinner] : []));
  const upstream = (await server.line()).replace("listening on ", "");
  const proxy = running("proxy", "hangout", "--upstream", upstream, "--exclusive", "--format", "json");
  const url = JSON.parse(await proxy.line()).listening;
  const har = join(scratch, `${name}.har`);
  const context = await browser.newContext({ recordHar: { path: har, content: "embed" } });
  const page = await context.newPage();
  await page.evaluate(talk, { url, packets });
  await context.close();
  const live = accused(await proxy.stop());
  await server.stop();
  const judged = spawnSync(flowproof, ["judge", "hangout", har, "--exclusive", "--format", "json"], { encoding: "utf8" });
  assert.equal(judged.status, wanted.length ? 1 : 0, judged.stderr + judged.stdout);
  assert.deepEqual(live, wanted, `${name}: the proxy`);
  assert.deepEqual(accused(judged.stdout.trim().split("\n")), live, `${name}: the HAR`);
  console.log(`HAR of a page, ${name}: ${wanted.join(", ") || "silent"}`);
}

try {
  const chat = { type: "chat", chat: "the last word" };
  const sin = { type: "chat", payload: "from a page" };
  await compare("all keep the rules", null, [chat], []);
  await compare("the server sins", "relayed-in-a-packet", [chat], ["HANGOUT-RELAY-3 server"]);
  await compare("the page sins", null, [sin, chat], ["HANGOUT-CLIENT-1 client"]);
} finally {
  await browser.close();
  rmSync(scratch, { recursive: true, force: true });
}
