// Prints every complaint of the AsyncAPI parser, of whatever severity; any is a failure.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const SEVERITIES = ["error", "warning", "info", "hint"];
const [path] = process.argv.slice(2);
const { document, diagnostics } = await new Parser().parse(readFileSync(path, "utf8"), {
  source: path,
});
for (const { severity, code, message, path: where } of diagnostics) {
  console.error(`${SEVERITIES[severity]} ${code} at ${where.join("/")}: ${message}`);
}
if (document === undefined || diagnostics.length > 0) process.exit(1);
console.log(
  `AsyncAPI ${document.version()}: ${document.channels().length} channels, ` +
    `${document.operations().length} operations, ${document.components().messages().length} ` +
    `messages, ${diagnostics.length} complaints`,
);
