import { CHAT_DELTA, H_ATTEMPT, H_PIECE, H_SEQ, H_SEQUENCE, H_TURN, H_TYPE } from "../src/contract.ts";
import type { ReplayRequest } from "../src/contract.ts";
import { unreachable } from "../src/errors.ts";
import type { Incoming, TurnEvent } from "../src/events.ts";
import { isVoice } from "../src/events.ts";
import type { Source } from "../src/reader.ts";

interface Stored extends Incoming {
  what: "delta" | "audio";
  turn: string;
}

/** A NATS of one conversation, without a network: what is said is heard live, kept, or both. */
export class Streams implements Source {
  connected = true;
  replays = 0;
  /** Fails the next replays so often. */
  failing = 0;
  private readonly stored: Stored[] = [];
  private readonly heard = new Map<string, Set<(message: Incoming) => void>>();
  private readonly onConnects = new Set<() => void>();

  say(events: TurnEvent[], how: { live?: boolean; kept?: boolean } = {}): void {
    for (const event of events) {
      const what = isVoice(event) ? "audio" : "delta";
      const message = encoded(event, this.stored.length + 1);
      if (how.kept !== false) this.stored.push({ ...message, what, turn: event.turn_id });
      if (how.live !== false && this.connected) for (const take of this.heard.get(what) ?? []) take(message);
    }
  }

  reconnect(): void {
    this.connected = true;
    for (const tell of this.onConnects) tell();
  }

  get listeners(): number {
    return [...this.heard.values()].reduce((sum, listeners) => sum + listeners.size, this.onConnects.size);
  }

  subscribe(subject: string, take: (message: Incoming) => void): () => void {
    const what = subject.startsWith(CHAT_DELTA) ? "delta" : "audio";
    const listeners = this.heard.get(what) ?? new Set();
    this.heard.set(what, listeners.add(take));
    return () => listeners.delete(take);
  }

  onConnected(listener: () => void): () => void {
    this.onConnects.add(listener);
    return () => this.onConnects.delete(listener);
  }

  async replay(_: string, wanted: ReplayRequest, take: (message: Incoming) => boolean): Promise<boolean> {
    this.replays += 1;
    await Promise.resolve();
    if (this.failing > 0) {
      this.failing -= 1;
      throw unreachable("nobody replays");
    }
    const first = wanted.from ?? 1;
    for (const message of [...this.stored.slice(first - 1)]) {
      if (message.what !== wanted.what || message.turn !== wanted.turn_id) continue;
      if (!take(message)) return false;
    }
    return true;
  }
}

function encoded(event: TurnEvent, sequence: number): Incoming {
  const headers = new Map([[H_TURN, event.turn_id], [H_SEQUENCE, String(sequence)]]);
  let data: Uint8Array;
  if (event.type === "chunk") {
    headers.set(H_TYPE, "chunk").set(H_ATTEMPT, String(event.attempt)).set(H_SEQ, String(event.seq));
    headers.set(H_PIECE, String(event.piece));
    data = new Uint8Array(event.pcm.slice().buffer);
  } else {
    if (isVoice(event)) headers.set(H_TYPE, event.type.replace("audio_", ""));
    const { type, ...body } = event;
    data = new TextEncoder().encode(JSON.stringify(isVoice(event) ? body : { type, ...body }));
  }
  return { data, headers: { get: (name) => headers.get(name) ?? "" } };
}
