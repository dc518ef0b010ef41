import type { Msg } from "@nats-io/nats-core";

import type { Bus } from "./bus.ts";
import {
  CHAT_ASK,
  CHAT_CANCEL,
  CHAT_DELTA,
  H_ATTEMPT,
  H_PIECE,
  H_SEQ,
  H_SEQUENCE,
  H_TURN,
  H_TYPE,
  HISTORY_GET,
  TTS_LINK,
  TTS_AUDIO,
} from "./contract.ts";
import type { Asked, ChatRequest, Delta, History, HistoryRequest, Kind, Link, Message, Refusal, Speech } from "./contract.ts";
import { Conversation } from "./conversation.ts";
import type { Turn } from "./conversation.ts";
import { Voice, samples } from "./voice.ts";
import type { VoiceEvent } from "./voice.ts";

const QUIET_MS = 3_000; // a look at what is kept when nothing came for so long
const GAP_MS = 60; // what overtook the store is there after this long
const CANCEL_MS = 1_000; // a question does not wait longer for the end of what it interrupts
const ASK_MS = 5_000; // then it is asked again
const LOST_AFTER = 2; // looks that found a turn neither under way nor ended

/** A voice that this page hears, and how far it is known. */
interface Hearing {
  voice: Voice;
  reading: boolean;
  pending: VoiceEvent[]; // what came live meanwhile
  heardAt: number;
  sequence: number; // in the stream, of the newest event that was read back
  mark: string; // of the newest event
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

  /** Asks until there is an answer; the turn's id makes that harmless. */
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
        const subject = `${CHAT_ASK}.${this.conversation.id}`;
        const found = await this.bus.request<Asked | Refusal>(subject, request, { id: turn.id, ms: ASK_MS });
        if (!("error" in found)) break;
        console.warn("talk.not_taken", found.error.message);
        // To ask again at once would not help.
        if (!found.error.retryable || found.error.code === "busy") return this.refused(turn, found);
      } catch (error) {
        console.info("talk.sent_again", String(error));
      }
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
    this.conversation.accepted(turn.id);
    this.heardAt = Date.now();
    this.onChange();
  }

  private refused({ id }: Turn, { error }: Refusal): void {
    this.conversation.add({
      type: "failed", conversation_id: this.conversation.id, turn_id: id, attempt: 1, seq: 0, error,
    });
    this.onChange();
  }

  /** Stops a turn; the history then keeps what was heard of its voice (null: all of its text). */
  async cancel(turnId: string, heardMs: number | null): Promise<void> {
    const heard = heardMs === null ? {} : { heard_ms: heardMs };
    const body = { conversation_id: this.conversation.id, turn_id: turnId, ...heard };
    try {
      await this.bus.request(`${CHAT_CANCEL}.${this.conversation.id}`, body, { ms: CANCEL_MS });
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
    for (const turn of open) {
      await bus.replay({ what: "delta", turn_id: turn.id }, (msg) => {
        conversation.add(msg.json<Delta>());
        return !this.closed;
      });
    }
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
      hearing = { voice: new Voice(), reading: false, pending: [], heardAt: Date.now(), sequence: 0, mark: "" };
      this.hearings.set(turnId, hearing);
    }
    return hearing;
  }

  private onAudio(msg: Msg): void {
    const turnId = msg.headers?.get(H_TURN);
    const hearing = turnId && this.hearings.get(turnId);
    if (!hearing) return;
    const event = voiceEvent(msg);
    if (event === null) return;
    hearing.heardAt = Date.now();
    hearing.mark = mark(msg);
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

  /** Reads a voice again unless the newest event that is kept of it is the one that came last. */
  private async compare(turnId: string, hearing: Hearing): Promise<void> {
    hearing.heardAt = Date.now();
    try {
      let newest = hearing.mark;
      await this.bus.replay({ what: "audio", turn_id: turnId, from: hearing.sequence + 1 }, (msg) => {
        newest = mark(msg);
        hearing.sequence = sequence(msg);
        return !this.closed;
      });
      if (newest !== hearing.mark || hearing.voice.doubt) await this.reread(turnId, hearing);
    } catch (error) {
      console.info("talk.not_compared", String(error));
    }
  }

  private async reread(turnId: string, hearing: Hearing): Promise<void> {
    if (hearing.reading || this.closed) return;
    hearing.reading = true;
    try {
      const fresh = await this.read(turnId, hearing);
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

  private async read(turnId: string, hearing: Hearing): Promise<Voice> {
    const fresh = new Voice();
    await this.bus.replay({ what: "audio", turn_id: turnId }, (msg) => {
      hearing.mark = mark(msg);
      hearing.sequence = sequence(msg);
      const event = voiceEvent(msg);
      if (event) fresh.add(event);
      return !fresh.ended && !this.closed;
    });
    return fresh;
  }
}

function sequence(msg: Msg): number {
  return Number(msg.headers?.get(H_SEQUENCE));
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
