import assert from "node:assert/strict";
import { test } from "node:test";

import { Voice, samples, utf16, validUntil } from "../src/voice.ts";

const ids = { conversation_id: "c", turn_id: "t" };
const announce = (voice: Voice, attempt: number, index: number, text = "x") =>
  voice.add({ kind: "piece", attempt, body: { ...ids, attempt, index, text, chars: [0, 1] } });
const sound = (voice: Voice, attempt: number, seq: number, piece: number, length: number) =>
  voice.add({ kind: "chunk", attempt, seq, piece, pcm: new Int16Array(length) });
const finish = (voice: Voice, attempt: number, index: number, length: number) =>
  voice.add({ kind: "piece_done", attempt, body: { ...ids, attempt, index, samples: length } });

test("repeats change nothing", () => {
  const voice = new Voice();
  for (let times = 0; times < 2; times += 1) {
    announce(voice, 1, 0);
    sound(voice, 1, 0, 0, 5);
    finish(voice, 1, 0, 5);
  }
  assert.equal(voice.samples, 5);
  assert.ok(!voice.doubt);
});

test("a higher attempt keeps the pieces that are done and ignores leftovers", () => {
  const voice = new Voice();
  announce(voice, 1, 0);
  sound(voice, 1, 0, 0, 5);
  finish(voice, 1, 0, 5);
  announce(voice, 1, 1);
  sound(voice, 1, 1, 1, 7);
  voice.add({ kind: "started", attempt: 2 });
  sound(voice, 1, 2, 1, 7);
  assert.deepEqual([...voice.pieces.keys()], [0]);
  announce(voice, 2, 1);
  sound(voice, 2, 0, 1, 3);
  finish(voice, 2, 1, 3);
  assert.equal(voice.samples, 8);
  assert.ok(!voice.doubt);
});

test("what was torn is doubted until a higher attempt has told it again", () => {
  const voice = new Voice();
  announce(voice, 1, 0);
  sound(voice, 1, 0, 0, 5);
  sound(voice, 1, 1, 1, 7);
  finish(voice, 1, 0, 5);
  announce(voice, 1, 1);
  assert.ok(voice.doubt);
  voice.add({ kind: "started", attempt: 2 });
  announce(voice, 2, 1);
  sound(voice, 2, 0, 1, 7);
  finish(voice, 2, 1, 7);
  assert.equal(voice.samples, 12);
  assert.ok(!voice.doubt);
});

test("whatever is missing is doubted", () => {
  const lost: ((voice: Voice) => void)[] = [
    (voice) => sound(voice, 1, 1, 0, 5), // a chunk before it
    (voice) => sound(voice, 1, 0, 1, 5), // its announcement
    (voice) => finish(voice, 1, 0, 5), // its chunks
    (voice) => announce(voice, 1, 1), // the end of the piece before it
  ];
  for (const lose of lost) {
    const voice = new Voice();
    announce(voice, 1, 0);
    lose(voice);
    assert.ok(voice.doubt, String(lose));
  }
});

test("samples are little-endian, wherever they begin", () => {
  const bytes = Uint8Array.from([9, 0x01, 0x00, 0xff, 0xff, 0x00, 0x80]).subarray(1);
  assert.deepEqual([...samples(bytes)], [1, -1, -32768]);
});

test("characters are counted as the services count them", () => {
  assert.equal(utf16("abc", 2), 2);
  assert.equal(utf16("a🌞b", 2), 3);
  assert.equal(utf16("a🌞b", 3), 4);
  assert.equal(utf16("a🌞b", 9), 4);
});

test("a presigned link says until when it is valid", () => {
  const url = "http://127.0.0.1/o?X-Amz-Date=20300102T030405Z&X-Amz-Expires=60&X-Amz-Signature=0";
  assert.equal(validUntil(url), Date.UTC(2030, 0, 2, 3, 5, 5));
  assert.equal(validUntil("http://127.0.0.1/o"), null);
});
