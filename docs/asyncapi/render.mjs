// Renders the document into one HTML file that loads nothing; without JavaScript it is a list of the
// channels. The markup of all of it is left to the browser: it would be half of the file.
//
// What @asyncapi/html-template makes, by the same component and style sheet. Its generator needs
// Node 24, and its own script, 2.5 MB, holds a parser and the schemas of every version of AsyncAPI.
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { Parser, stringify } from "@asyncapi/parser";
import { build } from "esbuild";

const require = createRequire(import.meta.url);

const CONFIG = { show: { sidebar: true }, sidebar: { showOperations: "byOperationsTags" } };
const file = (name) => fileURLToPath(new URL(name, import.meta.url));
const PARSERS =
  /^@asyncapi\/(parser|avro-schema-parser|openapi-schema-parser|protobuf-schema-parser)$/;
const ONLY_FOR_PARSING = /^(@asyncapi\/specs|@stoplight\/.*)$/;

async function script() {
  const bundle = await build({
    entryPoints: [file("page.mjs")],
    bundle: true,
    write: false,
    minify: true,
    platform: "browser",
    target: "es2022",
    define: { "process.env.NODE_ENV": '"production"' },
    legalComments: "eof",
    logLevel: "error",
    plugins: [
      {
        name: "no parser",
        setup({ onResolve }) {
          onResolve({ filter: PARSERS }, () => ({ path: file("parser-models.mjs") }));
          onResolve({ filter: ONLY_FOR_PARSING }, () => ({ path: file("nothing.cjs") }));
        },
      },
    ],
  });
  return bundle.outputFiles[0].text.replaceAll("</script", "<\\/script");
}

/** Of what the page is made; tests/unit/docs says, without Node, whether it is of these. */
function sources(document) {
  const hash = createHash("sha256").update(document);
  for (const name of ["nothing.cjs", "package-lock.json", "page.mjs", "parser-models.mjs"]) {
    hash.update(readFileSync(file(name)));
  }
  return hash.update(readFileSync(file("render.mjs"))).digest("hex");
}

/**
 * The same with every larger part written once: messages and schemas stand wherever something
 * refers to them. page.mjs puts it together again.
 */
function pooled(whole) {
  const pool = [];
  const places = new Map();
  const visit = (value) => {
    if (value === null || typeof value !== "object") return value;
    const inner = Array.isArray(value)
      ? value.map(visit)
      : Object.fromEntries(Object.entries(value).map(([name, each]) => [name, visit(each)]));
    const written = JSON.stringify(inner);
    if (written.length < 60) return inner;
    if (!places.has(written)) places.set(written, pool.push(inner) - 1);
    return { $pooled: places.get(written) };
  };
  const last = visit(whole);
  return [...pool, last];
}

/** For who has no JavaScript; the component takes its place. */
function list(document) {
  const safe = (words) => words.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  const channels = document.channels().all().filter((channel) => channel.address());
  const lines = channels.map(
    (channel) => `<dt>${safe(channel.address())}</dt><dd>${safe(channel.summary() ?? channel.description() ?? "")}</dd>`,
  );
  return `<h1>${safe(document.info().title())}</h1><dl>${lines.join("\n")}</dl>`;
}

const [from, to] = process.argv.slice(2);
const text = readFileSync(from, "utf8");
const { document } = await new Parser().parse(text);
if (document === undefined) throw new Error(`${from} is no AsyncAPI document`);
const props = { schema: JSON.parse(stringify(document)), config: CONFIG };
const code = await script();
const policy = [
  "default-src 'none'",
  `script-src 'sha256-${createHash("sha256").update(code).digest("base64")}'`,
  "style-src 'unsafe-inline'",
  "img-src data:",
].join("; ");
const styles = readFileSync(
  require.resolve("@asyncapi/react-component/styles/default.min.css"),
  "utf8",
);
writeFileSync(
  to,
  `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="sources" content="${sources(text)}">
<title>${document.info().title()}: the contract</title>
<link rel="icon" href="data:,">
<style>html{line-height:1.15}body{margin:0;font-family:system-ui,sans-serif}${styles}</style>
</head>
<body>
<div id="root">${list(document)}</div>
<script id="document" type="application/json">${JSON.stringify(pooled(props)).replaceAll("<", "\\u003c")}</script>
<script>${code}</script>
</body>
</html>
`,
);
