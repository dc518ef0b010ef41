import assert from "node:assert/strict";
import { test } from "node:test";

import { blocks } from "../src/markdown.ts";
import type { Run } from "../src/markdown.ts";

const shown = (text: string, runs: Run[]) => runs.map((run) => text.slice(run.from, run.to)).join("");
const kinds = (text: string) => blocks(text).map((block) => block.kind);
const runsOf = (text: string): Run[] =>
  blocks(text).flatMap((block) =>
    block.kind === "list" ? block.items.flatMap((item) => item.runs) : block.kind === "rule" ? [] : block.runs,
  );

test("marks are left out, words stay where they stand in the text", () => {
  const text = "A **bold *and* strong** `a*b` word, see [here](https://example.org/x).";
  assert.equal(shown(text, runsOf(text)), "A bold and strong a*b word, see here.");
  assert.ok(runsOf(text).some((run) => run.strong && run.em));
  assert.equal(runsOf(text).find((run) => run.href)?.href, "https://example.org/x");
});

test("blocks are told apart", () => {
  const text = "# Plan\n\nFirst line\nsecond line\n\n- one\n  1. deep\n- two\n\n> quoted\n\n```\ncode\n\n# no heading\n```\n\n---\nend";
  assert.deepEqual(kinds(text), ["heading", "paragraph", "list", "quote", "code", "rule", "paragraph"]);
});

test("what is no Markdown is left as it is", () => {
  for (const text of ["2 * 3 * 4 = 24", "snake_case_name and __init", "[x](javascript:alert(1))", "**open", "<b>bold</b>", "a * b"]) {
    assert.equal(shown(text, runsOf(text)), text);
    assert.ok(runsOf(text).every((run) => !run.href), text);
  }
});

test("any prefix of a text, as it streams in, can be shown", () => {
  const text = "## A\n\n1. **b** and `c`\n2. [d](https://example.org)\n\n```py\nx = 1\n```\nEnd 🌞.";
  for (let end = 0; end <= text.length; end += 1) {
    const part = text.slice(0, end);
    for (const run of runsOf(part)) assert.ok(run.from >= 0 && run.from <= run.to && run.to <= end);
  }
});

test("a hostile text costs no time", () => {
  const begun = performance.now();
  for (const text of ["*".repeat(20_000), "`".repeat(20_000), "[".repeat(20_000), "**a".repeat(7_000), "_a ".repeat(7_000)]) {
    blocks(text);
  }
  assert.ok(performance.now() - begun < 2_000);
});
