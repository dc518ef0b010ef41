import assert from "node:assert/strict";
import { test } from "node:test";

import type { Caption } from "../src/player.ts";
import { Player } from "../src/player.ts";
import type { VoiceEvent } from "../src/events.ts";
import type { Sink } from "../src/playback.ts";
import { Voice } from "../src/voice.ts";
import { announced, done, sound, started, stored } from "./voices.ts";

const RATE = 24_000;

class Clock implements Sink {
  clock = 0;
  now = (): number => this.clock;
  heard = (): number => this.clock;
  play = () => ({ stop: () => undefined });
}

const words = (event: VoiceEvent, ...told: [string, number, number][]): VoiceEvent =>
  ({ ...event, words: told.map(([text, start_ms, end_ms]) => ({ text, start_ms, end_ms })) }) as VoiceEvent;

/** Two seconds of two pieces of two words. */
function spoken(): Voice {
  const voice = new Voice();
  for (const event of [
    started(1),
    announced(1, 0, "one two"), sound(1, 0, 0, RATE), words(done(1, 0, RATE), ["one", 0, 400], ["two", 500, 900]),
    announced(1, 1, "three"), sound(1, 1, 1, RATE), words(done(1, 1, RATE), ["three", 1_100, 1_800]),
    stored(1, 2),
  ]) voice.add(event);
  return voice;
}

function move(player: Player, clock: Clock, ms: number): void {
  for (let passed = 0; passed < ms; passed += 50) {
    clock.clock += (RATE * 50) / 1_000;
    player.pump();
  }
}

test("captions are told by piece and word, and their end", async () => {
  const clock = new Clock();
  const told: (Caption | null)[] = [];
  const player = new Player(clock, { onCaption: (caption) => told.push(caption) });
  const heard = player.play(spoken());
  move(player, clock, 2_200);
  assert.deepEqual(
    told.map((caption) => caption && [caption.piece.text, caption.word?.text]),
    [["one two", "one"], ["one two", "two"], ["three", undefined], ["three", "three"], null],
  );
  assert.deepEqual(await heard, { heardMs: 2_000, complete: true });
});

test("who stops it is told how much was heard, and so is who waits for it", async () => {
  const clock = new Clock();
  const player = new Player(clock);
  const heard = player.play(spoken());
  move(player, clock, 1_060); // the sound begins 60 ms after it was asked for
  assert.ok(player.playing);
  const { heardMs, complete } = player.stop();
  assert.ok(!complete);
  assert.ok(Math.abs(heardMs - 1_000) < 60, String(heardMs));
  assert.deepEqual(await heard, { heardMs, complete });
  assert.deepEqual([player.playing, player.heardMs, player.caption], [false, 0, null]);
});

test("another voice stops the one that plays", async () => {
  const clock = new Clock();
  const player = new Player(clock);
  const first = player.play(spoken());
  const second = spoken();
  void player.play(second);
  assert.equal((await first).complete, false);
  assert.ok(player.plays(second));
  player.stop();
});

test("no more than a minute that was not heard is held", async () => {
  const clock = new Clock();
  const player = new Player(clock);
  const voice = new Voice();
  void player.play(voice);
  for (const event of [started(1), announced(1, 0), sound(1, 0, 0, RATE * 59)]) voice.add(event);
  await player.room(voice);
  voice.add(sound(1, 1, 0, RATE * 10));
  let room = false;
  void player.room(voice).then(() => (room = true));
  await Promise.resolve();
  assert.ok(!room);
  move(player, clock, 10_000);
  await new Promise((resolve) => setImmediate(resolve));
  assert.ok(room);
  player.stop();
});

test("what was heard is not held any longer", () => {
  const clock = new Clock();
  const player = new Player(clock);
  const voice = spoken();
  void player.play(voice);
  move(player, clock, 1_500);
  assert.deepEqual(voice.inOrder().map(({ chunks }) => chunks.length), [0, 1]);
  assert.equal(voice.samples, RATE * 2);
  player.stop();
});
