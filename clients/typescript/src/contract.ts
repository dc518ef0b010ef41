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

export type Role =
  | "system"
  | "user"
  | "assistant";

export type HistoryMode =
  | "append"
  | "replace"
  | "none";

export type OnBusy =
  | "queue"
  | "interrupt"
  | "reject";

export type AudioFormat =
  | "wav"
  | "flac"
  | "mp3"
  | "opus"
  | "aac"
  | "pcm";

export type Alignment =
  | "none"
  | "word";

export type FinishReason =
  | "stop"
  | "length"
  | "cancelled";

export type Finish =
  | "complete"
  | "cancelled"
  | "truncated";

export type Status =
  | "complete"
  | "interrupted";

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

export type Replayed =
  | "delta"
  | "audio";

export type Kind =
  | "started"
  | "piece"
  | "chunk"
  | "piece_done"
  | "stored"
  | "failed";

export type AskState =
  | "queued"
  | "running"
  | "ended";

export interface PromptMessage {
  role: Role;
  content: string;
}

export interface Speech {
  voice?: string | null;
  model?: string | null;
  language?: string | null;
  speed?: number | null;
  format?: AudioFormat | null;
  alignment?: Alignment | null;
  pronunciations?: Record<string, string> | null;
  max_partial_length?: number | null;
}

export interface ChatRequest {
  conversation_id?: string | null;
  turn_id?: string | null;
  content?: string | null;
  messages?: PromptMessage[] | null;
  history?: HistoryMode;
  system?: string | null;
  model?: string | null;
  temperature?: number | null;
  top_p?: number | null;
  max_tokens?: number | null;
  stop?: string[] | null;
  seed?: number | null;
  reasoning_effort?: string | null;
  on_busy?: OnBusy;
  heard_ms?: number | null;
  speech?: Speech | boolean | null;
  metadata?: Record<string, string>;
}

export interface CancelRequest {
  conversation_id?: string;
  turn_id?: string | null;
  heard_ms?: number | null;
}

export interface SpeechRequest {
  conversation_id?: string | null;
  turn_id?: string | null;
  speech?: Speech;
  text?: string | null;
  start_sequence?: number;
}

export interface HistoryRequest {
  conversation_id?: string;
  limit?: number;
  before?: string | null;
}

export interface DeleteRequest {
  conversation_id?: string;
}

export interface ReplayRequest {
  what: Replayed;
  from?: number;
  turn_id?: string | null;
}

export interface LinkRequest {
  turn_id: string;
}

export interface Error {
  code: Code;
  message: string;
  retryable: boolean;
}

export interface Usage {
  prompt_tokens: number | null;
  completion_tokens: number | null;
}

export interface Started {
  type: "started";
  conversation_id: string;
  turn_id: string;
  attempt: number;
  seq: number;
  model: string;
  metadata: Record<string, string>;
  speech: Speech | boolean;
  created_at: string;
  warnings?: string[];
}

export interface Text {
  type: "text";
  conversation_id: string;
  turn_id: string;
  attempt: number;
  seq: number;
  text: string;
}

export interface Reasoning {
  type: "reasoning";
  conversation_id: string;
  turn_id: string;
  attempt: number;
  seq: number;
  text: string;
}

export interface Done {
  type: "done";
  conversation_id: string;
  turn_id: string;
  attempt: number;
  seq: number;
  finish_reason: FinishReason;
  text: string;
  usage: Usage;
  first_token_ms: number | null;
  duration_ms: number;
  metadata: Record<string, string>;
  cost_usd?: number | null;
}

export interface Failed {
  type: "failed";
  conversation_id: string;
  turn_id: string;
  attempt: number;
  seq: number;
  error: Error;
}

export interface AudioStarted {
  conversation_id: string;
  turn_id: string;
  attempt: number;
  model: string;
  voice: string;
  encoding?: "pcm_s16le";
  sample_rate?: number;
  channels?: number;
  warnings?: string[];
}

export interface Piece {
  conversation_id: string;
  turn_id: string;
  attempt: number;
  index: number;
  text: string;
  chars: [number, number];
}

export interface Word {
  text: string;
  start_ms: number;
  end_ms: number;
}

export interface PieceDone {
  conversation_id: string;
  turn_id: string;
  attempt: number;
  index: number;
  samples: number;
  words?: Word[];
}

export interface Stored {
  conversation_id: string;
  turn_id: string;
  attempt: number;
  bucket: string;
  key: string | null;
  url: string | null;
  content_type: string;
  bytes: number;
  sha256: string;
  duration_ms: number;
  captions_key: string | null;
  pieces: number;
  characters: number;
  finish: Finish;
  cost_usd?: number | null;
  captions_url?: string | null;
}

export interface AudioFailed {
  conversation_id: string;
  turn_id: string;
  attempt: number;
  error: Error;
}

export interface Message {
  id: string;
  role: Role;
  content: string;
  turn_id: string;
  created_at: string;
  status?: Status;
}

export interface TurnUnderWay {
  turn_id: string;
  attempt: number;
  text: string;
  seq: number;
}

export interface History {
  conversation_id: string;
  messages: Message[];
  turn: TurnUnderWay | null;
  before?: string | null;
}

export interface Deleted {
  conversation_id: string;
  deleted?: boolean;
}

export interface Asked {
  conversation_id: string;
  turn_id: string;
  state: AskState;
}

export interface Link {
  url: string;
  captions_url: string | null;
  content_type: string;
  bytes: number;
  duration_ms: number;
  expires_at: string;
}

export interface Refusal {
  error: Error;
}

export type Delta = Started | Text | Reasoning | Done | Failed;
