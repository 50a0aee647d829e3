// Opens report.html in Chromium as a user would, and checks that it tells what report.json tells, works, and stays
// harmless whatever the target sent.
// node browser.mjs PATH-OF-FLOWPROOF [FOLDER-FOR-SCREENSHOTS]
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, mkdirSync, readFileSync, rmSync, existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const [flowproof, screenshots] = process.argv.slice(2);
const here = fileURLToPath(new URL(".", import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), "flowproof-browser-"));
if (screenshots) mkdirSync(screenshots, { recursive: true });
const executablePath = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync);
assert.ok(executablePath, "no chromium is installed");

// Makes a report; the exit code tells what the run found, which is no matter here, unless nothing ran.
function report(name, ...words) {
  const folder = join(scratch, name);
  const ran = spawnSync(flowproof, ["test", ...words, "--quiet", "--report-dir", folder], {
    encoding: "utf8",
    maxBuffer: 1 << 28,
  });
  assert.ok([0, 1].includes(ran.status), `${name}: exit ${ran.status}\n${ran.stderr}`);
  const json = JSON.parse(readFileSync(join(folder, "report.json"), "utf8"));
  return { page: pathToFileURL(join(folder, "report.html")).href, reports: Array.isArray(json) ? json : [json] };
}

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });

// A page that is watched: it says nothing on the console, asks for nothing, and opens no dialog.
async function open(address, options = {}) {
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 }, ...options });
  const strange = [];
  page.on("console", (message) => strange.push(`console ${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => strange.push(`error: ${error.message}`));
  page.on("dialog", (dialog) => {
    strange.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on("request", (request) => {
    if (request.url().split("#")[0] !== address && !request.url().startsWith("data:")) strange.push(`request: ${request.url()}`);
  });
  const began = performance.now();
  await page.goto(address);
  return { page, strange, took: Math.round(performance.now() - began) };
}

async function numbers(page, reports) {
  for (const verdict of ["pass", "warn", "fail", "skip", "inconclusive", "error"]) {
    const wanted = reports.reduce((sum, one) => sum + one.summary[verdict], 0);
    const shown = await page.locator(`[data-total="${verdict}"] b`).textContent();
    assert.equal(Number(shown), wanted, verdict);
    const flows = await page.locator(`details.flow[data-state="${verdict}"]`).count();
    assert.equal(flows, wanted, `flows that ${verdict}`);
  }
  const cards = page.locator(".card");
  for (const [place, one] of reports.entries()) {
    for (const verdict of ["kept", "broken", "warned", "untested"]) {
      const wanted = one.requirements.filter((requirement) => requirement.verdict === verdict).length;
      const shown = await cards.nth(place).locator(`[data-requirements="${verdict}"] b`).textContent();
      assert.equal(Number(shown), wanted, `${one.protocol} ${verdict}`);
    }
  }
}

async function sinner() {
  const made = report("sinner", "hangout", "--role", "server", "--sinner", "closed-always-empty");
  const { page, strange } = await open(made.page);
  await numbers(page, made.reports);
  const visible = (selector) => page.locator(`${selector}:visible`).count();

  // A failing flow is drawn when it is opened, with what is wrong marked and both sides beside each other.
  const failing = page.locator("details.flow.fail").first();
  assert.equal(await failing.locator("svg").count(), 0, "nothing is drawn before");
  await failing.locator("summary").first().click();
  await failing.locator("svg").waitFor();
  assert.ok((await failing.locator("svg .failing, svg .missing").count()) > 0, "the failing arrow is marked");
  assert.ok((await failing.locator("svg .flag").count()) > 0, "and not by colour alone");
  assert.ok((await failing.locator("table.diff").count()) > 0, "expected stands beside found");
  assert.match(await failing.locator("svg .time").first().textContent(), /^\d+\.\d{3} s$/);
  if (screenshots) await page.screenshot({ path: join(screenshots, "flow.png") });

  // The keyboard goes through the messages.
  await failing.locator(".diagram").focus();
  await page.keyboard.press("ArrowDown");
  assert.ok((await failing.locator(".chosen-message pre").textContent()).length > 0, "the message is read out");

  // Filters and search.
  await page.locator('[data-filter-flow="pass"]').click();
  assert.equal(await visible("details.flow.pass"), 0);
  assert.ok((await visible("details.flow.fail")) > 0);
  await page.locator('[data-filter-requirement="kept"]').click();
  assert.equal(await visible("details.requirement.kept"), 0);
  assert.equal(await visible(".chip.kept"), 0);
  await page.locator("#reset").click();
  assert.equal(await visible("details.flow"), made.reports[0].flows.length);
  await page.keyboard.press("/");
  await page.keyboard.type("HANGOUT-CHG-3");
  await page.waitForFunction(() => document.querySelectorAll("details.requirement:not([hidden])").length === 1);
  assert.match(await page.locator("#shown").textContent(), /^1 of /);

  // A shared link opens what it names, whatever is filtered.
  await page.goto(made.page + "#HANGOUT-META-1");
  const linked = page.locator("#HANGOUT-META-1");
  assert.ok(await linked.evaluate((entry) => entry.open));
  await linked.locator(".flow-links a").first().click();
  const target = await page.evaluate(() => decodeURIComponent(location.hash.slice(1)));
  assert.ok(await page.evaluate((id) => document.getElementById(id).open, target), target);

  // Everything that can be clicked can be reached and is called something.
  const unnamed = await page.evaluate(
    () => [...document.querySelectorAll("a, button, input, select, summary")].filter((one) => !(one.textContent.trim() || one.getAttribute("aria-label") || one.closest("label"))).length,
  );
  assert.equal(unnamed, 0, "everything has a name");
  assert.deepEqual(strange, []);
  await page.close();
  if (screenshots) await pictures(made.page);
}

// Narrow and wide, light and dark: nothing sticks out of the page.
async function pictures(address) {
  for (const [name, colorScheme, width] of [["light", "light", 1280], ["dark", "dark", 1280], ["narrow", "light", 360]]) {
    const { page } = await open(address, { colorScheme, viewport: { width, height: 900 } });
    await page.screenshot({ path: join(screenshots, `${name}.png`) });
    const flow = page.locator("details.flow").first();
    await flow.locator("summary").first().click();
    await flow.evaluate((entry) => entry.scrollIntoView());
    await page.screenshot({ path: join(screenshots, `${name}-flow.png`) });
    const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.ok(over <= 0, `${name}: ${over} pixels stick out`);
    await page.close();
  }
}

async function hostile() {
  const made = report("hostile", "hangout", "--exec", `node ${join(here, "hostile.mjs")} {port}`, "--filter", "connect/", "--filter", "table/", "--filter", "address/unknown");
  const { page, strange, took } = await open(made.page);
  await numbers(page, made.reports);
  const flows = page.locator("details.flow");
  for (let place = 0; place < (await flows.count()); place++) {
    await flows.nth(place).evaluate((flow) => (flow.open = true));
  }
  await page.locator("svg").first().waitFor();
  assert.match(await page.locator("body").innerText(), /<script>window\.owned=1<\/script>/, "it is shown as text");
  assert.equal(await page.evaluate(() => window.owned), undefined, "and not run");
  assert.equal(await page.locator("img, iframe, object, embed, svg[onload], b[onclick]").count(), 0);
  assert.deepEqual(strange, []);
  const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.ok(over <= 0, `${over} pixels stick out`);
  if (screenshots) await page.screenshot({ path: join(screenshots, "hostile.png") });
  console.log(`hostile: ${made.reports[0].flows.length} flows, opened in ${took} ms`);
  await page.close();
}

// All protocols at once: the page is long, and its search quick.
async function everything() {
  const made = report("everything");
  const { page, strange, took } = await open(made.page);
  await numbers(page, made.reports);
  const searched = await page.evaluate(() => {
    const field = document.getElementById("search");
    const began = performance.now();
    field.value = "changes";
    field.dispatchEvent(new Event("input"));
    return new Promise((done) => setTimeout(() => requestAnimationFrame(() => done(Math.round(performance.now() - began))), 70));
  });
  const protocol = made.reports[0].protocol;
  if (made.reports.length > 1) {
    await page.locator("#reset").click();
    await page.locator("#protocol").selectOption(protocol);
    assert.equal(await page.locator("details.flow:not([hidden])").count(), made.reports[0].flows.length);
  }
  assert.deepEqual(strange, []);
  const flows = made.reports.reduce((sum, one) => sum + one.flows.length, 0);
  console.log(`everything: ${flows} flows, opened in ${took} ms, searched in ${searched} ms`);
  await page.close();
}

try {
  execFileSync(flowproof, ["--version"]);
  await sinner();
  await hostile();
  await everything();
  console.log("the report does what it should in a browser");
} finally {
  await browser.close();
  rmSync(scratch, { recursive: true, force: true });
}
