import type { Msg } from "@nats-io/nats-core";

import type { Bus } from "./bus.ts";
import {
  CHAT_CANCEL,
  CHAT_DELTA,
  CHAT_DELTAS_STREAM,
  CHAT_REQUEST,
  H_ATTEMPT,
  H_PIECE,
  H_SEQ,
  H_TURN,
  H_TYPE,
  HISTORY_GET,
  TTS_LINK,
  TTS_AUDIO,
  TTS_AUDIO_STREAM,
} from "./contract.ts";
import type { ChatRequest, Delta, History, HistoryRequest, Kind, Link, Message, Refusal, Speech } from "./contract.ts";
import { Conversation } from "./conversation.ts";
import type { Turn } from "./conversation.ts";
import { Voice, samples } from "./voice.ts";
import type { VoiceEvent } from "./voice.ts";

const QUIET_MS = 3_000; // a look at the streams when nothing came for so long
const GAP_MS = 60; // what overtook the store is there after this long
const CANCEL_MS = 1_000; // a question does not wait longer for the end of what it interrupts
const SKEW_MS = 10_000; // the clocks of a service and of NATS may differ by so much
const LOST_AFTER = 2; // looks that found a turn neither under way nor ended

/** A voice that this page hears, and how far it is known. */
interface Hearing {
  voice: Voice;
  reading: boolean;
  pending: VoiceEvent[]; // what came live meanwhile
  heardAt: number;
}

/** One conversation over NATS: asks, stops, follows words and voices, reads back what was missed. */
export class Talk {
  readonly conversation: Conversation;
  /** Nothing is known yet. */
  loading = true;
  private readonly hearings = new Map<string, Hearing>();
  private readonly looks = new Map<string, number>();
  private readonly ends: (() => void)[] = [];
  private closed = false;
  private kept: Message[] = []; // all of the history that is known, oldest first
  private syncing: Promise<void> | null = null;
  private syncAgain = false;
  private heardAt = Date.now();
  private lastMark = ""; // of the newest message of any voice
  private gapTimer: ReturnType<typeof setTimeout> | null = null;

  constructor(
    id: string,
    private readonly bus: Bus,
    private readonly onChange: () => void,
    /** A voice was read anew from its stream. */
    private readonly onVoice: (turnId: string, voice: Voice) => void,
  ) {
    this.conversation = new Conversation(id);
    this.ends.push(
      bus.subscribe(`${CHAT_DELTA}.${id}`, (msg) => this.onDelta(msg)),
      bus.subscribe(`${TTS_AUDIO}.${id}`, (msg) => this.onAudio(msg)),
    );
    const timer = setInterval(() => this.look(), 1_000);
    this.ends.push(() => clearInterval(timer));
    if (bus.connection === "connected") this.connected();
  }

  close(): void {
    this.closed = true;
    for (const end of this.ends) end();
  }

  /** Anew or again: whatever passed meanwhile is read back. */
  connected(): void {
    void this.sync();
    for (const [turnId, hearing] of this.hearings) {
      if (!hearing.voice.ended) void this.reread(turnId, hearing);
    }
  }

  voice(turnId: string): Voice | undefined {
    return this.hearings.get(turnId)?.voice;
  }

  // ---------------------------------------------------------------- asking

  /** Publishes a question until it is acknowledged; its turn id makes that harmless. */
  async ask(turn: Turn, speech: Speech | false, before: Promise<unknown>): Promise<void> {
    if (speech !== false) this.hear(turn.id);
    await before;
    const request: ChatRequest = {
      conversation_id: this.conversation.id,
      turn_id: turn.id,
      content: turn.question,
      on_busy: "interrupt",
      speech,
    };
    for (let pause = 500; ; pause = Math.min(pause * 2, 5_000)) {
      try {
        const ack = await this.bus.request<{ seq?: number; error?: { description: string } }>(
          CHAT_REQUEST, request, { id: turn.id, ms: 3_000 },
        );
        if (ack.seq !== undefined) break;
        console.warn("talk.not_taken", ack.error?.description);
      } catch (error) {
        console.info("talk.sent_again", String(error));
      }
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
    this.conversation.accepted(turn.id);
    this.heardAt = Date.now();
    this.onChange();
  }

  /** Stops a turn; the history then keeps what was heard of its voice (null: all of its text). */
  async cancel(turnId: string, heardMs: number | null): Promise<void> {
    const heard = heardMs === null ? {} : { heard_ms: heardMs };
    const body = { conversation_id: this.conversation.id, turn_id: turnId, ...heard };
    try {
      await this.bus.request(CHAT_CANCEL, body, { ms: CANCEL_MS });
    } catch (error) {
      console.info("talk.cancel_unconfirmed", String(error));
    }
    void this.sync();
  }

  // ---------------------------------------------------------------- words

  private onDelta(msg: Msg): void {
    this.heardAt = Date.now();
    const event = msg.json<Delta>();
    this.conversation.add(event);
    if (event.type === "done" && event.finish_reason === "cancelled") void this.sync();
    else if (this.conversation.needsHistory) void this.sync();
    if (this.conversation.gap) this.gapTimer ??= setTimeout(() => this.fillGap(), GAP_MS);
    this.onChange();
  }

  private fillGap(): void {
    this.gapTimer = null;
    if (this.conversation.gap) void this.sync();
  }

  /** Reads the history and, of turns that are not over, the events; one look at a time. */
  private sync(): Promise<void> {
    if (this.syncing) {
      this.syncAgain = true;
      return this.syncing;
    }
    this.syncing = this.syncOnce()
      .catch((error: unknown) => console.info("talk.not_read", String(error)))
      .finally(() => {
        this.syncing = null;
        this.heardAt = Date.now();
        if (this.syncAgain && !this.closed) {
          this.syncAgain = false;
          void this.sync();
        }
        this.onChange();
      });
    return this.syncing;
  }

  private async syncOnce(): Promise<void> {
    const { conversation, bus } = this;
    await bus.settle();
    const unknown = conversation.turns.filter((turn) => turn.question === null);
    const found = await this.history();
    conversation.history(found);
    this.loading = false;
    // It is in the history before the first event is published, unless it is never kept.
    for (const turn of unknown) turn.question ??= "";
    const open = conversation.open.filter((turn) => turn.state !== "sending");
    if (!open.length) return;
    const times = open.map((turn) => turn.createdAt ?? conversation.lastKnown);
    const since = times.reduce((a, b) => (a === null || b === null ? null : a < b ? a : b));
    const subject = `${CHAT_DELTA}.${conversation.id}`;
    await bus.readBack(CHAT_DELTAS_STREAM, subject, from(since), (msg) => {
      conversation.add(msg.json<Delta>());
      return !this.closed;
    });
    const known = new Set(found.messages.map((message) => message.turn_id));
    for (const turn of open) {
      if (turn.ended || !known.has(turn.id) || found.turn?.turn_id === turn.id) continue;
      const looks = (this.looks.get(turn.id) ?? 0) + 1;
      this.looks.set(turn.id, looks);
      if (looks >= LOST_AFTER) conversation.lost(turn);
    }
  }

  /** The whole history: the newest page, and older ones as far as they are not known. */
  private async history(): Promise<History> {
    const newest = await this.page({});
    let { messages, before } = newest;
    for (;;) {
      const first = messages[0]?.id;
      const known = this.kept.findIndex((message) => message.id === first);
      if (before && known >= 0) {
        messages = [...this.kept.slice(0, known), ...messages];
        break;
      }
      if (!before || this.closed) break;
      const older = await this.page({ before });
      if (!older.messages.length) break;
      messages = [...older.messages, ...messages];
      before = older.before;
    }
    this.kept = messages;
    return { ...newest, messages };
  }

  private async page(which: HistoryRequest): Promise<History> {
    const subject = `${HISTORY_GET}.${this.conversation.id}`;
    const found = await this.bus.request<History | Refusal>(subject, which);
    if ("error" in found) throw new Error(found.error.message);
    return found;
  }

  /** Where the stored voice of a turn can be had just now; null where there is none. */
  async link(turnId: string): Promise<string | null> {
    try {
      const subject = `${TTS_LINK}.${this.conversation.id}`;
      const found = await this.bus.request<Link | Refusal>(subject, { turn_id: turnId });
      return "error" in found ? null : found.url;
    } catch (error) {
      console.info("talk.no_link", String(error));
      return null;
    }
  }

  /** Now and then: what has been silent for a while may have been missed. */
  private look(): void {
    if (this.bus.connection !== "connected") return;
    const quiet = (since: number): boolean => Date.now() - since > QUIET_MS;
    const open = this.conversation.open.some((turn) => turn.state !== "sending");
    if ((this.loading || open) && quiet(this.heardAt)) void this.sync();
    for (const [turnId, hearing] of this.hearings) {
      if (!hearing.voice.ended && !hearing.reading && quiet(hearing.heardAt)) void this.compare(turnId, hearing);
    }
  }

  // ---------------------------------------------------------------- voices

  /** Follows the voice of a turn from now on. */
  hear(turnId: string): Voice {
    return this.hearing(turnId).voice;
  }

  /** The voice of a turn from its stream, as far as it is there. */
  async recall(turnId: string): Promise<Voice> {
    const hearing = this.hearing(turnId);
    await this.reread(turnId, hearing);
    return hearing.voice;
  }

  private hearing(turnId: string): Hearing {
    let hearing = this.hearings.get(turnId);
    if (!hearing) {
      hearing = { voice: new Voice(), reading: false, pending: [], heardAt: Date.now() };
      this.hearings.set(turnId, hearing);
    }
    return hearing;
  }

  private onAudio(msg: Msg): void {
    this.lastMark = mark(msg);
    const turnId = msg.headers?.get(H_TURN);
    const hearing = turnId && this.hearings.get(turnId);
    if (!hearing) return;
    const event = voiceEvent(msg);
    if (event === null) return;
    hearing.heardAt = Date.now();
    if (hearing.reading) {
      hearing.pending.push(event);
      return;
    }
    hearing.voice.add(event);
    if (hearing.voice.doubt) {
      setTimeout(() => {
        if (hearing.voice.doubt) void this.reread(turnId, hearing);
      }, GAP_MS);
    }
    this.onChange();
  }

  /** Reads a voice again unless the newest message of the stream is the one that came last. */
  private async compare(turnId: string, hearing: Hearing): Promise<void> {
    hearing.heardAt = Date.now();
    try {
      const last = await this.bus.last(TTS_AUDIO_STREAM, `${TTS_AUDIO}.${this.conversation.id}`);
      if (last === null || (mark(last) === this.lastMark && !hearing.voice.doubt)) return;
      await this.reread(turnId, hearing);
    } catch (error) {
      console.info("talk.not_compared", String(error));
    }
  }

  private async reread(turnId: string, hearing: Hearing): Promise<void> {
    if (hearing.reading || this.closed) return;
    hearing.reading = true;
    try {
      const fresh = await this.read(turnId);
      for (const event of hearing.pending) fresh.add(event);
      hearing.voice = fresh;
      this.onVoice(turnId, fresh);
    } catch (error) {
      console.info("talk.voice_not_read", String(error));
      for (const event of hearing.pending) hearing.voice.add(event);
    } finally {
      hearing.reading = false;
      hearing.pending = [];
      hearing.heardAt = Date.now();
      this.onChange();
    }
  }

  private async read(turnId: string): Promise<Voice> {
    const turn = this.conversation.get(turnId);
    const fresh = new Voice();
    const since = turn?.createdAt ?? this.conversation.lastKnown;
    const subject = `${TTS_AUDIO}.${this.conversation.id}`;
    await this.bus.readBack(TTS_AUDIO_STREAM, subject, from(since), (msg) => {
      this.lastMark = mark(msg);
      const event = msg.headers?.get(H_TURN) === turnId ? voiceEvent(msg) : null;
      if (event) fresh.add(event);
      return !fresh.ended && !this.closed;
    });
    return fresh;
  }
}

function from(since: string | null): { seq: number } | { start_time: string } {
  if (since === null) return { seq: 1 };
  return { start_time: new Date(Date.parse(since) - SKEW_MS).toISOString() };
}

/** Two messages of one conversation's voices have the same mark only if they are the same one. */
function mark(msg: Msg): string {
  const of = (name: string): string => msg.headers?.get(name) ?? "";
  const body = of(H_TYPE) === "chunk" ? of(H_SEQ) : msg.string();
  return [of(H_TURN), of(H_TYPE), of(H_ATTEMPT), body].join("|");
}

function voiceEvent(msg: Msg): VoiceEvent | null {
  const of = (name: string): string => msg.headers?.get(name) ?? "";
  const kind = of(H_TYPE) as Kind;
  if (kind === "chunk") {
    const [attempt, seq, piece] = [H_ATTEMPT, H_SEQ, H_PIECE].map((name) => Number(of(name)));
    return { kind, attempt, seq, piece, pcm: samples(msg.data) } as VoiceEvent;
  }
  // What this version does not know is left out.
  if (!["started", "piece", "piece_done", "stored", "failed"].includes(kind)) return null;
  const body = msg.json<{ attempt: number }>();
  return { kind, attempt: body.attempt, body } as VoiceEvent;
}
