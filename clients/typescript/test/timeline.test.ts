import assert from "node:assert/strict";
import { test } from "node:test";

import { Timeline } from "../src/timeline.ts";

test("gives each event once and in order, however it comes", () => {
  const timeline = new Timeline<string>();
  assert.deepEqual(timeline.add(1, 1, "b"), []);
  assert.ok(timeline.gap);
  assert.deepEqual(timeline.add(1, 0, "a"), ["a", "b"]);
  assert.deepEqual(timeline.add(1, 1, "b"), []);
  assert.ok(!timeline.gap);
});

test("a higher attempt starts over, a lower one is a leftover", () => {
  const timeline = new Timeline<string>();
  timeline.add(1, 0, "old");
  timeline.add(1, 2, "early");
  assert.deepEqual(timeline.add(2, 0, "new"), ["new"]);
  assert.deepEqual(timeline.add(1, 1, "left over"), []);
  assert.ok(!timeline.gap);
});

test("goes on behind what the history contained", () => {
  const timeline = new Timeline<string>();
  timeline.add(1, 5, "f");
  timeline.add(1, 2, "known");
  assert.deepEqual(timeline.jump(1, 5), ["f"]);
  assert.deepEqual(timeline.add(1, 4, "known"), []);
  assert.deepEqual(timeline.jump(1, 3), []);
  assert.equal(timeline.expected, 6);
});
