import assert from "node:assert/strict";
import { test } from "node:test";

import type { VoiceEvent } from "../src/events.ts";
import { TextOrder, VoiceOrder } from "../src/order.ts";
import { announced, broken, done, sound, started, stored } from "./voices.ts";

const WHOLE = [
  started(1), announced(1, 0), sound(1, 0, 0, 5), done(1, 0, 5), announced(1, 1), sound(1, 1, 1, 7), done(1, 1, 7),
  stored(1, 2),
];
const live = (order: VoiceOrder, events: VoiceEvent[]) => events.flatMap((event) => order.add(event, false));
const replayed = (order: VoiceOrder, events: VoiceEvent[]) => {
  order.reread();
  return events.flatMap((event) => order.add(event, true));
};

test("a voice that comes whole is given as it is, its repeats are not", () => {
  const order = new VoiceOrder();
  assert.deepEqual(live(order, WHOLE.flatMap((event) => [event, event])), WHOLE);
  assert.ok(order.ended);
  assert.deepEqual(live(order, WHOLE), []);
});

test("whichever event is lost, what follows waits until the stream has told it", () => {
  for (let lost = 0; lost < WHOLE.length - 1; lost += 1) {
    const order = new VoiceOrder();
    const given = live(order, WHOLE.filter((_, at) => at !== lost));
    assert.deepEqual(given, WHOLE.slice(0, lost), `${lost}`);
    assert.ok(order.gap);
    assert.deepEqual(replayed(order, WHOLE), WHOLE.slice(lost), `${lost}`);
    assert.ok(order.ended);
  }
});

test("what an earlier attempt had done is learnt from the stream before a later one begins", () => {
  const order = new VoiceOrder();
  const first = WHOLE.slice(0, 4);
  const rest = [started(2), announced(2, 1), sound(2, 0, 1, 3), done(2, 1, 3), stored(2, 2)];
  assert.deepEqual(live(order, [...first.slice(0, 2), ...rest]), first.slice(0, 2));
  assert.deepEqual(replayed(order, [...first, ...rest]), [...first.slice(2), ...rest]);
});

test("what was torn in the stream is left out until a higher attempt has told it again", () => {
  const order = new VoiceOrder();
  const torn = [started(1), announced(1, 0), sound(1, 1, 0, 7), sound(1, 0, 0, 5), done(1, 0, 12)];
  assert.deepEqual(replayed(order, torn), torn.slice(0, 2));
  assert.ok(order.gap);
  const again = [started(2), announced(2, 0), sound(2, 0, 0, 12), done(2, 0, 12), stored(2, 1)];
  assert.deepEqual(replayed(order, [...torn, ...again]), again);
});

test("a leftover of a lower attempt is nothing", () => {
  const order = new VoiceOrder();
  replayed(order, [started(1), announced(1, 0), started(2)]);
  assert.deepEqual(live(order, [sound(1, 0, 0, 5), done(1, 0, 5)]), []);
  assert.ok(!order.gap);
});

test("a text answered anew takes back what is said again", () => {
  const order = new VoiceOrder();
  replayed(order, WHOLE.slice(0, 7));
  const anew = [started(2), announced(2, 1, "new"), sound(2, 0, 1, 9), done(2, 1, 9), stored(2, 2)];
  assert.deepEqual(replayed(order, anew), anew);
});

test("a voice whose beginning the stream has lost is known to be lost", () => {
  const order = new VoiceOrder();
  assert.deepEqual(replayed(order, WHOLE.slice(5, 7)), []);
  assert.ok(order.gap);
  assert.ok(!order.lost);
  assert.deepEqual(replayed(order, WHOLE.slice(5)), []);
  assert.ok(order.lost);
});

test("a voice that fails before it begins has ended", () => {
  const order = new VoiceOrder();
  live(order, [broken(1)]);
  assert.deepEqual(replayed(order, [broken(1)]), [broken(1)]);
  assert.ok(order.ended);
});

test("a text is put in order by its numbers; what this version does not know has its place", () => {
  const order = new TextOrder();
  const ids = { conversation_id: "c", turn_id: "t", attempt: 1 };
  const failed = { type: "failed", ...ids, seq: 2, error: { code: "internal", message: "", retryable: false } } as const;
  const text = { type: "text", ...ids, seq: 0, text: "a" } as const;
  assert.deepEqual(order.add(failed), []);
  assert.deepEqual(order.add(text), [text]);
  assert.ok(order.lost);
  assert.deepEqual(order.add({ type: "later", turn_id: "t", attempt: 1, seq: 1 }), [failed]);
  assert.ok(order.ended);
});
