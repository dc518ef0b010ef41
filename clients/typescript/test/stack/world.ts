/** What the programs of this folder share; tests/e2e/test_typescript.py starts a stack and runs them. */
import assert from "node:assert/strict";

import { Parley, Voice, isVoice } from "../../src/node.ts";
import type { ConnectOptions, TurnEvent } from "../../src/node.ts";

const DEADLINE_MS = 90_000;

setTimeout(() => {
  console.error("not done in time");
  process.exit(3);
}, DEADLINE_MS).unref();

export function given(name: string): string {
  const value = process.env[name];
  assert.ok(value, `${name} is not set`);
  return value;
}

export async function connect(options: ConnectOptions = {}): Promise<Parley> {
  return await Parley.connect(given("NATS_URL"), options);
}

/** Tells who started this program that it has come so far. */
export function reached(what: string): void {
  process.stdout.write(`${what}\n`);
}

/** Each event once, in order, without a gap; its text and its voice. */
export function assertWhole(events: readonly TurnEvent[]): { text: string; pcm: Int16Array } {
  const voice = new Voice();
  let [attempt, seq, text] = [0, 0, ""];
  let [voiceAttempt, chunk] = [0, 0];
  for (const event of events) {
    if (isVoice(event)) {
      assert.ok(event.attempt >= voiceAttempt, "a leftover");
      if (event.attempt > voiceAttempt) [voiceAttempt, chunk] = [event.attempt, 0];
      if (event.type === "chunk") assert.equal(event.seq, chunk++);
      if (event.type === "piece_done") assert.equal(voice.pieces.get(event.index)?.samples, event.samples);
      voice.add(event);
      continue;
    }
    assert.ok(event.attempt >= attempt, "a leftover");
    if (event.attempt > attempt) [attempt, seq, text] = [event.attempt, 0, ""];
    assert.equal(event.seq, seq++);
    if (event.type === "text") text += event.text;
    if (event.type === "done") assert.equal(event.text, text);
  }
  return { text, pcm: voice.joined() };
}

/** The samples of a WAV file that was fetched or written. */
export function pcmOf(file: Uint8Array): Int16Array {
  assert.equal(new TextDecoder().decode(file.subarray(0, 4)), "RIFF");
  return new Int16Array(Uint8Array.from(file.subarray(44)).buffer);
}
