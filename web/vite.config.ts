import { createHash } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { defineConfig } from "vite";

const CLIENT = "../clients/typescript";

/** What the page is built from; tests/unit/web says, without Node, whether dist is of these. */
function sources(): string {
  const files = ["index.html", "package-lock.json", "vite.config.ts", `${CLIENT}/package-lock.json`];
  for (const folder of ["src", `${CLIENT}/src`]) files.push(...readdirSync(folder).map((name) => `${folder}/${name}`));
  const hash = createHash("sha256");
  for (const name of files.sort()) hash.update(`${name}\n`).update(readFileSync(name));
  return hash.digest("hex");
}

export default defineConfig({
  base: "./",
  plugins: [
    {
      name: "sources",
      transformIndexHtml: () => [
        { tag: "meta", attrs: { name: "sources", content: sources() }, injectTo: "head" },
      ],
    },
  ],
  // One script, one style sheet, nothing inline: the page's own policy allows no more.
  build: {
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    cssCodeSplit: false,
    sourcemap: false,
    rollupOptions: {
      output: {
        entryFileNames: "parley.js",
        assetFileNames: "parley[extname]",
        codeSplitting: false,
      },
    },
  },
});
