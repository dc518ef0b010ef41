// Generated from shared/contract.py by clients/typescript/contract.py (`make web`): do not edit.

export const CHAT_REQUEST = "chat.request";
export const CHAT_CANCEL = "chat.cancel";
export const CHAT_DELTA = "chat.delta";
export const TTS_REQUEST = "tts.request";
export const TTS_AUDIO = "tts.audio";
export const HISTORY_GET = "chat.history.get";
export const HISTORY_DELETE = "chat.history.delete";
export const CHAT_ASK = "chat.ask";
export const CHAT_REPLAY = "chat.replay";
export const TTS_LINK = "tts.link";
export const TTS_ERASE = "tts.erase";
export const CHAT_DEAD = "chat.dead";
export const TTS_DEAD = "tts.dead";
export const CHAT_REQUESTS_STREAM = "CHAT_REQUESTS";
export const CHAT_DELTAS_STREAM = "CHAT_DELTAS";
export const TTS_REQUESTS_STREAM = "TTS_REQUESTS";
export const TTS_AUDIO_STREAM = "TTS_AUDIO";
export const DEAD_LETTERS_STREAM = "DEAD_LETTERS";
export const CONVERSATIONS_BUCKET = "conversations";
export const SPEECH_BUCKET = "speech";
export const CHAT_INTAKE = "chat-intake";
export const CHAT_WORKERS = "chat-workers";
export const TTS_WORKERS = "tts-workers";
export const MSG_ID = "Nats-Msg-Id";
export const TRACEPARENT = "traceparent";
export const H_CONVERSATION = "Parley-Conversation";
export const H_TURN = "Parley-Turn";
export const H_WARNINGS = "Parley-Warnings";
export const H_ASKED_AT = "Parley-Asked-At";
export const H_ATTEMPT = "Parley-Attempt";
export const H_SEQ = "Parley-Seq";
export const H_PIECE = "Parley-Piece";
export const H_TYPE = "Parley-Type";
export const H_SEQUENCE = "Parley-Sequence";
export const H_NEXT = "Parley-Next";
export const H_ERROR_CODE = "Parley-Error-Code";
export const H_ERROR = "Parley-Error";
export const H_SUBJECT = "Parley-Subject";
export const H_DELIVERIES = "Parley-Deliveries";
export const H_FAILED_AT = "Parley-Failed-At";
export const H_ORIGINAL_BYTES = "Parley-Original-Bytes";
export const SAMPLE_RATE = 24000;
export const SAMPLE_WIDTH = 2;
export const PCM_CONTENT_TYPE = "audio/pcm;rate=24000;channels=1;encoding=s16le";
export const ID_RULE = "1 to 64 letters (A to Z, a to z), digits, _ and -";
export const ID_PATTERN = "^[A-Za-z0-9_-]{1,64}$";
export const NO_SLASH = "^[^/]{0,200}$";
export const NO_SLASH_RULE = "text of at most 200 characters without a /";
export const MAX_WHOLE = 9007199254740991;
export const MIN_PARTIAL_LENGTH = 20;
export const MAX_PARTIAL_LENGTH = 10000;

/** Who speaks. */
export type Role =
  | "system"
  | "user"
  | "assistant";

/** What a request does with the conversation's history. */
export type HistoryMode =
  | "append"
  | "replace"
  | "none";

/** What happens while a turn of the conversation is under way. */
export type OnBusy =
  | "queue"
  | "interrupt"
  | "reject";

/** What the stored object is; live audio is always PCM. */
export type AudioFormat =
  | "wav"
  | "flac"
  | "mp3"
  | "opus"
  | "aac"
  | "pcm";

/** Whether the voice tells when each word is heard. */
export type Alignment =
  | "none"
  | "word";

/** Why the assistant's text ended. */
export type FinishReason =
  | "stop"
  | "length"
  | "cancelled";

/** Why the voice of a turn ended. */
export type Finish =
  | "complete"
  | "cancelled"
  | "truncated";

/** Whether all of a message was said. */
export type Status =
  | "complete"
  | "interrupted";

/** Why something could not be done. Stable: users branch on these (shared/errors.py). */
export type Code =
  | "invalid_request"
  | "too_large"
  | "busy"
  | "not_found"
  | "provider_auth"
  | "provider_rate_limited"
  | "provider_overloaded"
  | "provider_refused"
  | "provider_stalled"
  | "provider_broken"
  | "storage_unavailable"
  | "deadline_exceeded"
  | "internal";

/** Of what a replay is wanted. */
export type Replayed =
  | "delta"
  | "audio";

/** The values of `Parley-Type`. */
export type Kind =
  | "started"
  | "piece"
  | "chunk"
  | "piece_done"
  | "stored"
  | "failed";

/** What has become of a turn that was asked for. */
export type AskState =
  | "queued"
  | "running"
  | "ended";

/** One message of what the model is shown. */
export interface PromptMessage {
  role: Role;
  content: string;
}

/** How a turn is spoken; what is absent is the speech worker's default. */
export interface Speech {
  voice?: string | null;
  model?: string | null;
  language?: string | null;
  /** 1 is the voice's own. */
  speed?: number | null;
  format?: AudioFormat | null;
  alignment?: Alignment | null;
  /** From what is written to what is spoken. */
  pronunciations?: Record<string, string> | null;
  /** Characters that the provider may hold back at most. */
  max_partial_length?: number | null;
}

/** `chat.request` and `chat.request.<c>`: `content` or `messages`, the rest is optional. */
export interface ChatRequest {
  /** A new conversation where it is absent. */
  conversation_id?: string | null;
  /** The idempotency key: the same is never answered twice. Default: the `Nats-Msg-Id`, else of the stream's sequence. */
  turn_id?: string | null;
  /** What the user says; or `messages`. */
  content?: string | null;
  /** Appended to the history; the last one is the user's. */
  messages?: PromptMessage[] | null;
  /** `append` adds to what is kept, `replace` starts the conversation over with `messages`, `none` answers exactly `messages` and keeps nothing. */
  history?: HistoryMode;
  /** The system prompt, which stays with the conversation; "" is none. */
  system?: string | null;
  model?: string | null;
  temperature?: number | null;
  top_p?: number | null;
  max_tokens?: number | null;
  stop?: string[] | null;
  seed?: number | null;
  reasoning_effort?: string | null;
  /** What happens while a turn of this conversation is under way. */
  on_busy?: OnBusy;
  /** With `interrupt`: how much was heard of the voice that it stops. */
  heard_ms?: number | null;
  /** How it is spoken; false for text only; never true. */
  speech?: Speech | false | null;
  /** What the asker gave, to be told again with the events. */
  metadata?: Record<string, string>;
}

/**
 * `chat.cancel`, and `chat.cancel.<c>` where the conversation need not be said again.
 *
 * Without `turn_id` the turn whose text or voice is under way; nothing where none is.
 */
export interface CancelRequest {
  /** Not needed where the subject names it. */
  conversation_id?: string;
  turn_id?: string | null;
  /** How much of the voice was heard: the history then keeps that much. */
  heard_ms?: number | null;
}

/** `tts.request.<c>`: speak `text`, or follow the turn's deltas from `start_sequence` on. */
export interface SpeechRequest {
  conversation_id?: string | null;
  turn_id?: string | null;
  speech?: Speech;
  /** What is spoken; without it the deltas of the turn are. */
  text?: string | null;
  /** Where the turn begins in the stream of deltas. */
  start_sequence?: number;
}

/** `chat.history.get`; `before` is what the page that is newer said. */
export interface HistoryRequest {
  /** Not needed where the subject names it. */
  conversation_id?: string;
  /** Messages; more than 1,000 are 1,000. */
  limit?: number;
  before?: string | null;
}

/** `chat.history.delete`. */
export interface DeleteRequest {
  /** Not needed where the subject names it. */
  conversation_id?: string;
}

/** `chat.replay.<c>`: the events of the conversation, or of one turn, from a sequence on. */
export interface ReplayRequest {
  what: Replayed;
  /** The stream's sequence to begin at. */
  from?: number;
  turn_id?: string | null;
}

/** `tts.link.<c>`. */
export interface LinkRequest {
  turn_id: string;
}

/** Why something could not be done. */
export interface Error {
  code: Code;
  /** For people; programs branch on `code`. */
  message: string;
  /** Whether the same may succeed later. */
  retryable: boolean;
}

/** Summed over the attempts of a turn; null where the provider told none. */
export interface Usage {
  prompt_tokens: number | null;
  completion_tokens: number | null;
}

/** Opens an attempt: forget what earlier attempts of this turn said. */
export interface Started {
  type: "started";
  /** Whose conversation it is. */
  conversation_id: string;
  /** The turn that it belongs to. */
  turn_id: string;
  /** 1, 2 …: a higher one takes back what lower ones told; ignore those. */
  attempt: number;
  /** 0, 1, 2 … within an attempt, no gap and no repeat. */
  seq: number;
  model: string;
  /** What the asker gave, to be told again with the events. */
  metadata: Record<string, string>;
  /** False where the turn has no voice. */
  speech: Speech | false;
  /** When, RFC 3339 in UTC. */
  created_at: string;
  /** Fields of the request that nothing knows, by path, with the nearest name. */
  warnings?: string[];
}

/** What the assistant says next; all of an attempt, joined, are `done.text`. */
export interface Text {
  type: "text";
  /** Whose conversation it is. */
  conversation_id: string;
  /** The turn that it belongs to. */
  turn_id: string;
  /** 1, 2 …: a higher one takes back what lower ones told; ignore those. */
  attempt: number;
  /** 0, 1, 2 … within an attempt, no gap and no repeat. */
  seq: number;
  text: string;
}

/** What the model thinks: never spoken, no part of `done.text`. */
export interface Reasoning {
  type: "reasoning";
  /** Whose conversation it is. */
  conversation_id: string;
  /** The turn that it belongs to. */
  turn_id: string;
  /** 1, 2 …: a higher one takes back what lower ones told; ignore those. */
  attempt: number;
  /** 0, 1, 2 … within an attempt, no gap and no repeat. */
  seq: number;
  text: string;
}

/** Ends the text of a turn; nothing follows it. */
export interface Done {
  type: "done";
  /** Whose conversation it is. */
  conversation_id: string;
  /** The turn that it belongs to. */
  turn_id: string;
  /** 1, 2 …: a higher one takes back what lower ones told; ignore those. */
  attempt: number;
  /** 0, 1, 2 … within an attempt, no gap and no repeat. */
  seq: number;
  finish_reason: FinishReason;
  /** All of it. */
  text: string;
  usage: Usage;
  /** Like `duration_ms` from the request's time in the stream. */
  first_token_ms: number | null;
  duration_ms: number;
  /** What the asker gave, to be told again with the events. */
  metadata: Record<string, string>;
  /** US dollars by the list of prices; null where it has none. */
  cost_usd?: number | null;
}

/** Ends a turn that could not be done; nothing follows it. */
export interface Failed {
  type: "failed";
  /** Whose conversation it is. */
  conversation_id: string;
  /** The turn that it belongs to. */
  turn_id: string;
  /** 1, 2 …: a higher one takes back what lower ones told; ignore those. */
  attempt: number;
  /** 0, 1, 2 … within an attempt, no gap and no repeat. */
  seq: number;
  error: Error;
}

/** Opens an attempt: drop what you hold of pieces without `piece_done`. */
export interface AudioStarted {
  /** Whose conversation it is. */
  conversation_id: string;
  /** The turn that it belongs to. */
  turn_id: string;
  /** 1, 2 …: a higher one takes back what lower ones told; ignore those. */
  attempt: number;
  model: string;
  voice: string;
  encoding?: "pcm_s16le";
  /** Samples a second. */
  sample_rate?: number;
  channels?: number;
  /** Fields of the request that nothing knows, by path, with the nearest name. */
  warnings?: string[];
}

/** What is about to be heard; `chars` is its range [start, end) in the turn's text. */
export interface Piece {
  /** Whose conversation it is. */
  conversation_id: string;
  /** The turn that it belongs to. */
  turn_id: string;
  /** 1, 2 …: a higher one takes back what lower ones told; ignore those. */
  attempt: number;
  /** 0, 1, 2 … within the turn. */
  index: number;
  text: string;
  chars: [number, number];
}

/** When a word is heard, from the start of the turn's voice. */
export interface Word {
  text: string;
  start_ms: number;
  end_ms: number;
}

/** All of a piece was published; it is never spoken again. */
export interface PieceDone {
  /** Whose conversation it is. */
  conversation_id: string;
  /** The turn that it belongs to. */
  turn_id: string;
  /** 1, 2 …: a higher one takes back what lower ones told; ignore those. */
  attempt: number;
  index: number;
  /** 0 where the provider never voiced it. */
  samples: number;
  /** When `alignment` was `word`. */
  words?: Word[];
}

/** The voice is whole and kept; `key` is null where nothing was spoken. */
export interface Stored {
  /** Whose conversation it is. */
  conversation_id: string;
  /** The turn that it belongs to. */
  turn_id: string;
  /** 1, 2 …: a higher one takes back what lower ones told; ignore those. */
  attempt: number;
  bucket: string;
  key: string | null;
  /** A presigned GET; `tts.link.<c>` signs it anew. */
  url: string | null;
  content_type: string;
  /** Of the object, like `sha256`. */
  bytes: number;
  sha256: string;
  duration_ms: number;
  /** The pieces and words as WebVTT. */
  captions_key: string | null;
  pieces: number;
  /** That were spoken. */
  characters: number;
  finish: Finish;
  /** US dollars by the list of prices; null where it has none. */
  cost_usd?: number | null;
  /** A presigned GET. */
  captions_url?: string | null;
}

/** Ends a voice that could not be done; nothing follows it. */
export interface AudioFailed {
  /** Whose conversation it is. */
  conversation_id: string;
  /** The turn that it belongs to. */
  turn_id: string;
  /** 1, 2 …: a higher one takes back what lower ones told; ignore those. */
  attempt: number;
  error: Error;
}

/** One message of a conversation, as it is kept. */
export interface Message {
  id: string;
  role: Role;
  content: string;
  /** The turn that it belongs to. */
  turn_id: string;
  /** When, RFC 3339 in UTC. */
  created_at: string;
  status?: Status;
}

/** `seq` is the last event that `text` contains: a page shows it and goes on from there. */
export interface TurnUnderWay {
  turn_id: string;
  attempt: number;
  text: string;
  seq: number;
}

/**
 * A page, oldest first. `before` asks for the next older one, null at the beginning; `turn`
 * comes with the newest page only.
 */
export interface History {
  conversation_id: string;
  messages: Message[];
  turn: TurnUnderWay | null;
  before?: string | null;
}

/** The answer of `chat.history.delete`: the conversation is erased everywhere. */
export interface Deleted {
  conversation_id: string;
  deleted?: boolean;
}

/** The answer of `chat.ask.<c>` once the stream has the request. */
export interface Asked {
  conversation_id: string;
  turn_id: string;
  state: AskState;
}

/** The answer of `tts.link.<c>`: a stored voice, signed until `expires_at` (RFC 3339). */
export interface Link {
  url: string;
  captions_url: string | null;
  content_type: string;
  bytes: number;
  duration_ms: number;
  expires_at: string;
}

/** The answer to a bad request with a reply subject. */
export interface Refusal {
  error: Error;
}

export type Delta = Started | Text | Reasoning | Done | Failed;
