// Every flow as Mermaid, read by Mermaid itself, in a browser.
// node mermaid.mjs PATH-OF-FLOWPROOF
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const flowproof = process.argv[2];
const text = (...words) => execFileSync(flowproof, words, { encoding: "utf8", maxBuffer: 1 << 28 });
const flows = [];
let protocol;
for (const line of text("list").split("\n")) {
  protocol = /^(\S+) - /.exec(line)?.[1] ?? protocol;
  const flow = /^ {2}(\S+)/.exec(line)?.[1];
  if (flow) flows.push([protocol, flow]);
}
assert.ok(flows.length > 0, "there are flows");
// One flow of each topic will do: the rest is written by the same hand.
const topics = new Map(flows.map(([protocol, flow]) => [`${protocol}/${flow.split("/")[0]}`, [protocol, flow]]));

const executablePath = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
try {
  const page = await browser.newPage();
  await page.addScriptTag({ path: fileURLToPath(new URL("node_modules/mermaid/dist/mermaid.min.js", import.meta.url)) });
  for (const [protocol, flow] of topics.values()) {
    const drawn = text("show", protocol, flow, "--as", "mermaid");
    const error = await page.evaluate((drawn) => mermaid.parse(drawn).then(() => null, (error) => String(error)), drawn);
    assert.equal(error, null, `${protocol} ${flow}: ${error}`);
  }
  console.log(`mermaid reads ${topics.size} of ${flows.length} flows`);
} finally {
  await browser.close();
}
