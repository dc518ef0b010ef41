import assert from "node:assert/strict";
import { test } from "node:test";

import type { VoiceEvent } from "../src/events.ts";
import { Playback } from "../src/playback.ts";
import type { Sink } from "../src/playback.ts";
import { Voice } from "../src/voice.ts";

const TIMING = { lead: 10, margin: 1, ahead: 100, part: 20 };

/** A clock that the test moves, and a record of what sounds. */
class Tape implements Sink {
  clock = 0;
  readonly parts: { at: number; pcm: Int16Array; stopped: boolean }[] = [];
  now(): number {
    return this.clock;
  }
  heard(): number {
    return this.clock;
  }
  play(pcm: Int16Array, at: number) {
    const part = { at, pcm, stopped: false };
    this.parts.push(part);
    return { stop: () => (part.stopped = part.at > this.clock || part.stopped) };
  }
  /** The samples that sounded, in order; overlaps and seams are an error. */
  get samples(): number[] {
    const sounding = this.parts.filter((part) => !part.stopped).sort((a, b) => a.at - b.at);
    let end = 0;
    return sounding.flatMap((part) => {
      assert.ok(part.at >= end, "two parts at once");
      end = part.at + part.pcm.length;
      return [...part.pcm];
    });
  }
}

const ids = { conversation_id: "c", turn_id: "t" };
const begun = (attempt: number): VoiceEvent => ({ type: "audio_started", ...ids, attempt, model: "m", voice: "v" });
const piece = (attempt: number, index: number, text = `piece ${index}`): VoiceEvent => ({
  type: "piece", ...ids, attempt, index, text, chars: [index * 10, index * 10 + 9],
});
const chunk = (attempt: number, seq: number, of: number, pcm: number[]): VoiceEvent => ({
  type: "chunk", turn_id: "t", attempt, seq, piece: of, pcm: Int16Array.from(pcm),
});
const pieceDone = (attempt: number, index: number, samples: number): VoiceEvent => ({
  type: "piece_done", ...ids, attempt, index, samples,
});
const stored = (attempt: number, pieces: number): VoiceEvent => ({
  type: "stored", ...ids, attempt, bucket: "b", key: "k", url: "http://127.0.0.1/k", content_type: "audio/wav",
  bytes: 1, sha256: "", duration_ms: 1, captions_key: null, pieces, characters: 1, finish: "complete",
});
const count = (from: number, length: number) => Array.from({ length }, (_, at) => from + at);
const fed = (voice: Voice, ...events: VoiceEvent[]) => (events.forEach((event) => voice.add(event)), voice);

function run(player: Playback, tape: Tape, until: number): void {
  while (tape.clock < until) {
    player.pump();
    tape.clock += 5;
  }
}

test("chunks of any size are put back to back", () => {
  const tape = new Tape();
  const player = new Playback(tape, TIMING);
  const voice = new Voice();
  player.play(voice);
  fed(voice, begun(1), piece(1, 0), chunk(1, 0, 0, count(0, 3)), chunk(1, 1, 0, count(3, 57)));
  player.pump();
  fed(voice, chunk(1, 2, 0, count(60, 1)), pieceDone(1, 0, 61), piece(1, 1), chunk(1, 3, 1, count(61, 200)));
  fed(voice, pieceDone(1, 1, 200), stored(1, 2));
  run(player, tape, 400);
  assert.deepEqual(tape.samples, count(0, 261));
  const last = tape.parts.at(-1);
  assert.equal(last && last.at + last.pcm.length, TIMING.lead + 261);
  assert.equal(player.scheduled, 261);
  assert.equal(player.gaps, 0);
  assert.ok(player.finished);
});

test("no more is scheduled than a while ahead", () => {
  const tape = new Tape();
  const player = new Playback(tape, TIMING);
  player.play(fed(new Voice(), piece(1, 0), chunk(1, 0, 0, count(0, 5000))));
  assert.ok(player.scheduled < TIMING.ahead + TIMING.part);
});

test("when the sound runs dry it goes on where it was", () => {
  const tape = new Tape();
  const player = new Playback(tape, TIMING);
  const voice = fed(new Voice(), piece(1, 0), chunk(1, 0, 0, count(0, 30)));
  player.play(voice);
  run(player, tape, 100);
  assert.equal(player.heard(), 30);
  fed(voice, chunk(1, 1, 0, count(30, 30)));
  run(player, tape, 200);
  assert.deepEqual(tape.samples, count(0, 60));
  assert.equal(player.gaps, 1);
});

test("what comes so late that it might be heard into what follows begins later, as after a gap", () => {
  const tape = new Tape();
  const player = new Playback(tape, { ...TIMING, margin: 4 });
  const voice = fed(new Voice(), piece(1, 0), chunk(1, 0, 0, count(0, 30)));
  player.play(voice);
  tape.clock = 37; // three samples before the first ones end
  fed(voice, chunk(1, 1, 0, count(30, 30)));
  player.pump();
  assert.deepEqual(tape.parts.map(({ at }) => at), [10, 30, 57, 77]);
  assert.equal(player.gaps, 1);
});

test("a piece that is said again goes on behind what was heard of it", () => {
  const tape = new Tape();
  const player = new Playback(tape, TIMING);
  const voice = fed(new Voice(), begun(1), piece(1, 0), chunk(1, 0, 0, count(0, 40)), pieceDone(1, 0, 40));
  fed(voice, piece(1, 1), chunk(1, 1, 1, count(40, 60)));
  player.play(voice);
  run(player, tape, 65); // in the midst of piece 1
  fed(voice, begun(2), chunk(1, 2, 1, [9, 9, 9]), piece(2, 1), chunk(2, 0, 1, count(40, 100)));
  fed(voice, pieceDone(2, 1, 100), stored(2, 2));
  run(player, tape, 300);
  assert.deepEqual(tape.samples, count(0, 140));
  assert.ok(player.finished);
});

test("what is scheduled of an unfinished piece is taken back when the next attempt starts", () => {
  const tape = new Tape();
  const player = new Playback(tape, TIMING);
  const voice = fed(new Voice(), begun(1), piece(1, 0), chunk(1, 0, 0, count(0, 100)));
  player.play(voice);
  run(player, tape, 15);
  fed(voice, begun(2));
  player.pump();
  assert.ok(tape.parts.some((part) => part.stopped));
  assert.equal(player.scheduled, 20); // what already sounded
});

test("a text answered anew is heard, what it has in common with the old one only once", () => {
  const tape = new Tape();
  const player = new Playback(tape, TIMING);
  const voice = fed(new Voice(), piece(1, 0), chunk(1, 0, 0, count(0, 10)), pieceDone(1, 0, 10));
  fed(voice, piece(1, 1, "old"), chunk(1, 1, 1, count(500, 10)), pieceDone(1, 1, 10));
  player.play(voice);
  run(player, tape, 60);
  fed(voice, begun(2), piece(2, 1, "new"), chunk(2, 0, 1, count(10, 10)), pieceDone(2, 1, 10), stored(2, 2));
  run(player, tape, 200);
  assert.deepEqual(tape.samples, [...count(0, 10), ...count(500, 10), ...count(10, 10)]);
});

test("what was heard is counted by the ear, and the piece being heard is known", () => {
  const tape = new Tape();
  const player = new Playback(tape, TIMING);
  const voice = fed(new Voice(), piece(1, 0), chunk(1, 0, 0, count(0, 40)), pieceDone(1, 0, 40), piece(1, 1));
  player.play(fed(voice, chunk(1, 1, 1, count(40, 40))));
  assert.equal(player.heard(), 0);
  assert.equal(player.hearing(), null);
  run(player, tape, 30);
  assert.equal(player.heard(), 20);
  assert.equal(player.hearing()?.index, 0);
  run(player, tape, 70);
  assert.equal(player.heard(), 60);
  assert.equal(player.hearing()?.index, 1);
  player.stop();
  assert.ok(!player.playing);
  assert.equal(player.heard(), 0);
});
