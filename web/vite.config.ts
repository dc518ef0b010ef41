import { defineConfig } from "vite";

export default defineConfig({
  base: "./",
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
