import assert from "node:assert/strict";
import { test } from "node:test";

import { samples } from "../src/events.ts";
import { Voice, utf16 } from "../src/voice.ts";
import { announced, done, sound, started, stored } from "./voices.ts";

test("a higher attempt keeps the pieces that are done", () => {
  const voice = new Voice();
  const events = [started(1), announced(1, 0), sound(1, 0, 0, 5), done(1, 0, 5), announced(1, 1), sound(1, 1, 1, 7)];
  for (const event of [...events, started(2)]) voice.add(event);
  assert.deepEqual([...voice.pieces.keys()], [0]);
  for (const event of [announced(2, 1), sound(2, 0, 1, 3), done(2, 1, 3), stored(2, 2)]) voice.add(event);
  assert.equal(voice.samples, 8);
  assert.ok(voice.ended);
  assert.equal(voice.joined().length, 8);
});

test("samples are little-endian, wherever they begin", () => {
  const bytes = Uint8Array.from([9, 0x01, 0x00, 0xff, 0xff, 0x00, 0x80]).subarray(1);
  assert.deepEqual([...samples(bytes)], [1, -1, -32768]);
});

test("characters are counted as the services count them", () => {
  assert.equal(utf16("abc", 2), 2);
  assert.equal(utf16("a🌞b", 2), 3);
  assert.equal(utf16("a🌞b", 9), 4);
});
