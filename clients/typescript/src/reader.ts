import { CHAT_DELTA, H_SEQUENCE, TTS_AUDIO } from "./contract.ts";
import type { ReplayRequest } from "./contract.ts";
import { ParleyError, Unauthorized, deadlineExceeded, notFound, unreachable } from "./errors.ts";
import { textEvent, turnOf, voiceEvent } from "./events.ts";
import type { Incoming, TurnEvent } from "./events.ts";
import { TextOrder, VoiceOrder } from "./order.ts";
import type { Order } from "./order.ts";

/** What a reader needs of a connection. */
export interface Source {
  readonly connected: boolean;
  /** Live messages from now on, over every reconnect; `denied` where that is not allowed. */
  subscribe(subject: string, take: (message: Incoming) => void, denied: (why: Unauthorized) => void): () => void;
  /**
   * What the stream has, oldest first, until `take` returns false: true where that was all of it.
   * Throws when it does not come in time.
   */
  replay(conversation: string, wanted: ReplayRequest, take: (message: Incoming) => boolean): Promise<boolean>;
  /** Called after each connect and reconnect. */
  onConnected(listener: () => void): () => void;
}

/** Bounds and deadlines, in milliseconds, events and bytes. */
export interface Limits {
  /** Nothing new for so long ends the reading with `DeadlineExceeded`. */
  idleMs: number;
  /** After so long without anything the stream is asked; each further time after twice as long. */
  quietMs: number;
  /** What overtook the store is there after this long. */
  gapMs: number;
  /** How long the end of a voice is waited for whose text never began. */
  afterMs: number;
  /** The most that waits for a slow reader: what comes then is read back from the stream. */
  events: number;
  bytes: number;
}

export const LIMITS: Limits = {
  idleMs: 120_000,
  quietMs: 3_000,
  gapMs: 60,
  afterMs: 5_000,
  events: 1_024,
  bytes: 4 * 1024 * 1024,
};
const MOST_QUIET = 8; // times quietMs
const LOST_AFTER = 3; // readings of all there is that left the same gap
const MOST_DOUBLED = 6; // times that a pause is doubled

/** Stream sequences. */
export interface Starts {
  delta: number;
  audio: number;
}

export interface Wanted {
  conversation: string;
  turn: string;
  /** `say` has no text that could be followed. */
  text: boolean;
  /** Whether a voice was asked for; null: `started` tells. */
  voice: boolean | null;
  /** Nothing of the turn is in the streams yet. */
  fresh: boolean;
  /** Where in the streams it begins at the earliest. */
  from: Starts;
}

/** The live messages of a subject and its past in the stream, as one. */
interface Track {
  readonly what: "delta" | "audio";
  readonly decode: (message: Incoming) => { turn_id: string } | null;
  readonly order: Order<never, TurnEvent>;
  from: number; // where the stream is read on: everything before it was given out
  due: boolean; // to be read
  reading: boolean;
  held: Incoming[]; // what comes live meanwhile
  lost: boolean; // it had more than what may be held
  stuck: number; // readings of all there is that left the same gap
  failures: number; // readings in a row that came to nothing
  silent: boolean; // it has told nothing yet
  quiet: number; // times quietMs
  idle: number; // ms without anything new, or since it was last looked for
  timer: ReturnType<typeof setTimeout> | null;
}

/** The events of one turn, in order and without a gap: live, and from the stream where that is not enough. */
export class Reader implements AsyncIterableIterator<TurnEvent> {
  private readonly text: Track | null;
  private readonly voice: Track | null;
  private readonly queue: TurnEvent[] = [];
  private bytes = 0;
  private voiced: boolean | null;
  private why: Error | null = null; // it ends before the turn does
  private over = false;
  private idle = 0; // ms without anything new
  private wordless = false; // its voice has ended, and there is no text: it was only spoken
  private waiting: (() => void)[] = [];
  private readonly ends: (() => void)[] = [];

  constructor(
    private readonly source: Source,
    private readonly wanted: Wanted,
    private readonly limits: Limits = LIMITS,
  ) {
    this.voiced = wanted.voice;
    this.text = wanted.text ? this.track("delta", textEvent, new TextOrder()) : null;
    this.voice = wanted.voice === false ? null : this.track("audio", voiceEvent, new VoiceOrder());
    for (const track of this.tracks) this.follow(track);
    this.ends.push(source.onConnected(() => this.again()));
    // Counted, not read from a clock: a machine that sleeps hears nothing meanwhile.
    const period = Math.min(1_000, limits.quietMs / 2);
    const timer = setInterval(() => this.look(period), period);
    this.ends.push(() => clearInterval(timer));
    if (!wanted.fresh) this.again();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<TurnEvent, undefined>> {
    for (;;) {
      const event = this.queue.shift();
      if (event !== undefined) {
        this.bytes -= size(event);
        this.drained();
        return { done: false, value: event };
      }
      if (this.over || this.finished) {
        this.close();
        if (this.why !== null) throw this.why;
        return { done: true, value: undefined };
      }
      await new Promise<void>((resolve) => this.waiting.push(resolve));
    }
  }

  /** How many events `next` has at once. */
  get waits(): number {
    return this.queue.length;
  }

  async return(): Promise<IteratorResult<TurnEvent, undefined>> {
    this.close();
    return { done: true, value: undefined };
  }

  /** The streams may hold something of the turn that nobody told: they are read. */
  again(): void {
    for (const track of this.tracks) this.due(track, 0);
  }

  /** The turn is older than was thought. */
  fromStart(): void {
    for (const track of this.tracks) track.from = 1;
    this.again();
  }

  /** Ends the reading; whoever waits is told `why`. */
  close(why: Error | null = null): void {
    if (this.over) return;
    this.over = true;
    this.why ??= why;
    this.queue.length = why ? 0 : this.queue.length;
    for (const end of this.ends.splice(0)) end();
    for (const track of this.tracks) if (track.timer) clearTimeout(track.timer);
    this.wake();
  }

  onClose(listener: () => void): void {
    this.ends.push(listener);
  }

  private get tracks(): Track[] {
    return [this.text, this.voice].filter((track) => track !== null);
  }

  private get full(): boolean {
    return this.queue.length >= this.limits.events || this.bytes >= this.limits.bytes;
  }

  private get finished(): boolean {
    const said = this.text === null || this.text.order.ended || this.wordless;
    return said && (this.voiced === false || this.voice === null || this.voice.order.ended);
  }

  private track(what: Track["what"], decode: Track["decode"], order: TextOrder | VoiceOrder): Track {
    const state = { from: this.wanted.from[what], due: false, reading: false, held: [], lost: false, stuck: 0, failures: 0, silent: true, quiet: 1 };
    return { what, decode, order, ...state, idle: 0, timer: null };
  }

  private follow(track: Track): void {
    const subject = track.what === "delta" ? CHAT_DELTA : TTS_AUDIO;
    const take = (message: Incoming): void => this.live(track, message);
    this.ends.push(this.source.subscribe(`${subject}.${this.wanted.conversation}`, take, (why) => this.close(why)));
  }

  // ---------------------------------------------------------------- live

  private live(track: Track, message: Incoming): void {
    const turn = turnOf(message);
    if (track.order.ended || (turn !== null && turn !== this.wanted.turn)) return;
    if (this.full) this.due(track, this.limits.gapMs);
    if (!track.due && !track.reading) {
      this.take(track, message, false);
      if (track.order.gap) this.due(track, this.limits.gapMs);
    } else if (!this.full && track.held.length < this.limits.events) track.held.push(message);
    else track.lost = true;
  }

  private take(track: Track, message: Incoming, replayed: boolean): void {
    const event = track.decode(message);
    if (event?.turn_id !== this.wanted.turn) return;
    this.give(track, track.order.add(event as never, replayed));
  }

  private give(track: Track, events: TurnEvent[]): void {
    if (!events.length) return;
    this.idle = track.idle = 0;
    track.quiet = 1;
    track.stuck = 0;
    track.silent = false;
    for (const event of events) {
      if (event.type === "started") this.voiced = event.speech !== false;
      if (event.type === "failed" && this.voiced !== false) this.expectEndOfVoice();
      this.queue.push(event);
      this.bytes += size(event);
    }
    if (this.text?.silent && this.voice?.order.ended) this.due(this.text, 0);
    this.wake();
  }

  /** A text that failed may have had no voice at all. */
  private expectEndOfVoice(): void {
    const timer = setTimeout(() => {
      this.voiced = false;
      this.wake();
    }, this.limits.afterMs);
    this.ends.push(() => clearTimeout(timer));
  }

  private wake(): void {
    for (const resolve of this.waiting.splice(0)) resolve();
  }

  // ---------------------------------------------------------------- from the stream

  private due(track: Track, ms: number): void {
    if (track.order.ended || this.over) return;
    track.due = true;
    if (track.timer !== null && ms > 0) return;
    if (track.timer !== null) clearTimeout(track.timer);
    track.timer = setTimeout(() => {
      track.timer = null;
      void this.read(track);
    }, ms);
  }

  /** There is room again for what had none. */
  private drained(): void {
    if (this.queue.length > this.limits.events / 2 || this.bytes > this.limits.bytes / 2) return;
    for (const track of this.tracks) if (track.due && !track.reading && track.timer === null) this.due(track, 0);
  }

  /** Now and then: a silence may be a loss. */
  private look(period: number): void {
    if (this.queue.length) {
      this.idle = 0; // it is the reader that is slow
      return;
    }
    const { idleMs, quietMs } = this.limits;
    this.idle += period;
    if (this.idle > idleMs) return this.close(this.late(idleMs / 1_000));
    for (const track of this.tracks) {
      track.idle += period;
      if (track.idle < quietMs * track.quiet || track.reading) continue;
      track.idle = 0;
      track.quiet = Math.min(track.quiet * 2, MOST_QUIET);
      this.due(track, 0);
    }
  }

  private late(seconds: number): ParleyError {
    return this.source.connected
      ? deadlineExceeded(`the turn said nothing for ${seconds} s`)
      : unreachable(`there was no connection for ${seconds} s`);
  }

  private async read(track: Track): Promise<void> {
    if (track.reading || this.full || !this.source.connected) return; // it stays due
    track.reading = true;
    track.due = track.lost = false;
    let all = false;
    try {
      all = await this.replay(track);
      track.failures = 0;
    } catch (error) {
      if (!(error instanceof ParleyError) || error instanceof Unauthorized) return this.close(error as Error);
      track.lost = true; // it is read again
      track.failures += 1;
    }
    track.reading = false;
    if (all && track === this.text && track.silent && this.voice?.order.ended) {
      this.wordless = true;
      return this.wake();
    }
    if (this.over || track.order.ended) return;
    if (all && track.order.gap) track.stuck += 1;
    if (track.order.lost && track.stuck >= LOST_AFTER) {
      return this.close(notFound("a part of this turn is no longer kept; the history has its text"));
    }
    for (const message of track.held.splice(0)) {
      if (this.full) track.lost = true;
      else this.take(track, message, false);
    }
    if (!track.lost && !track.due && !track.order.gap) return;
    this.due(track, this.limits.gapMs * 2 ** Math.min(track.stuck + track.failures, MOST_DOUBLED));
  }

  private async replay(track: Track): Promise<boolean> {
    track.order.reread();
    const wanted: ReplayRequest = { what: track.what, turn_id: this.wanted.turn, from: track.from };
    return this.source.replay(this.wanted.conversation, wanted, (message) => {
      if (this.over || track.order.ended) return false;
      if (this.full) {
        track.lost = true;
        return false;
      }
      this.take(track, message, true);
      if (!track.order.gap) track.from = Number(message.headers?.get(H_SEQUENCE)) + 1;
      return true;
    });
  }
}

/** About what it holds. */
function size(event: TurnEvent): number {
  return event.type === "chunk" ? event.pcm.byteLength + 200 : 500;
}
