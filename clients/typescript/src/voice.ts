import type { AudioFailed, Piece, PieceDone, Stored, Word } from "./contract.ts";
import type { VoiceEvent } from "./events.ts";

/** What is said in one breath; `start` and `end` count characters (code points) of the text. */
export interface Spoken {
  readonly index: number;
  readonly text: string;
  readonly start: number;
  readonly end: number;
  readonly attempt: number;
  /** Empty once they are not needed any more. */
  chunks: Int16Array[];
  samples: number;
  done: boolean;
  words: readonly Word[];
}

/** The voice of one turn: its pieces and their samples, from its events in order. */
export class Voice {
  readonly pieces = new Map<number, Spoken>();
  stored: Stored | null = null;
  failed: AudioFailed | null = null;
  /** No more will come: of one that was left before its end, too. */
  closed = false;
  private attempt = 0;

  get ended(): boolean {
    return this.closed || this.stored !== null || this.failed !== null;
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

  /** Those that nobody takes back. */
  finished(): Spoken[] {
    return this.inOrder().filter((piece) => piece.done);
  }

  /** The samples of the finished pieces: those of the stored object. */
  joined(): Int16Array {
    const chunks = this.finished().flatMap((piece) => piece.chunks);
    const joined = new Int16Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
    let at = 0;
    for (const chunk of chunks) {
      joined.set(chunk, at);
      at += chunk.length;
    }
    return joined;
  }

  /** Forgets the samples of the pieces before this one; what was said where stays known. */
  release(before = Infinity): void {
    for (const piece of this.pieces.values()) if (piece.index < before && piece.done) piece.chunks = [];
  }

  /** How many samples come before this piece. */
  before(index: number): number {
    let sum = 0;
    for (const piece of this.pieces.values()) if (piece.index < index) sum += piece.samples;
    return sum;
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
    if (this.ended) return;
    if (event.attempt > this.attempt) this.nextAttempt(event.attempt);
    switch (event.type) {
      case "audio_started":
        return;
      case "piece":
        return this.piece(event);
      case "chunk":
        return this.chunk(event.piece, event.pcm);
      case "piece_done":
        return this.pieceDone(event);
      case "stored":
        this.drop((piece) => piece.index >= event.pieces);
        this.stored = event;
        return;
      case "audio_failed":
        this.failed = event;
    }
  }

  /** What was not finished is said again. */
  private nextAttempt(attempt: number): void {
    this.attempt = attempt;
    this.drop((piece) => !piece.done);
  }

  private piece({ index, text, chars, attempt }: Piece): void {
    // Announced anew after it was done: the text was answered anew, the rest is said again.
    this.drop((piece) => piece.index >= index);
    const [start, end] = chars;
    this.pieces.set(index, { index, text, start, end, attempt, chunks: [], samples: 0, done: false, words: [] });
  }

  private chunk(index: number, pcm: Int16Array): void {
    const piece = this.pieces.get(index);
    if (!piece) return;
    piece.chunks.push(pcm);
    piece.samples += pcm.length;
  }

  private pieceDone({ index, words }: PieceDone): void {
    const piece = this.pieces.get(index);
    if (!piece) return;
    piece.done = true;
    piece.words = words ?? [];
  }

  private drop(which: (piece: Spoken) => boolean): void {
    for (const piece of [...this.pieces.values()]) if (which(piece)) this.pieces.delete(piece.index);
  }
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
