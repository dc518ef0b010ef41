import { CHAT_CANCEL, TTS_LINK } from "./contract.ts";
import type { Asked, AudioFailed, CancelRequest, Done, Failed, Link } from "./contract.ts";
import type { Connection } from "./connection.ts";
import { fromError, internal, invalidRequest, notFound, unreachable } from "./errors.ts";
import { isVoice } from "./events.ts";
import type { TurnEvent } from "./events.ts";
import type { Heard, Player } from "./player.ts";
import { START, covers, following } from "./position.ts";
import type { Position } from "./position.ts";
import { LIMITS, Reader } from "./reader.ts";
import type { Limits, Starts } from "./reader.ts";
import { Voice } from "./voice.ts";
import { littleEndian, wav } from "./wav.ts";

const FETCH_MS = 60_000;
const CONTENT_TYPES: Readonly<Record<string, string>> = {
  ".wav": "audio/wav",
  ".flac": "audio/flac",
  ".mp3": "audio/mpeg",
  ".opus": "audio/ogg",
  ".ogg": "audio/ogg",
  ".aac": "audio/aac",
  ".pcm": "audio/pcm",
};

/** What only one of Node and browsers can do. */
export interface Platform {
  writeFile(path: string, bytes: Uint8Array): Promise<void>;
}

export interface TurnFacts {
  conversation: string;
  turn: string;
  /** `say` has none. */
  text: boolean;
  /** Whether a voice was asked for; null: its events tell. */
  voice: boolean | null;
  after?: Position | undefined;
  limits?: Partial<Limits> | undefined;
}

/**
 * Give it to `for await`, any number of times: each time it is told from its beginning.
 *
 * An iteration that ends without an exception is a turn, text and voice, that came to a good end.
 */
export class Turn implements AsyncIterable<TurnEvent> {
  readonly conversationId: string;
  readonly turnId: string;
  private readonly asking: Promise<Asked | null>;
  private readonly readers = new Set<Reader>();
  private sent = false;
  private readonly from: Starts;
  private reached: Position | null = null;
  private playing: { player: Player; voice: Voice } | null = null;
  private played: number | null = null;

  constructor(
    private readonly connection: Connection,
    private readonly platform: Platform,
    private readonly facts: TurnFacts,
    ask: (() => Promise<Asked>) | null,
  ) {
    this.conversationId = facts.conversation;
    this.turnId = facts.turn;
    this.sent = ask === null;
    this.from = ask === null ? { delta: 1, audio: 1 } : connection.known.behind(facts.conversation);
    this.asking = ask === null ? Promise.resolve(null) : this.ask(ask);
    this.asking.catch(() => undefined); // who reads the turn is told
  }

  private async ask(ask: () => Promise<Asked>): Promise<Asked> {
    await Promise.resolve(); // who reads it from the start listens before it is asked
    this.sent = true;
    const asked = await ask();
    // Known before: what it has said by now nobody tells again.
    if (asked.state !== "queued") {
      Object.assign(this.from, { delta: 1, audio: 1 });
      for (const reader of this.readers) reader.fromStart();
    }
    return asked;
  }

  /**
   * What the services say to the request: `state` is `queued`, or of a turn id that is known already
   * `running` or `ended`. Null where nothing was asked.
   *
   * Throws `Busy`, `InvalidRequest`, `TooLarge`, `StorageUnavailable`, `Unauthorized`,
   * `DeadlineExceeded` where nobody answered.
   */
  accepted(): Promise<Asked | null> {
    return this.asking;
  }

  /** How far the newest iteration has come, for `follow` with `after`; null before the first. */
  get position(): Position | null {
    return this.reached;
  }

  // ---------------------------------------------------------------- its events

  /** All events, then what failed of the turn, as an exception. */
  async *[Symbol.asyncIterator](): AsyncGenerator<TurnEvent, void, undefined> {
    let failed: Failed | AudioFailed | null = null;
    for await (const event of this.events()) {
      if (event.type === "failed" || event.type === "audio_failed") failed ??= event;
      yield event;
    }
    if (failed !== null) throw fromError(failed.error);
  }

  /**
   * The events of text and voice, each once and in order, from the beginning to the end; a failure of
   * the turn is an event like any other here.
   *
   * Throws `DeadlineExceeded` where nothing came for `idleMs`, `Unreachable` where the connection was
   * closed, `Unauthorized`, and what `accepted` throws.
   */
  events(): AsyncGenerator<TurnEvent, void, undefined> {
    return this.behind(this.facts.after);
  }

  /** What comes after a position. */
  private async *behind(after: Position | undefined): AsyncGenerator<TurnEvent, void, undefined> {
    let reached = START;
    for await (const event of this.read(this.facts.voice)) {
      reached = following(reached, event);
      this.reached = reached;
      if (after === undefined || !covers(after, event, reached)) yield event;
    }
  }

  private read(voice: boolean | null): Reader {
    const { conversation, turn, text, limits } = this.facts;
    const wanted = { conversation, turn, text, voice, fresh: !this.sent, from: this.from };
    const reader = new Reader(this.connection, wanted, { ...LIMITS, ...limits });
    this.readers.add(reader);
    const forget = this.connection.onClosed(() => reader.close(unreachable("the connection was closed")));
    reader.onClose(() => {
      forget();
      this.readers.delete(reader);
    });
    void this.asking.catch((why: Error) => reader.close(why));
    return reader;
  }

  // ---------------------------------------------------------------- the text

  /** All of the answer, as soon as it is complete; the voice is not waited for. Throws where it failed. */
  async text(): Promise<string> {
    return (await this.done()).text;
  }

  /** The text's end, with what it cost. Throws where it failed. */
  async done(): Promise<Done> {
    for await (const event of this.read(false)) {
      if (event.type === "done") return event;
      if (event.type === "failed") throw fromError(event.error);
    }
    throw notFound("the turn has no text");
  }

  // ---------------------------------------------------------------- the voice

  /** The samples of the whole voice: mono, 24,000 a second. Throws as an iteration does. */
  async voice(): Promise<Int16Array> {
    const voice = new Voice();
    await this.collect(voice);
    return voice.joined();
  }

  /** All of the voice into one that can be looked at meanwhile. Throws as an iteration does. */
  async collect(voice: Voice): Promise<void> {
    try {
      for await (const event of this) if (isVoice(event)) voice.add(event);
    } finally {
      voice.closed = true;
    }
  }

  /**
   * The voice as a file, once it is complete; in Node it is written to `path`.
   *
   * A WAV file is made of what was heard, and so is `.pcm`; any other suffix of `path` (`.mp3`,
   * `.flac`, `.opus`, `.ogg`, `.aac`) takes the stored object, of the format that `speech.format` asked
   * for. Throws `NotFound` where nothing was spoken, `InvalidRequest` where the object has another
   * format than the suffix says, and as an iteration does.
   */
  async save(path = ""): Promise<Blob> {
    const voice = new Voice();
    await this.collect(voice);
    const suffix = /\.\w+$/.exec(path)?.[0].toLowerCase() ?? ".wav";
    const file = await this.file(voice, suffix);
    if (path) await this.platform.writeFile(path, file);
    return new Blob([file], { type: CONTENT_TYPES[suffix] ?? "" });
  }

  private async file(voice: Voice, suffix: string): Promise<Uint8Array<ArrayBuffer>> {
    const wanted = CONTENT_TYPES[suffix];
    if (wanted === undefined) throw invalidRequest(`${suffix} is none of ${Object.keys(CONTENT_TYPES).join(", ")}`);
    if (!voice.stored?.key) throw notFound("nothing was spoken");
    if (suffix === ".wav") return wav([voice.joined()]);
    if (suffix === ".pcm") return littleEndian(voice.joined());
    const { content_type } = voice.stored;
    if (content_type !== wanted) throw invalidRequest(`the voice is ${content_type}, not ${wanted}: speech.format`);
    const { url } = await this.link();
    const answer = await fetch(url, { signal: AbortSignal.timeout(FETCH_MS) });
    if (!answer.ok) throw internal(`the stored voice cannot be had: status ${answer.status}`);
    return new Uint8Array(await answer.arrayBuffer());
  }

  /**
   * Plays the voice while it is being made; returns when it was heard to its end, or stopped. Nothing
   * is heard twice.
   *
   * Throws as an iteration does, after what there is was heard.
   */
  async play(player: Player): Promise<Heard> {
    const voice = new Voice();
    const events = this.read(this.facts.voice);
    const heard = player.play(voice);
    const playing = (this.playing = { player, voice });
    void heard.then(({ heardMs }) => {
      this.played = heardMs;
      void events.return();
    });
    let why: unknown = null;
    try {
      for await (const event of events) {
        if (isVoice(event)) voice.add(event);
        if (event.type === "failed" || event.type === "audio_failed") why ??= fromError(event.error);
        if (events.waits === 0) player.pump(); // what is there is scheduled as one
        await player.room(voice);
      }
    } catch (error) {
      why ??= error;
    }
    voice.closed = true;
    player.pump();
    const result = await heard;
    if (this.playing === playing) this.playing = null;
    if (result.complete && why !== null) throw why;
    return result;
  }

  /** Milliseconds of the voice that `play` has played; null where it did not. */
  get heardMs(): number | null {
    const { player, voice } = this.playing ?? {};
    return voice && player?.plays(voice) ? Math.round(player.heardMs) : this.played;
  }

  // ---------------------------------------------------------------- what else can be done

  /**
   * Stops the turn, its text and its voice; of one that has ended nothing is stopped.
   *
   * `heardMs`: how much of the voice the listener heard; the history then keeps what was heard. Without
   * it, what `play` has played, which is stopped; where nothing was played, the history keeps all that
   * was said. Throws `Unauthorized`, `Unreachable`, and what `accepted` throws.
   */
  async cancel(options: { heardMs?: number | undefined } = {}): Promise<void> {
    const { player, voice } = this.playing ?? {};
    if (voice && player?.plays(voice)) this.played = player.stop().heardMs;
    await this.asking;
    const heardMs = options.heardMs ?? this.played;
    const body: CancelRequest = {
      conversation_id: this.conversationId,
      turn_id: this.turnId,
      ...(heardMs === null ? {} : { heard_ms: Math.round(heardMs) }),
    };
    await this.connection.request(`${CHAT_CANCEL}.${this.conversationId}`, body);
  }

  /** Where the stored voice is, freshly signed. Throws `NotFound` where there is none. */
  async link(): Promise<Link> {
    return await this.connection.request<Link>(`${TTS_LINK}.${this.conversationId}`, { turn_id: this.turnId });
  }
}

