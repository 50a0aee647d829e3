// Every protocol's AsyncAPI document, read by the AsyncAPI project's own parser.
// node asyncapi.mjs PATH-OF-FLOWPROOF
import { execFileSync } from "node:child_process";
import { Parser } from "@asyncapi/parser";

const flowproof = process.argv[2];
const text = (...words) => execFileSync(flowproof, words, { encoding: "utf8", maxBuffer: 1 << 28 });
const protocols = text("list")
  .split("\n")
  .map((line) => /^(\S+) - /.exec(line)?.[1])
  .filter(Boolean);
if (protocols.length === 0) throw new Error("there is no protocol");

let wrong = 0;
for (const protocol of protocols) {
  const { document, diagnostics } = await new Parser().parse(text("show", protocol, "--as", "asyncapi"));
  const errors = diagnostics.filter((one) => one.severity === 0);
  for (const error of errors.slice(0, 20)) console.error(`${protocol}: ${error.path.join(".")}: ${error.message}`);
  wrong += errors.length;
  if (!document) {
    console.error(`${protocol}: no document`);
    wrong += 1;
    continue;
  }
  const messages = document.allMessages().all().length;
  if (messages === 0 || document.allOperations().all().length === 0) {
    console.error(`${protocol}: nothing is in it`);
    wrong += 1;
  }
  console.log(`${protocol}: AsyncAPI ${document.version()}, ${messages} messages, ${errors.length} errors`);
}
process.exit(wrong === 0 ? 0 : 1);
