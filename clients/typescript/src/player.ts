import { SAMPLE_RATE } from "./contract.ts";
import type { Word } from "./contract.ts";
import { Playback } from "./playback.ts";
import type { Sink } from "./playback.ts";
import type { Spoken, Voice } from "./voice.ts";

/** How much was heard. */
export interface Heard {
  /** Milliseconds of the voice, from its beginning. */
  readonly heardMs: number;
  /** To its end: it was not stopped. */
  readonly complete: boolean;
}

/** What is being heard. */
export interface Caption {
  /** The piece; its `start` and `end` count characters (code points) of the turn's text. */
  readonly piece: Spoken;
  /** The word, where `speech.alignment` is `word` and the piece is made. */
  readonly word: Word | null;
}

export interface PlayerOptions {
  /** Something else is being heard than before; null: nothing. */
  onCaption?: ((caption: Caption | null) => void) | undefined;
}

const TICK_MS = 50;
const MOST_AHEAD = SAMPLE_RATE * 60; // of a voice that is held and was not heard yet

/** Plays one voice at a time, without gaps, while it is still being made. */
export class Player {
  onCaption: (caption: Caption | null) => void;
  private readonly playback: Playback;
  private current: { voice: Voice; tell: (heard: Heard) => void; timer: ReturnType<typeof setInterval> } | null = null;
  private waiting: (() => void)[] = [];
  private shown = "";

  constructor(
    sink: Sink,
    options: PlayerOptions = {},
  ) {
    this.playback = new Playback(sink);
    this.onCaption = options.onCaption ?? (() => undefined);
  }

  get playing(): boolean {
    return this.current !== null;
  }

  /** Milliseconds of the voice that have reached the ear. */
  get heardMs(): number {
    return (this.playback.heard() * 1_000) / SAMPLE_RATE;
  }

  /** What is being heard. */
  get caption(): Caption | null {
    const piece = this.playback.hearing();
    if (piece === null) return null;
    const at = this.heardMs;
    return { piece, word: piece.words.findLast((word) => word.start_ms <= at) ?? null };
  }

  /** Samples handed to the sink and not taken back, and how often it ran dry before the end. */
  get counts(): { scheduled: number; gaps: number } {
    const { scheduled, gaps } = this.playback;
    return { scheduled, gaps };
  }

  /** Plays it from its beginning; what played before is stopped. `Turn.play` feeds one. */
  play(voice: Voice): Promise<Heard> {
    this.stop();
    const heard = new Promise<Heard>((tell) => {
      this.current = { voice, tell, timer: setInterval(() => this.pump(), TICK_MS) };
    });
    this.playback.play(voice);
    return heard;
  }

  /** Whether it is this voice that is played. */
  plays(voice: Voice): boolean {
    return this.current?.voice === voice;
  }

  /** Hands on what came; it does so by itself now and then, too. */
  pump(): void {
    this.playback.pump();
    this.tell();
    if (this.playback.finished) this.end(true);
    for (const go of this.waiting.splice(0)) go();
  }

  /** Returns when more of a voice should be fetched: not too much of it is held. */
  async room(voice: Voice): Promise<void> {
    while (this.plays(voice) && voice.samples - this.playback.heard() > MOST_AHEAD) {
      await new Promise<void>((go) => this.waiting.push(go));
    }
  }

  /** Ends the sound at once; how much of the voice was heard, for `Turn.cancel`. */
  stop(): Heard {
    return this.end(false);
  }

  private end(complete: boolean): Heard {
    const { current } = this;
    const heard = { heardMs: Math.round(this.heardMs), complete };
    this.current = null;
    this.playback.stop();
    if (current) clearInterval(current.timer);
    this.tell();
    current?.tell(heard);
    for (const go of this.waiting.splice(0)) go();
    return heard;
  }

  private tell(): void {
    const caption = this.caption;
    const shown = caption ? `${caption.piece.index}:${caption.piece.attempt}:${caption.word?.start_ms}` : "";
    if (shown === this.shown) return;
    this.shown = shown;
    this.onCaption(caption);
  }
}
