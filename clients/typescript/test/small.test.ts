import assert from "node:assert/strict";
import { test } from "node:test";

import * as errors from "../src/errors.ts";
import type { TurnEvent } from "../src/events.ts";
import { START, covers, following } from "../src/position.ts";
import { StreamSink } from "../src/stream_sink.ts";
import { wav } from "../src/wav.ts";
import { announced, sound, started } from "./voices.ts";

test("each code of the services has a class of its own", () => {
  const told = (code: string) => errors.fromError({ code: code as never, message: "why", retryable: true });
  assert.ok(told("provider_rate_limited") instanceof errors.ProviderRateLimited);
  assert.ok(told("provider_rate_limited") instanceof errors.ProviderError);
  assert.ok(told("too_large") instanceof errors.InvalidRequest);
  const busy = told("busy");
  assert.deepEqual([busy.name, busy.code, busy.message, busy.retryable], ["Busy", "busy", "why", true]);
  assert.equal(told("of_later").message, "why (of_later)");
  assert.equal(told("of_later").code, "internal");
});

test("a WAV file says what it holds", () => {
  const file = wav([Int16Array.of(1, -1), Int16Array.of(256)]);
  const view = new DataView(file.buffer);
  assert.equal(view.getUint32(4, true), file.length - 8);
  assert.deepEqual([view.getUint16(22, true), view.getUint32(24, true), view.getUint16(34, true)], [1, 24_000, 16]);
  assert.equal(view.getUint32(40, true), 6);
  assert.deepEqual([...file.subarray(44)], [1, 0, 255, 255, 0, 1]);
});

test("a position covers what was told by then, and what a higher attempt took back", () => {
  const told: TurnEvent[] = [started(1), announced(1, 0), sound(1, 0, 0, 1)];
  let position = START;
  for (const event of told) position = following(position, event);
  assert.deepEqual(position, { ...START, voiceAttempt: 1, voiceEvents: 3 });
  let reached = START;
  for (const event of [...told, sound(1, 1, 0, 1), started(2)]) {
    reached = following(reached, event);
    assert.equal(covers(position, event, reached), told.includes(event));
  }
});

test("a stream is given sound at the pace at which it is heard, and nothing once it is stopped", async () => {
  const written: number[] = [];
  const sink = new StreamSink({ write: (bytes) => written.push(bytes.length / 2) });
  const sounding = sink.play(new Int16Array(24_000), sink.now());
  while (written.length < 3) await new Promise((resolve) => setTimeout(resolve, 5));
  sounding.stop();
  const before = written.length;
  assert.ok(before < 20, "all at once");
  await new Promise((resolve) => setTimeout(resolve, 120));
  assert.equal(written.length, before);
});
