import type { Later, TextEvent, VoiceEvent } from "./events.ts";
import { Timeline } from "./timeline.ts";

/** Gives the events of a turn in order and each once, however often they come. */
export interface Order<E, Given> {
  /** Those that can be given out now. `replayed`: it comes in the order of the stream. */
  add(event: E, replayed: boolean): Given[];
  /** Something is missing: the stream has to be read. */
  readonly gap: boolean;
  readonly ended: boolean;
  /** From here on it is told in the order of the stream. */
  reread(): void;
  /** The stream told the end, and not all before it: where it has no more, that is not kept any more. */
  readonly lost: boolean;
}

export class TextOrder implements Order<TextEvent | Later, TextEvent> {
  ended = false;
  private readonly timeline = new Timeline<TextEvent | Later>();
  private end: TextEvent | null = null;

  get gap(): boolean {
    return !this.ended && this.timeline.gap;
  }

  add(event: TextEvent | Later): TextEvent[] {
    if (this.ended) return [];
    const ready = this.timeline.add(event.attempt, event.seq, event).filter(isText);
    this.ended = ready.some(isTextEnd);
    if (event.type !== "later" && isTextEnd(event) && event.attempt >= this.timeline.attempt) this.end = event;
    return ready;
  }

  reread(): void {
    // By its numbers a text is put in order wherever it comes from.
  }

  get lost(): boolean {
    return this.gap && this.end?.attempt === this.timeline.attempt;
  }
}

/**
 * Of a voice only the chunks are numbered, and pieces that were done in an earlier attempt stay: what
 * comes behind something that is missing has to wait until the stream told it.
 */
export class VoiceOrder implements Order<VoiceEvent, VoiceEvent> {
  ended = false;
  gap = false;
  private attempt = 0;
  private expected = 0; // the next chunk of this attempt
  private readonly pieces = new Map<number, { attempt: number; samples: number; done: boolean }>();
  private end: VoiceEvent | null = null; // told by the stream behind something that is missing

  add(event: VoiceEvent, replayed: boolean): VoiceEvent[] {
    if (this.ended || event.attempt < this.attempt) return [];
    if (event.attempt > this.attempt) {
      // What of the earlier attempts was done, only the stream tells.
      const first = event.type === "audio_started" && event.attempt === 1;
      if (!replayed && (this.gap || !first)) return this.miss();
      this.attempt = event.attempt;
      this.expected = 0;
      this.gap = false;
      this.end = null;
      for (const [index, piece] of [...this.pieces]) if (!piece.done) this.pieces.delete(index);
      if (event.type === "audio_started") return [event];
    }
    if (!this.gap && this.fits(event)) return this.take(event) ? [event] : [];
    if (replayed && isEnd(event)) this.end = event;
    return this.miss();
  }

  reread(): void {
    this.gap = false;
    this.end = null;
  }

  get lost(): boolean {
    return this.gap && this.end !== null;
  }

  private miss(): VoiceEvent[] {
    this.gap = true;
    return [];
  }

  /** Nothing is missing before it. */
  private fits(event: VoiceEvent): boolean {
    switch (event.type) {
      case "audio_started":
      case "audio_failed":
        return true;
      case "piece":
        return this.pieces.get(event.index)?.attempt === event.attempt || this.done(event.index);
      case "chunk": {
        if (event.seq !== this.expected) return event.seq < this.expected;
        const piece = this.pieces.get(event.piece);
        return piece !== undefined && !piece.done;
      }
      case "piece_done": {
        const piece = this.pieces.get(event.index);
        return piece !== undefined && piece.samples === event.samples;
      }
      case "stored":
        return this.done(event.pieces);
    }
  }

  /** True unless it is a repeat. */
  private take(event: VoiceEvent): boolean {
    switch (event.type) {
      case "audio_started":
        return false;
      case "piece": {
        const { index, attempt } = event;
        if (this.pieces.get(index)?.attempt === attempt) return false;
        for (const later of [...this.pieces.keys()]) if (later >= index) this.pieces.delete(later);
        this.pieces.set(index, { attempt, samples: 0, done: false });
        return true;
      }
      case "chunk": {
        if (event.seq < this.expected) return false;
        this.expected += 1;
        const piece = this.pieces.get(event.piece);
        if (piece) piece.samples += event.pcm.length;
        return true;
      }
      case "piece_done": {
        const piece = this.pieces.get(event.index);
        if (!piece || piece.done) return false;
        piece.done = true;
        return true;
      }
      default:
        this.ended = true;
        return true;
    }
  }

  /** All pieces before this one are done. */
  private done(index: number): boolean {
    for (let before = 0; before < index; before += 1) if (!this.pieces.get(before)?.done) return false;
    return true;
  }
}

function isText(event: TextEvent | Later): event is TextEvent {
  return event.type !== "later";
}

function isTextEnd({ type }: TextEvent): boolean {
  return type === "done" || type === "failed";
}

function isEnd(event: VoiceEvent): boolean {
  return event.type === "stored" || event.type === "audio_failed";
}
