import type { Spoken, Voice } from "./voice.ts";

/** What plays samples; all times are whole samples (frames) of its clock. */
export interface Sink {
  /** The clock by which `play` is told when. */
  now(): number;
  /** The same clock as it reaches the ear: behind by the latency of the output. */
  heard(): number;
  play(pcm: Int16Array, at: number): Sounding;
}

export interface Sounding {
  stop(): void;
}

interface Part {
  readonly key: string;
  readonly index: number;
  readonly attempt: number;
  readonly offset: number; // within the piece
  readonly length: number;
  readonly at: number;
  readonly sounding: Sounding;
}

export interface Timing {
  lead: number; // what a sound that begins now begins later, so that it is not late
  margin: number; // what begins sooner than this is too late: it would be heard into what follows
  ahead: number; // how far the schedule runs before the clock
  part: number; // the most that is scheduled as one: what is dropped ends after so much
}

const RATE = 24_000;
export const TIMING: Timing = { lead: RATE * 0.06, margin: RATE * 0.01, ahead: RATE * 8, part: RATE * 0.5 };

/**
 * Plays one voice without gaps, while it is still being made.
 *
 * Chunks are put back to back. When a piece is said again (a higher attempt), what was not played
 * of it is dropped, and it goes on behind what was: nothing is heard twice.
 */
export class Playback {
  /** Samples handed to the sink and not taken back. */
  scheduled = 0;
  /** How often the sound ran dry before the end of the voice. */
  gaps = 0;
  private voice: Voice | null = null;
  private readonly taken = new Map<string, number>();
  private parts: Part[] = [];
  private cursor = 0;
  private begun = false;

  constructor(
    private readonly sink: Sink,
    private readonly timing: Timing = TIMING,
  ) {}

  plays(voice: Voice): boolean {
    return this.voice === voice;
  }

  get playing(): boolean {
    return this.voice !== null;
  }

  /** Plays this voice from its beginning; what sounded before is stopped. */
  play(voice: Voice): void {
    this.stop();
    this.taken.clear();
    this.scheduled = this.gaps = 0;
    this.begun = false;
    this.voice = voice;
    this.pump();
  }

  /** Schedules what can be; to be called when something came, and now and then. */
  pump(): void {
    const voice = this.voice;
    if (voice === null) return;
    this.drop(voice);
    while (this.cursor - this.sink.now() < this.timing.ahead) {
      const next = this.next(voice);
      if (next === null) break;
      const now = this.sink.now();
      if (this.cursor < now + this.timing.margin) {
        if (this.begun) this.gaps += 1;
        // Where it ran dry once, more is collected first, lest it runs dry at each chunk.
        this.cursor = now + this.timing.lead * Math.min(1 + this.gaps, 6);
      }
      this.begun = true;
      const { piece, offset, pcm } = next;
      const sounding = this.sink.play(pcm, this.cursor);
      const { index, attempt } = piece;
      const length = pcm.length;
      const key = identity(piece);
      this.parts.push({ key, index, attempt, offset, length, at: this.cursor, sounding });
      this.taken.set(key, offset + length);
      this.cursor += length;
      this.scheduled += length;
    }
    this.forget(voice);
  }

  /** True when everything there is has been heard and nothing more will come. */
  get finished(): boolean {
    const voice = this.voice;
    return voice !== null && voice.ended && this.next(voice) === null && this.sink.heard() >= this.cursor;
  }

  /** Ends the sound at once. */
  stop(): void {
    const now = this.sink.now();
    for (const part of this.parts) if (part.at + part.length > now) part.sounding.stop();
    this.parts = [];
    this.cursor = 0;
    this.voice = null;
  }

  /** How many samples of the voice have reached the ear. */
  heard(): number {
    const part = this.current();
    if (part === null || this.voice === null) return 0;
    return this.voice.before(part.index) + part.offset + Math.min(this.sink.heard() - part.at, part.length);
  }

  /** The piece that is being heard. */
  hearing(): Spoken | null {
    const part = this.current();
    const piece = part && this.voice?.pieces.get(part.index);
    return piece && identity(piece) === part.key ? piece : null;
  }

  private current(): Part | null {
    const heard = this.sink.heard();
    let found: Part | null = null;
    for (const part of this.parts) if (part.at <= heard) found = part;
    return found;
  }

  /** Takes back what is scheduled of pieces that will be said again, or are no more. */
  private drop(voice: Voice): void {
    const now = this.sink.now();
    const stale = (part: Part): boolean => {
      const piece = voice.pieces.get(part.index);
      return !piece || piece.attempt !== part.attempt || identity(piece) !== part.key;
    };
    const first = this.parts.findIndex((part) => part.at > now && stale(part));
    if (first < 0) return;
    for (const part of this.parts.splice(first)) {
      part.sounding.stop();
      this.taken.set(part.key, Math.min(part.offset, this.taken.get(part.key) ?? 0));
      this.scheduled -= part.length;
      this.cursor = Math.min(this.cursor, part.at);
    }
  }

  /** The next samples to be heard; null when none are there yet, or all are taken. */
  private next(voice: Voice): { piece: Spoken; offset: number; pcm: Int16Array } | null {
    for (const piece of voice.inOrder()) {
      const offset = this.taken.get(identity(piece)) ?? 0;
      if (offset < piece.samples) {
        const pcm = cut(piece.chunks, offset, this.timing.part);
        return pcm.length ? { piece, offset, pcm } : null;
      }
      if (!piece.done) return null;
    }
    return null;
  }

  /** Keeps the past only as far as the ear is behind, and no samples that were heard. */
  private forget(voice: Voice): void {
    const heard = this.sink.heard();
    voice.release(this.current()?.index ?? 0);
    const keep = this.parts.findIndex((part) => part.at + part.length > heard);
    if (keep > 1) this.parts.splice(0, keep - 1);
    else if (keep < 0 && this.parts.length > 1) this.parts.splice(0, this.parts.length - 1);
  }
}

/** A piece is the same piece when it says the same part of the text in the same words. */
function identity(piece: Spoken): string {
  return `${piece.index}:${piece.start}:${piece.end}:${piece.text}`;
}

/** From `offset` on, at most `most` samples, of chunks that lie one behind the other. */
function cut(chunks: Int16Array[], offset: number, most: number): Int16Array {
  const parts: Int16Array[] = [];
  let length = 0;
  let before = 0;
  for (const chunk of chunks) {
    const from = Math.max(offset - before, 0);
    before += chunk.length;
    if (from >= chunk.length) continue;
    const part = chunk.subarray(from, from + most - length);
    parts.push(part);
    length += part.length;
    if (length >= most) break;
  }
  const joined = new Int16Array(length);
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}
