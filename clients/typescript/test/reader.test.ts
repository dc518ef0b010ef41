import assert from "node:assert/strict";
import { test } from "node:test";
import type { TestContext } from "node:test";

import { DeadlineExceeded, NotFound } from "../src/errors.ts";
import type { Speech } from "../src/contract.ts";
import type { TurnEvent } from "../src/events.ts";
import { LIMITS, Reader } from "../src/reader.ts";
import type { Limits, Wanted } from "../src/reader.ts";
import { Streams } from "./streams.ts";
import { announced, done as pieceDone, sound, started as audioStarted, stored } from "./voices.ts";

const ids = { conversation_id: "c", turn_id: "t" };
const started = (attempt = 1, speech: false | Speech = {}): TurnEvent => ({
  type: "started", ...ids, attempt, seq: 0, model: "m", metadata: {}, speech, created_at: "",
});
const text = (seq: number, words: string, attempt = 1): TurnEvent => ({ type: "text", ...ids, attempt, seq, text: words });
const done = (seq: number, words: string, attempt = 1): TurnEvent => ({
  type: "done", ...ids, attempt, seq, finish_reason: "stop", text: words, first_token_ms: 1, duration_ms: 1, metadata: {},
  usage: { prompt_tokens: 1, completion_tokens: 1 },
});
const TEXT = [started(), text(1, "a"), text(2, "b"), done(3, "ab")];
const VOICE = [audioStarted(1), announced(1, 0), sound(1, 0, 0, 5), pieceDone(1, 0, 5), stored(1, 1)];
const FAST: Limits = { ...LIMITS, quietMs: 40, gapMs: 2, idleMs: 2_000, afterMs: 40 };

function reading(t: TestContext, streams: Streams, wanted: Partial<Wanted> = {}, limits: Partial<Limits> = {}): Reader {
  const whole = { conversation: "c", turn: "t", text: true, voice: null, fresh: true, from: { delta: 1, audio: 1 } };
  const reader = new Reader(streams, { ...whole, ...wanted }, { ...FAST, ...limits });
  t.after(() => reader.close());
  return reader;
}

async function all(reader: Reader): Promise<TurnEvent[]> {
  const events: TurnEvent[] = [];
  for await (const event of reader) events.push(event);
  return events;
}

const texts = (events: TurnEvent[]) => events.filter(({ type }) => !VOICE.some((v) => v.type === type));
const voices = (events: TurnEvent[]) => events.filter(({ type }) => VOICE.some((v) => v.type === type));

test("text and voice are given as they come; the reading ends with both, and leaves nothing behind", async (t) => {
  const streams = new Streams();
  const reader = reading(t, streams);
  streams.say([...TEXT.slice(0, 3), ...VOICE.slice(0, 4), ...TEXT.slice(3), ...VOICE.slice(4)]);
  const events = await all(reader);
  assert.deepEqual(events, [...TEXT.slice(0, 3), ...VOICE.slice(0, 4), ...TEXT.slice(3), ...VOICE.slice(4)]);
  assert.equal(streams.replays, 0);
  assert.equal(streams.listeners, 0);
});

test("a turn without a voice ends with its text", async (t) => {
  const streams = new Streams();
  const reader = reading(t, streams);
  const silent = [started(1, false), ...TEXT.slice(1)];
  streams.say(silent);
  assert.deepEqual(await all(reader), silent);
});

test("a voice without a text ends with the voice", async (t) => {
  const streams = new Streams();
  streams.say(VOICE.slice(0, 3));
  const reader = reading(t, streams, { fresh: false });
  setTimeout(() => streams.say(VOICE.slice(3)), 20);
  assert.deepEqual(await all(reader), VOICE);
});

test("who comes late is told all of it", async (t) => {
  const streams = new Streams();
  streams.say([...TEXT, ...VOICE]);
  const events = await all(reading(t, streams, { fresh: false }));
  assert.deepEqual([texts(events), voices(events)], [TEXT, VOICE]);
});

test("whatever is lost on its way is read from the stream", async (t) => {
  const whole = [...TEXT, ...VOICE];
  for (const [at, lost] of whole.entries()) {
    const streams = new Streams();
    const reader = reading(t, streams);
    for (const event of whole) streams.say([event], { live: event !== lost });
    const events = await all(reader);
    assert.deepEqual([texts(events), voices(events)], [TEXT, VOICE], `without event ${at}`);
  }
});

test("what passed while the connection was lost is read when it is back", async (t) => {
  const streams = new Streams();
  const reader = reading(t, streams, {}, { quietMs: 60_000 });
  streams.say([TEXT[0] as TurnEvent, ...VOICE.slice(0, 3)]);
  streams.connected = false;
  streams.say([...TEXT.slice(1), ...VOICE.slice(3)]);
  streams.reconnect();
  const events = await all(reader);
  assert.deepEqual([texts(events), voices(events)], [TEXT, VOICE]);
});

test("a reading that fails is tried again", async (t) => {
  const streams = new Streams();
  streams.failing = 3;
  streams.say([...TEXT, ...VOICE]);
  assert.equal((await all(reading(t, streams, { fresh: false }))).length, TEXT.length + VOICE.length);
});

test("an event that overtook the store is not lost", async (t) => {
  const streams = new Streams();
  const reader = reading(t, streams);
  streams.say([TEXT[0] as TurnEvent, TEXT[2] as TurnEvent], { kept: false }); // 1 is in neither yet
  setTimeout(() => streams.say(TEXT, { live: false }), 20);
  streams.say(VOICE);
  assert.deepEqual(texts(await all(reader)), TEXT);
});

test("a worker that died is followed by the one that tells it again; leftovers are nothing", async (t) => {
  const streams = new Streams();
  const reader = reading(t, streams);
  const second = [started(2), text(1, "x", 2), done(2, "x", 2)];
  const voice = [audioStarted(2), announced(2, 1), sound(2, 0, 1, 3), pieceDone(2, 1, 3), stored(2, 2)];
  const before = [announced(1, 1), sound(1, 1, 1, 9)];
  streams.say([...TEXT.slice(0, 2), ...VOICE.slice(0, 4), ...before, ...second.slice(0, 2), ...TEXT.slice(2), ...voice.slice(0, 2)]);
  streams.say([sound(1, 2, 1, 9), ...second.slice(2), ...voice.slice(2)]);
  const events = await all(reader);
  assert.deepEqual(texts(events), [...TEXT.slice(0, 2), ...second]);
  assert.deepEqual(voices(events), [...VOICE.slice(0, 4), ...before, ...voice]);
});

test("a slow reader loses nothing, and little waits for it", async (t) => {
  const streams = new Streams();
  const reader = reading(t, streams, { voice: false }, { events: 20 });
  const words = Array.from({ length: 1_000 }, (_, at) => text(at + 1, `${at} `));
  const whole = [started(1, false), ...words, done(1_001, "")];
  streams.say(whole);
  assert.ok((reader as unknown as { queue: unknown[] }).queue.length <= 20);
  const events: TurnEvent[] = [];
  for await (const event of reader) {
    events.push(event);
    if (events.length % 100 === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  }
  assert.deepEqual(events, whole);
});

test("a voice that a slow reader lets wait is bounded by its bytes", async (t) => {
  const streams = new Streams();
  const reader = reading(t, streams, { text: false, voice: true }, { bytes: 10_000 });
  const chunks = Array.from({ length: 200 }, (_, at) => sound(1, at, 0, 500));
  const whole = [audioStarted(1), announced(1, 0), ...chunks, pieceDone(1, 0, 100_000), stored(1, 1)];
  streams.say(whole);
  assert.ok((reader as unknown as { bytes: number }).bytes < 12_000);
  assert.deepEqual(await all(reader), whole);
});

test("a turn that says nothing ends with the deadline", async (t) => {
  const reader = reading(t, new Streams(), {}, { idleMs: 100 });
  await assert.rejects(all(reader), DeadlineExceeded);
});

test("a turn whose beginning is not kept any more is not found", async (t) => {
  const streams = new Streams();
  streams.say(TEXT.slice(2));
  await assert.rejects(all(reading(t, streams, { fresh: false })), NotFound);
});

test("the voice of a text that never began is not waited for long", async (t) => {
  const streams = new Streams();
  const reader = reading(t, streams);
  const failed = { type: "failed", ...ids, attempt: 1, seq: 0, error: { code: "busy", message: "", retryable: true } } as const;
  streams.say([failed]);
  assert.deepEqual(await all(reader), [failed]);
});

test("who leaves early is forgotten", async (t) => {
  const streams = new Streams();
  const reader = reading(t, streams);
  streams.say(TEXT);
  for await (const event of reader) if (event.type === "text") break;
  assert.equal(streams.listeners, 0);
});

test("what a later version says has its place and is left out", async (t) => {
  const streams = new Streams();
  const reader = reading(t, streams, { voice: false });
  streams.say([TEXT[0] as TurnEvent, { ...text(1, ""), type: "sung" } as never, done(2, "")]);
  assert.deepEqual((await all(reader)).map(({ type }) => type), ["started", "done"]);
});
