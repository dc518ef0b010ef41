import type { AudioFailed, Error as Failure, Piece, PieceDone, Stored } from "./contract.ts";
import { Timeline } from "./timeline.ts";

/** What is said in one breath; `start` and `end` count characters (code points) of the text. */
export interface Spoken {
  readonly index: number;
  readonly text: string;
  readonly start: number;
  readonly end: number;
  readonly attempt: number;
  chunks: Int16Array[];
  samples: number;
  done: boolean;
}

/** One message of `tts.audio.<c>`, taken apart. */
export type VoiceEvent =
  | { kind: "started"; attempt: number }
  | { kind: "piece"; attempt: number; body: Piece }
  | { kind: "chunk"; attempt: number; seq: number; piece: number; pcm: Int16Array }
  | { kind: "piece_done"; attempt: number; body: PieceDone }
  | { kind: "stored"; attempt: number; body: Stored }
  | { kind: "failed"; attempt: number; body: AudioFailed };

/**
 * The voice of one turn: its pieces and their samples, from events in the order of the stream.
 *
 * A repeat changes nothing. When something is missing, `doubt` is set: then the stream has to be
 * read again into a new one.
 */
export class Voice {
  readonly pieces = new Map<number, Spoken>();
  stored: Stored | null = null;
  error: Failure | null = null;
  private missed = false;
  private readonly timeline = new Timeline<{ piece: number; pcm: Int16Array }>();

  get attempt(): number {
    return this.timeline.attempt;
  }

  get ended(): boolean {
    return this.stored !== null || this.error !== null;
  }

  get doubt(): boolean {
    return this.missed || this.timeline.gap;
  }

  get samples(): number {
    let sum = 0;
    for (const piece of this.pieces.values()) sum += piece.samples;
    return sum;
  }

  /** The pieces in the order in which they are heard. */
  inOrder(): Spoken[] {
    return [...this.pieces.values()].sort((a, b) => a.index - b.index);
  }

  /** Forgets the samples themselves; what was said where stays known. */
  release(): void {
    for (const piece of this.pieces.values()) piece.chunks = [];
  }

  /** The piece that is heard after so many samples of the whole. */
  pieceAt(heard: number): Spoken | null {
    let before = 0;
    for (const piece of this.inOrder()) {
      before += piece.samples;
      if (heard < before) return piece;
    }
    return null;
  }

  add(event: VoiceEvent): void {
    if (this.ended || event.attempt < this.attempt) return;
    if (event.attempt > this.attempt) this.nextAttempt(event.attempt);
    switch (event.kind) {
      case "started":
        return;
      case "piece":
        return this.piece(event.body);
      case "chunk":
        for (const ready of this.timeline.add(event.attempt, event.seq, event)) {
          this.chunk(ready.piece, ready.pcm);
        }
        return;
      case "piece_done":
        return this.pieceDone(event.body);
      case "stored":
        return this.end(event.body);
      case "failed":
        this.error = event.body.error;
    }
  }

  /** What was not finished is said again, and so is whatever was missed of it. */
  private nextAttempt(attempt: number): void {
    this.timeline.restart(attempt);
    this.missed = false;
    for (const piece of [...this.pieces.values()]) {
      if (!piece.done) this.pieces.delete(piece.index);
    }
  }

  private piece({ index, text, chars, attempt }: Piece): void {
    if (this.pieces.get(index)?.attempt === attempt) return;
    // Announced anew after it was done: the text was answered anew, the rest is said again.
    for (const later of [...this.pieces.keys()]) if (later >= index) this.pieces.delete(later);
    for (let before = 0; before < index; before += 1) {
      if (!this.pieces.get(before)?.done) this.missed = true;
    }
    const [start, end] = chars;
    const spoken = { index, text, start, end, attempt, chunks: [], samples: 0, done: false };
    this.pieces.set(index, spoken);
  }

  private chunk(index: number, pcm: Int16Array): void {
    const piece = this.pieces.get(index);
    if (!piece || piece.done) {
      this.missed = true;
      return;
    }
    piece.chunks.push(pcm);
    piece.samples += pcm.length;
  }

  private pieceDone({ index, samples }: PieceDone): void {
    const piece = this.pieces.get(index);
    if (piece?.samples === samples) piece.done = true;
    else this.missed = true;
  }

  private end(stored: Stored): void {
    for (const index of [...this.pieces.keys()]) {
      if (index >= stored.pieces) this.pieces.delete(index);
    }
    const whole = this.inOrder().filter((piece) => piece.done).length === stored.pieces;
    if (whole) this.stored = stored;
    else this.missed = true;
  }
}

/** Little-endian, whatever the machine is; a copy, for the bytes of a message are not aligned. */
export function samples(bytes: Uint8Array): Int16Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const found = new Int16Array(bytes.byteLength >> 1);
  for (let at = 0; at < found.length; at += 1) found[at] = view.getInt16(at * 2, true);
  return found;
}

/** Until when a presigned link is valid, in milliseconds since 1970; null where it does not say. */
export function validUntil(url: string): number | null {
  const query = new URL(url).searchParams;
  const signed = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(query.get("X-Amz-Date") ?? "");
  const seconds = Number(query.get("X-Amz-Expires") ?? NaN);
  if (!signed || Number.isNaN(seconds)) return null;
  const [year, month, day, hour, minute, second] = signed.slice(1).map(Number) as [
    number, number, number, number, number, number,
  ];
  return Date.UTC(year, month - 1, day, hour, minute, second) + seconds * 1000;
}

/** Where character `count` (in code points, as `chars` counts) stands in a string's UTF-16. */
export function utf16(text: string, count: number): number {
  if (!/[\ud800-\udbff]/.test(text)) return Math.min(count, text.length);
  let at = 0;
  for (let left = count; left > 0 && at < text.length; left -= 1) {
    at += (text.codePointAt(at) as number) > 0xffff ? 2 : 1;
  }
  return at;
}
