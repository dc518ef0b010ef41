import { H_ATTEMPT, H_PIECE, H_SEQ, H_TURN, H_TYPE } from "./contract.ts";
import type { AudioFailed, AudioStarted, Delta, Kind, Piece, PieceDone, Stored } from "./contract.ts";

/** A message as it comes from NATS. */
export interface Incoming {
  readonly data: Uint8Array;
  readonly headers?: { get(name: string): string } | undefined;
}

/** Of the text; fields as on the wire. */
export type TextEvent = Delta;

/** Samples of a piece: 24,000 a second, mono, 16 bits. */
export interface Chunk {
  readonly type: "chunk";
  readonly turn_id: string;
  readonly attempt: number;
  /** 0, 1, 2 … within an attempt. */
  readonly seq: number;
  /** The index of its piece. */
  readonly piece: number;
  readonly pcm: Int16Array;
}

/** Of the voice; fields as on the wire, `type` is what stands in `Parley-Type`. */
export type VoiceEvent =
  | ({ readonly type: "audio_started" } & AudioStarted)
  | ({ readonly type: "piece" } & Piece)
  | Chunk
  | ({ readonly type: "piece_done" } & PieceDone)
  | ({ readonly type: "stored" } & Stored)
  | ({ readonly type: "audio_failed" } & AudioFailed);

/**
 * What a turn says. A `started` with a higher `attempt` than before takes back all text; a
 * `audio_started` with a higher one takes back the pieces without `piece_done`.
 */
export type TurnEvent = TextEvent | VoiceEvent;

const TEXT_TYPES: ReadonlySet<string> = new Set<TextEvent["type"]>(["started", "text", "reasoning", "done", "failed"]);
/** The text's events have types called `started` and `failed`, too. */
const VOICE_TYPES: Partial<Record<Kind, VoiceEvent["type"]>> = {
  started: "audio_started",
  piece: "piece",
  piece_done: "piece_done",
  stored: "stored",
  failed: "audio_failed",
};
const VOICES: ReadonlySet<string> = new Set<VoiceEvent["type"]>([
  "audio_started", "piece", "chunk", "piece_done", "stored", "audio_failed",
]);
const decoder = new TextDecoder();

/** True for events of the voice, false for those of the words. */
export function isVoice(event: TurnEvent): event is VoiceEvent {
  return VOICES.has(event.type);
}

/** What has a place in the text's order and says nothing to this version. */
export interface Later {
  readonly type: "later";
  readonly turn_id: string;
  readonly attempt: number;
  readonly seq: number;
}

/** An event of `chat.delta.<c>`; null for what is none. */
export function textEvent(message: Incoming): TextEvent | Later | null {
  const event = json<TextEvent>(message);
  if (typeof event?.turn_id !== "string" || typeof event.attempt !== "number" || typeof event.seq !== "number") {
    return null;
  }
  return TEXT_TYPES.has(event.type) ? event : { ...pick(event), type: "later" };
}

function pick({ turn_id, attempt, seq }: TextEvent) {
  return { turn_id, attempt, seq };
}

/** An event of `tts.audio.<c>`; null for what is none, or is of a later version. */
export function voiceEvent(message: Incoming): VoiceEvent | null {
  const header = (name: string): string => message.headers?.get(name) ?? "";
  const kind = header(H_TYPE);
  if (kind === "chunk") {
    const [attempt, seq, piece] = [H_ATTEMPT, H_SEQ, H_PIECE].map((name) => Number(header(name))) as [number, number, number];
    return { type: "chunk", turn_id: header(H_TURN), attempt, seq, piece, pcm: samples(message.data) };
  }
  const type = VOICE_TYPES[kind as Kind];
  const body = type && json<{ turn_id: string; attempt: number }>(message);
  if (!body || typeof body.attempt !== "number") return null;
  return { ...body, type } as VoiceEvent;
}

/** Whose event it is, without reading all of it; null where only its body says. */
export function turnOf(message: Incoming): string | null {
  return message.headers?.get(H_TURN) || null;
}

/** Null for bytes that are no JSON object. */
function json<T extends object>(message: Incoming): T | null {
  try {
    const value: unknown = JSON.parse(decoder.decode(message.data));
    return typeof value === "object" ? (value as T | null) : null;
  } catch {
    return null;
  }
}

/** Little-endian, whatever the machine is; a copy, for the bytes of a message are not aligned. */
export function samples(bytes: Uint8Array): Int16Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const found = new Int16Array(bytes.byteLength >> 1);
  for (let at = 0; at < found.length; at += 1) found[at] = view.getInt16(at * 2, true);
  return found;
}
